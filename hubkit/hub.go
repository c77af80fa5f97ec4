package hubkit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// Hub holds this instance's connections of one hub, and reaches those of all instances. All methods may be called
// concurrently.
//
// Its goroutines: a writer for each connection to which something is being written, one for each connection that is
// being closed, one each that gathers gaps, spreads their telling and calls the hook while there are any, one each that ends
// memberships of users and reads them again while there is something to do, one for an invocation whose asker
// gave up, for as long as its home is told, and one for Close. With Options.Resume there is one that hands out tokens, and one that
// announces sessions while there are any to announce. All are counted in running. Questions of other instances run on
// goroutines of the node; Close waits for them in calls.
type Hub struct {
	// Immutable.
	name    string
	opts    *Options // a pointer: who prints what holds a Hub must not print keys
	log     *slog.Logger
	bp      backplane.Backplane
	batcher batchPublisher    // nil if bp cannot
	cluster backplane.Cluster // nil if bp has none
	store   backplane.Store   // nil without Options.UserGroups
	// The broker refused what UserGroups needs of the store, see watchStore.
	storeRefused atomic.Bool
	// Where ended sessions are recorded; nil without Options.Resume, and where there is none.
	resumeStore backplane.Store
	storeless   atomic.Bool // the broker has no store, although the backplane could use one
	scope       scope       // of the resume tokens
	made        time.Time   // by New
	home        backplane.NodeID
	origin      origin

	// What is sent to all, and to connections that have their home here. Subscribed from the first connection on.
	all, inbox *topic

	groups, users topics
	connections   registry
	flushing      registry // those that have left everything and are only written out, see retire

	once       onceTable
	sendNumber atomic.Uint64
	gaps       gapCollector
	hook       gapHook
	teller     teller
	grants     grantTable
	batches    batches
	deadlines  deadlines
	stats      counters
	drain      drainState

	// Without Options.Resume these are idle.
	sessions  sessionTable
	announcer announcer
	handout   handout

	// What is asked of other instances, and by them.
	issued      issued // operations of this hub
	orders      orders // those of others, and of this one, that are applied here
	stopAnswers func()

	// Life and death.
	ctx       context.Context //nolint:containedctx // ends with the last goroutine, or when Close gives up waiting
	stop      context.CancelFunc
	closing   context.Context //nolint:containedctx // ends when Close begins
	close     context.CancelFunc
	gate      sync.RWMutex   // held for writing by Close and Drain while they begin
	running   sync.WaitGroup // connections and goroutines; added to only behind the gate
	calls     sync.WaitGroup // calls of the Hub under way; added to only behind the gate
	closeOnce sync.Once
	closed    chan struct{}
	stopState func()
}

