package backplane

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// Node is this process's seat on a backplane: our [Backplane] over any transport. Get one from [Open], and Close it.
// All methods may be called concurrently.
type Node struct {
	// Immutable.
	o           Options // with its defaults filled in
	id          NodeID
	publisher   wire.Publisher // the id on the wire
	t           transport.Transport
	names       namer
	membersLink *link // where heartbeats come
	inbox       *interest
	maxFrame    int // the largest frame that is published
	settings    settings
	log         *slog.Logger

	// ctx ends when the node closes; every goroutine ends with it. handlers derives from it, ends a little earlier, and
	// marks what runs inside a handler.
	ctx          context.Context
	cancel       context.CancelCauseFunc
	handlers     context.Context
	stopHandlers context.CancelCauseFunc
	opened       time.Time
	work         sync.WaitGroup // every goroutine of the node but those that run what users registered
	running      sync.WaitGroup // those that run handlers and answering functions

	outlets    outletTable
	interests  interestTable
	members    memberTable
	questions  questionTable
	health     healthWatch
	epochClock atomic.Uint64 // the newest epoch begun; see numbers.go
	published  atomic.Bool   // a gate of barrier.go was over once: what this node publishes leaves
	heartbeats atomic.Uint64 // heartbeats to all that the broker has taken: the number of the last one
	ticks      atomic.Uint64 // orders confirmations of subscriptions, heartbeats heard, and epochs begun; see numbers.go
	stats      stats
	complained atomic.Int64 // when a frame could last not be read, in UnixNano
	calls      sync.Pool    // of *call
	events     sync.Pool    // of *[]Event: what a frame's messages are gathered in

	making  sync.Mutex // held while a link is made
	mu      sync.Mutex
	links   map[transport.Link]*link // guarded by mu
	started bool                     // links start as they are made: guarded by mu
	closing bool                     // guarded by mu
	gone    chan struct{}            // closed when Close has done its work
	stuck   bool                     // a handler still ran when the context of Close ended; written before gone is closed
	ending  atomic.Bool              // closing, for the hot paths
}

var (
	_ Backplane      = (*Node)(nil)
	_ Cluster        = (*Node)(nil)
	_ HealthReporter = (*Node)(nil)
	_ transport.Sink = sink{}
)

// Open opens a node over a transport: redis.URL(…), redis.New(…), an inmem.Broker's. It returns when the node hears
// itself through the broker, or when the broker's first attempt failed: what is wrong without asking the broker, and
// what the broker denies, is an error; its mere absence is not, unless [Options.RequireBroker] is set: the node then
// connects when the broker comes, and Health says Down until then. The context limits this call, not the node; if it
// ends first, Open returns its error and leaves nothing behind.
func Open(ctx context.Context, open transport.Opener, o Options) (*Node, error) {
	fail := func(err error) (*Node, error) { return nil, &Error{Op: "open", Err: err, hashNames: o.HashNames} }
	if open == nil {
		return fail(badOption("the transport is missing: pass redis.URL(…) or another Opener"))
	}
	if err := ctx.Err(); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx)))
	}
	n := &Node{
		links:  map[transport.Link]*link{},
		gone:   make(chan struct{}),
		opened: time.Now(),
	}
	_, _ = rand.Read(n.publisher[:]) // never fails
	n.id = nodeID(n.publisher)
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	timeout := o.ProbeTimeout
	if timeout <= 0 {
		timeout = 3 * time.Second
	}
	t, err := open(transport.Config{
		Node: n.id, Namespace: cmp.Or(o.Namespace, defaultNamespace), Logger: logger, Timeout: timeout,
		MaxFrame: cmp.Or(o.MaxPayload, defaultMaxPayload) + frameRoom,
	})
	if err != nil {
		return fail(err)
	}
	limits := t.Limits()
	if n.o, err = o.withDefaults(limits); err != nil {
		return fail(errors.Join(err, t.Close()))
	}
	n.t = t
	n.log = n.o.Logger
	n.maxFrame = n.o.MaxPayload + frameRoom
	n.settings = n.o.settings()
	delim := limits.Delimiter
	if delim == 0 {
		delim = ':'
	}
	n.names = namer{
		prefix: n.o.Namespace + string(rune(delim)), delim: delim, longest: limits.MaxChannel, allowed: limits.ChannelByte, tokens: limits.Tokens,
	}
	n.ctx, n.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	n.handlers, n.stopHandlers = context.WithCancelCause(context.WithValue(n.ctx, handlerKey{}, n))
	n.outlets.m = map[Address]*outlet{}
	n.interests.init()
	n.members.init(n)
	n.questions.init()
	n.health.init(n)

	t.Start(sink{n})
	if err := n.start(ctx); err != nil {
		n.abort()
		return fail(err)
	}
	return n, nil
}