// New makes the hub of a name on this instance, over any backplane; what it can do beyond the three verbs of
// [backplane.Backplane] is found by type assertion: a node's id and questions to others ([backplane.Cluster]), health
// ([backplane.HealthReporter]), and publishing in batches. New performs no I/O, unless [Options.UserGroups] is set: then it asks the
// store whether it serves, for a second at most. The hub subscribes to its node's inbox and to what is sent to all with its first
// connection, and stays so until Close. An instance that only sends and asks subscribes to nothing.
//
// Make one Hub of a name on each node. The backplane stays the caller's: close the hub first. The error wraps
// ErrInvalidOption; beside it ErrUnsupported where UserGroups is set and the backplane or its broker has no store, ErrDenied where
// the broker does not permit what that needs.
func New(bp backplane.Backplane, o Options) (*Hub, error) {
	checked, err := o.checked()
	if err == nil && bp == nil {
		err = fmt.Errorf("%w: the backplane is nil; pass an open *backplane.Node", backplane.ErrInvalidOption)
	}
	if err != nil {
		return nil, &Error{Op: "new", Hub: o.Name, Err: err}
	}
	h := &Hub{name: o.Name, opts: &checked, log: checked.Logger, bp: bp, closed: make(chan struct{}), stopState: func() {}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.closing, h.close = context.WithCancel(h.ctx)
	h.batcher, _ = bp.(batchPublisher)
	_, _ = rand.Read(h.origin[:]) // never fails: see crypto/rand
	if cluster, ok := bp.(backplane.Cluster); ok {
		h.cluster, h.home = cluster, cluster.ID()
	} else {
		h.home = backplane.NodeID(hex.EncodeToString(h.origin[:]))
	}
	seed := maphash.MakeSeed()
	h.connections.seed, h.flushing.seed = seed, seed
	h.groups.hub, h.groups.seed = h, seed
	h.groups.address = func(name string) backplane.Address { return backplane.Group(name).In(h.name) }
	h.users.hub, h.users.seed = h, seed
	h.users.address = func(id string) backplane.Address { return backplane.User(id).In(h.name) }
	h.all = &topic{hub: h, addr: backplane.All().In(h.name)}
	h.inbox = &topic{hub: h, addr: backplane.Inbox(h.home).In(h.name)}
	h.deadlines.timeout, h.deadlines.parent = checked.WriteTimeout, h.ctx
	h.gaps.hub, h.hook.hub, h.teller.hub = h, h, h
	h.grants.init(h)
	h.sessions.init(h)
	h.announcer.init(h)
	h.scope, h.made = scopeOf(bp, h.name), time.Now()
	h.handout.hub, h.handout.wake = h, make(chan struct{}, 1)
	served, err := h.useStore()
	if err != nil {
		h.close()
		h.stop()
		return nil, h.fail("new", err)
	}
	if health, ok := bp.(backplane.HealthReporter); ok && (checked.OnState != nil || h.store != nil) {
		h.stopState = health.OnHealth(onChange(h.onState()))
	}
	if !served {
		h.spawn(h.watchStore)
	}
	h.stopAnswers = h.serveQuestions()
	if checked.Resume.on() {
		h.spawn(h.handout.run)
	}
	return h, nil
}

// onChange passes on what changes the state.
func onChange(f func(backplane.Health)) func(backplane.Health) {
	var last backplane.State
	return func(health backplane.Health) {
		if health.State != last {
			last = health.State
			f(health)
		}
	}
}

// onState returns what acts on the backplane's state, at first and when it changes.
func (h *Hub) onState() func(backplane.Health) {
	first := true
	return func(health backplane.Health) {
		if !first && health.State == backplane.Up {
			h.grants.missed() // the link that carries questions may be another one than those whose gaps the hub hears
		}
		first = false
		if h.opts.OnState != nil {
			h.opts.OnState(health)
		}
	}
}

// Format implements [fmt.Formatter]: whatever the verb, a hub shows its name, and neither its keys nor its clients.
func (h *Hub) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "Hub("+h.name+")") }

// Name returns the hub's name.
func (h *Hub) Name() string { return h.name }

// Connect takes a client's socket into the hub. When it returns nil, every send that starts afterwards, on any instance,
// to all or to the user is delivered. It waits for the broker until the context ends, where this instance's first
// connection or the user's first connection here has to subscribe; with [Options.UserGroups] the user's groups are read, and the
// connection is in them. The context limits this call, not the connection. On
// error nothing is left behind, and neither Write nor Close of conn has been or will be called; closing it is the caller's.
// The causes are ErrInvalidOption, ErrInvalidAddress for the user, ErrClosed, [ErrDraining], and those of [backplane.Backplane.Subscribe].
//
// With a token ([ConnectOptions.Resume]) the client comes back: the groups that [ResumeOptions.Restore] returns are restored
// before the connection hears anything, its first delivery is a gap, and the client's old connection is closed with
// [ReasonReplaced]; when it returns, that has happened on every instance that answered within a second. One that did not is told as
// soon as it is heard again. While this node's own link to the broker is down, it waits as ever; while the node is settling, it does not.
// A token that is not accepted is [ErrResume], and ErrUnsupported without [Options.Resume].
//
// The server calls [Connection.Disconnect] when the client has gone.
func (h *Hub) Connect(ctx context.Context, conn Conn, o ConnectOptions) (*Connection, error) {
	if conn == nil {
		return nil, h.fail("connect", fmt.Errorf("%w: the Conn is nil", backplane.ErrInvalidOption))
	}
	c, err := h.connect(ctx, conn, o)
	if err != nil {
		if errors.Is(err, ErrResume) {
			h.stats.resumesRefused.Add(1)
		}
		return nil, h.fail("connect", err)
	}
	return c, nil
}

func (h *Hub) connect(ctx context.Context, conn Conn, o ConnectOptions) (*Connection, error) {
	limits, err := o.checked(h.opts)
	if err != nil {
		return nil, err
	}
	if o.User != "" {
		if err = backplane.User(o.User).In(h.name).Validate(); err != nil {
			return nil, err
		}
	}
	token, err := h.openToken(&o)
	if err != nil {
		return nil, err
	}
	if err = h.enter(); err != nil {
		return nil, err
	}
	defer h.leave()
	if h.Draining() {
		return nil, ErrDraining
	}
	for _, t := range []*topic{h.inbox, h.all} {
		if err = t.ensure(ctx); err != nil {
			return nil, err
		}
	}
	var b *comeback
	if token != nil {
		b = &comeback{token: token}
		h.sessions.expect(b)
		defer h.sessions.arrived(b)
		if err = h.comeBack(ctx, b, &o); err != nil {
			return nil, h.orClosed(err)
		}
		defer b.release(h) // of what was not restored
	}
	var user *topic
	var granted *grants
	if o.User != "" {
		if user, granted, err = h.enterUser(ctx, o.User); err != nil {
			return nil, err
		}
	}
	c := h.newConnection(conn, limits, &o)
	c.begin(b)
	if b != nil {
		err = h.takeOver(ctx, c, b)
	}
	if err == nil {
		err = h.registerUser(c, user, granted, b)
	}
	if err != nil {
		if user != nil {
			h.leaveUser(user, granted)
		}
		return nil, err
	}
	return c, nil
}

func (h *Hub) newConnection(conn Conn, limits *OutboxOptions, o *ConnectOptions) *Connection {
	c := &Connection{
		hub: h, conn: conn, id: newID(h.home), user: o.User, label: o.Label, metadata: maps.Clone(o.Metadata),
		since: time.Now().UnixNano(), out: outbox{limits: limits},
	}
	c.run = c.write
	return c
}

// register makes a connection one of the hub's, unless the hub closes or drains, or its session does not let it. It
// returns an older connection of the session, which the caller closes.
func (h *Hub) register(c *Connection, user *topic, b *comeback) (older *Connection, err error) {
	h.gate.RLock()
	defer h.gate.RUnlock()
	switch {
	case h.closing.Err() != nil:
		return nil, backplane.ErrClosed
	case h.drain.begun:
		return nil, ErrDraining
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resume != nil {
		if older, err = h.sessions.enlist(c); err != nil {
			return nil, err
		}
	}
	h.running.Add(1)
	h.stats.connections.Add(1)
	b.restore(c)
	h.connections.add(c)
	if user != nil {
		c.asUser = user.add(c)
	}
	return older, nil
}

// Connection returns the open connection of this instance with an id.
func (h *Hub) Connection(id string) (c *Connection, ok bool) {
	c = h.connections.get([]byte(id))
	return c, c != nil
}

// enter begins a call that Close waits for.
func (h *Hub) enter() error {
	h.gate.RLock()
	defer h.gate.RUnlock()
	if h.closing.Err() != nil {
		return backplane.ErrClosed
	}
	h.calls.Add(1)
	return nil
}

func (h *Hub) leave() { h.calls.Done() }

// spawn runs f on a goroutine that Close waits for, unless the hub closes.
func (h *Hub) spawn(f func()) bool {
	h.gate.RLock()
	defer h.gate.RUnlock()
	if h.closing.Err() != nil {
		return false
	}
	h.running.Go(f)
	return true
}

// Close closes all connections with [ReasonGoingAway], ends all subscriptions, and waits until every goroutine of the hub
// has ended; bounded by ctx, whose error it returns if it ended first. Connect, Join and the sends return ErrClosed
// afterwards. A further Close waits for the same. The backplane is not closed.
func (h *Hub) Close(ctx context.Context) error {
	h.closeOnce.Do(func() {
		h.gate.Lock()
		h.close()
		h.gate.Unlock()
		go h.shutdown() // ends when all that it waits for has; closed tells
	})
	select {
	case <-h.closed:
		return nil
	default:
	}
	select {
	case <-h.closed:
		return nil
	case <-ctx.Done():
		h.stop() // what is still being written is given up
		return h.fail("close", ctx.Err())
	}
}

func (h *Hub) shutdown() {
	h.giveUpSubscribing()
	h.stopState()
	h.stopAnswers()
	h.calls.Wait()
	var open []*Connection
	h.connections.each(func(c *Connection) { open = append(open, c) })
	for _, c := range open {
		c.Disconnect(Reason{Code: ReasonGoingAway})
	}
	h.all.unsubscribe(h.ctx)
	h.inbox.unsubscribe(h.ctx)
	h.running.Wait()
	h.stop()
	close(h.closed)
}

func (h *Hub) fail(op string, err error) error { return &Error{Op: op, Hub: h.name, Err: err} }