// start subscribes the engine's own channels, connects, and waits for the first outcome.
func (n *Node) start(ctx context.Context) error {
	l := n.linkOf(n.names.channel(membersAddress))
	l.first = n.own(membersAddress, l)
	n.membersLink = l
	inbox := inboxAddress(n.id)
	n.inbox = n.own(inbox, n.linkOf(n.names.channel(inbox)))
	n.work.Go(n.duties)
	n.work.Go(n.verify)

	first := make(chan error, 1) // the outcome of the first attempt of the members' link
	l.outcome = first
	n.startLinks()
	select {
	case err := <-first:
		switch {
		case err == nil:
		case errors.Is(err, ErrDenied), errors.Is(err, ErrInvalidOption), n.o.RequireBroker:
			return err
		default:
			n.log.Warn("broker not reachable; the node opens without it and connects when it comes", "err", err)
			return nil
		}
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	// Wait for the first probe: then the node has heard itself the whole way round.
	timeout := time.NewTimer(n.o.ProbeTimeout)
	defer timeout.Stop()
	select {
	case <-l.heard:
		select {
		case err := <-l.refused: // one was denied, another was heard
			return err
		default:
			return n.awaitGate(ctx, l)
		}
	case <-timeout.C:
		if n.o.RequireBroker {
			return fmt.Errorf("%w: connected, but the node does not hear itself within %v", ErrUnavailable, n.o.ProbeTimeout)
		}
		return nil
	case err := <-l.refused:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// awaitGate waits until the members have answered, where the broker is several servers, but not for long: the node is there, and
// who publishes waits for them.
func (n *Node) awaitGate(ctx context.Context, l *link) error {
	wait, cancel := context.WithTimeout(ctx, n.o.ProbeTimeout)
	defer cancel()
	l.barrier.await(wait)
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	return nil
}

// abort frees everything without a word to anybody.
func (n *Node) abort() {
	n.mu.Lock()
	n.closing = true
	n.mu.Unlock()
	n.ending.Store(true)
	n.cancel(ErrClosed)
	_ = n.t.Close() // nothing was promised to anybody yet
	n.work.Wait()
}

// ID returns the node's id: 16 characters of 0-9 a-f, random and new at every Open.
func (n *Node) ID() NodeID { return n.id }

// Namespace returns the namespace the node is in.
func (n *Node) Namespace() string { return n.o.Namespace }

// MaxPayload returns the largest payload in bytes.
func (n *Node) MaxPayload() int { return n.o.MaxPayload }

func (n *Node) closed() bool { return n.ending.Load() }

// error wraps an error for the caller.
func (n *Node) error(op string, a Address, err error) error {
	return &Error{Op: op, Address: a, Err: err, hashNames: n.o.HashNames}
}

// linkOf returns the link a channel uses, making it if it is new. interestTable.mu must not be held.
func (n *Node) linkOf(channel string) *link {
	id := n.t.Link(channel)
	if l := n.link(id); l != nil {
		return l
	}
	n.making.Lock()
	defer n.making.Unlock()
	if l := n.link(id); l != nil {
		return l
	}
	l := newLink(n, id)
	l.addProbe()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[id] = l
	if n.started && !n.closing { // under mu: not while Close waits for the goroutines
		l.start()
	}
	return l
}

// startLinks starts the links that are known, and lets those start that come later.
func (n *Node) startLinks() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.started = true
	for _, l := range n.links {
		l.start()
	}
}

func (n *Node) link(id transport.Link) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[id]
}

func (n *Node) allLinks() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	links := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	slices.SortFunc(links, func(a, b *link) int { return int(a.id) - int(b.id) })
	return links
}

// backoff is the jittered wait before the attempt after k failed ones: from half to the whole of a doubling time.
func (n *Node) backoff(k int) time.Duration {
	d := n.o.ReconnectMin
	for range k - 1 {
		if d *= 2; d >= n.o.ReconnectMax {
			d = n.o.ReconnectMax
			break
		}
	}
	return d/2 + mathrand.N(d/2+1) //nolint:gosec // jitter, not a secret
}

// sleep waits, or until the node closes.
func (n *Node) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-n.ctx.Done():
	}
}

// shown is an address for a log.
func (n *Node) shown(a Address) string { return a.display(n.o.HashNames) }

func nodeID(p wire.Publisher) NodeID { return NodeID(hex.EncodeToString(p[:])) }

type handlerKey struct{}

// insideHandler reports whether ctx derives from the context of a handler of this node.
func (n *Node) insideHandler(ctx context.Context) bool {
	return ctx.Value(handlerKey{}) == n
}
