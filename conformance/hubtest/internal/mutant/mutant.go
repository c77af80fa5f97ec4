// Package mutant holds broken hubs. Each is this module's hubkit with one defect, and names the property of the hub
// conformance suite that has to find it out: a property that catches none proves nothing.
package mutant

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
)

// Mutant is one defect.
type Mutant struct {
	Name   string
	Defect string // one sentence
	Breaks string // the id of the property that must fail

	// Waits says that it can be seen only by waiting in vain: the promise is that something does not take long.
	Waits bool

	// node breaks an instance when it is opened, and hub each of its hubs when it is made.
	instance func(*conformance.Instance)
	node     func(*node)
	hub      func(*hub)
}

// All returns all mutants.
func All() []Mutant {
	return slices.Concat(
		names(), delivery(), received(), copies(), operations(), wide(), asking(), races(), clients(), queries(), dying(), outages(), life(),
		userGroups(), tokens(),
	)
}

// Open makes an opener of broken hubs of one of healthy hubs.
func (m Mutant) Open(open hubtest.Opener) hubtest.Opener {
	var mu sync.Mutex
	worlds := map[string]*world{}
	return func(ctx context.Context, in conformance.Instance) (hubtest.Node, error) {
		mu.Lock()
		w := worlds[in.World]
		if w == nil {
			w = &world{conns: map[string]*connection{}}
			worlds[in.World] = w
		}
		mu.Unlock()
		if m.instance != nil {
			m.instance(&in)
		}
		healthy, err := open(ctx, in)
		if err != nil {
			return nil, err
		}
		n := &node{wholeNode: healthy.(wholeNode), name: in.Name, world: w, mutant: m} //nolint:forcetypeassert // Over's have it all
		if m.node != nil {
			m.node(n)
		}
		return n, nil
	}
}

// world is what the hubs of one property share, and what the defects need to know.
type world struct {
	mu    sync.Mutex
	conns map[string]*connection // guarded by mu; by id, in all hubs, those that have ended too
	hubs  []*hub                 // guarded by mu

	still []string // guarded by mu; what was restored last

	questions questions
}

// find returns the ids of the connections of which is says so, in the order in which they were made.
func (w *world) find(is func(*connection) bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Collect(maps.Values(w.conns))
	slices.SortFunc(all, func(a, b *connection) int { return a.number - b.number })
	var ids []string
	for _, c := range all {
		if is(c) {
			ids = append(ids, c.ID())
		}
	}
	return ids
}

// isOf reports whether a connection has its home at a node.
func (w *world) isOf(n *node, id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.conns[id]
	return c != nil && c.hub.node == n
}

// wholeNode and wholeHub are all that Over's have.
type (
	wholeNode interface {
		hubtest.Node
		hubtest.Faulter
		hubtest.Publisher
	}
	wholeHub interface {
		hubtest.Hub
		hubtest.UserGroups
		hubtest.Resumer
	}
)

// node is an instance. A defect replaces what it does.
type node struct {
	wholeNode

	name   string
	world  *world
	mutant Mutant
	cut    bool // guarded by the world's mu

	close   func(ctx context.Context) error
	hooks   func(hubtest.Hooks) hubtest.Hooks
	forget  func() // is called when the instance is cut off; the world's mu is held
	publish func(ctx context.Context, kind, name string, payload []byte) error
}

func (n *node) Hub(name string, hooks hubtest.Hooks) (hubtest.Hub, error) {
	if n.hooks != nil {
		hooks = n.hooks(hooks)
	}
	healthy, err := n.wholeNode.Hub(name, hooks)
	if err != nil {
		return nil, err
	}
	h := &hub{wholeHub: healthy.(wholeHub), name: name, node: n} //nolint:forcetypeassert // Over's have it all
	h.send = h.wholeHub.Send
	h.client = func(c hubtest.Client) hubtest.Client { return c }
	h.joins = func(ctx context.Context, c *connection, group string) error { return c.Connection.Join(ctx, group) }
	h.leaves = func(ctx context.Context, c *connection, group string) error { return c.Connection.Leave(ctx, group) }
	h.gone = func(c *connection) { c.Connection.Gone() }
	h.operate = h.healthy
	h.replies = func(c *connection, question string, answer []byte, err error) error {
		return c.Connection.Reply(question, answer, err)
	}
	h.invoke, h.count, h.list, h.exists = h.wholeHub.Invoke, h.wholeHub.Count, h.wholeHub.List, h.wholeHub.Exists
	h.connect = h.wholeHub.Connect
	h.drain, h.joinUser, h.leaveUser = h.wholeHub.Drain, h.wholeHub.JoinUser, h.wholeHub.LeaveUser
	h.lists = func(string, hubtest.Info) {}
	n.world.mu.Lock()
	n.world.hubs = append(n.world.hubs, h)
	n.world.mu.Unlock()
	if n.mutant.hub != nil {
		n.mutant.hub(h)
	}
	return h, nil
}

func (n *node) Close(ctx context.Context) error {
	if n.close != nil {
		return n.close(ctx)
	}
	return n.wholeNode.Close(ctx)
}

// Faults notes that the instance is cut off.
func (n *node) Faults() conformance.Faults {
	f := n.wholeNode.Faults()
	cut := f.Cut
	f.Cut = func() {
		n.world.mu.Lock()
		n.cut = true
		if n.forget != nil {
			n.forget()
		}
		n.world.mu.Unlock()
		cut()
	}
	return f
}

func (n *node) Publish(ctx context.Context, kind, name string, payload []byte) error {
	if n.publish != nil {
		return n.publish(ctx, kind, name, payload)
	}
	return n.wholeNode.Publish(ctx, kind, name, payload)
}

// hub is a hub. A defect replaces what it does.
type hub struct {
	wholeHub

	name string
	node *node

	connect   func(ctx context.Context, c hubtest.Client, o hubtest.ConnectOptions) (hubtest.Connection, error)
	send      func(ctx context.Context, to hubtest.Target, payload []byte) error
	client    func(hubtest.Client) hubtest.Client // what the hub writes to
	joins     func(ctx context.Context, c *connection, group string) error
	leaves    func(ctx context.Context, c *connection, group string) error
	gone      func(c *connection)
	operate   func(ctx context.Context, op string, of hubtest.Target, with string) (int, error)
	drain     func(ctx context.Context, over time.Duration) (hubtest.Drained, error)
	joinUser  func(ctx context.Context, user, group string, ttl time.Duration) (int, error)
	leaveUser func(ctx context.Context, user, group string) (int, error)
	replies   func(c *connection, question string, answer []byte, err error) error
	invoke    func(ctx context.Context, connection string, request []byte) ([]byte, error)
	count     func(ctx context.Context, of hubtest.Target) (hubtest.Count, error)
	exists    func(ctx context.Context, of hubtest.Target) (bool, error)
	list      func(ctx context.Context, of hubtest.Target, limit int, token string) (hubtest.Page, error)
	lists     func(token string, last hubtest.Info) // is told what any hub has listed; the world's mu is held
}

// connection is a connection, and what the defects need to know of it.
type connection struct {
	hubtest.Connection

	hub    *hub
	client hubtest.Client // as the hub has it
	user   string
	number int             // in which order they were made
	over   bool            // it has left by itself; guarded by the world's mu
	groups map[string]bool // that it joined by itself; guarded by the world's mu
}

func (c *connection) Join(ctx context.Context, group string) error {
	err := c.hub.joins(ctx, c, group)
	c.hub.node.world.mu.Lock()
	defer c.hub.node.world.mu.Unlock()
	c.groups[group] = true
	return err
}

func (c *connection) Leave(ctx context.Context, group string) error {
	c.hub.node.world.mu.Lock()
	delete(c.groups, group)
	c.hub.node.world.mu.Unlock()
	return c.hub.leaves(ctx, c, group)
}

func (c *connection) Gone() {
	c.hub.node.world.mu.Lock()
	c.over = true
	c.hub.node.world.mu.Unlock()
	c.hub.gone(c)
}

func (c *connection) Reply(question string, answer []byte, err error) error {
	return c.hub.replies(c, question, answer, err)
}

func (h *hub) Connect(ctx context.Context, client hubtest.Client, o hubtest.ConnectOptions) (hubtest.Connection, error) {
	client = h.client(client)
	healthy, err := h.connect(ctx, client, o)
	if err != nil {
		return nil, err
	}
	w := h.node.world
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &connection{Connection: healthy, hub: h, client: client, user: o.User, number: len(w.conns), groups: map[string]bool{}}
	w.conns[healthy.ID()] = c
	return c, nil
}

func (h *hub) Send(ctx context.Context, to hubtest.Target, payload []byte) error {
	return h.send(ctx, to, payload)
}

func (h *hub) Invoke(ctx context.Context, connection string, request []byte) ([]byte, error) {
	return h.invoke(ctx, connection, request)
}

func (h *hub) Count(ctx context.Context, of hubtest.Target) (hubtest.Count, error) {
	return h.count(ctx, of)
}

func (h *hub) Exists(ctx context.Context, of hubtest.Target) (bool, error) {
	return h.exists(ctx, of)
}

func (h *hub) List(ctx context.Context, of hubtest.Target, limit int, token string) (hubtest.Page, error) {
	return h.list(ctx, of, limit, token)
}

func (h *hub) Drain(ctx context.Context, over time.Duration) (hubtest.Drained, error) {
	return h.drain(ctx, over)
}

func (h *hub) JoinUser(ctx context.Context, user, group string, ttl time.Duration) (int, error) {
	return h.joinUser(ctx, user, group, ttl)
}

func (h *hub) LeaveUser(ctx context.Context, user, group string) (int, error) {
	return h.leaveUser(ctx, user, group)
}

// The operations.
const (
	join       = "join"
	leave      = "leave"
	leaveAll   = "leave all"
	disconnect = "disconnect"
)

func (h *hub) Join(ctx context.Context, of hubtest.Target, group string) (int, error) {
	return h.operate(ctx, join, of, group)
}

func (h *hub) Leave(ctx context.Context, of hubtest.Target, group string) (int, error) {
	return h.operate(ctx, leave, of, group)
}

func (h *hub) LeaveAll(ctx context.Context, of hubtest.Target) (int, error) {
	return h.operate(ctx, leaveAll, of, "")
}

func (h *hub) Disconnect(ctx context.Context, of hubtest.Target, text string) (int, error) {
	return h.operate(ctx, disconnect, of, text)
}

// healthy does an operation as it should be done.
func (h *hub) healthy(ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
	switch op {
	case join:
		return h.wholeHub.Join(ctx, of, with)
	case leave:
		return h.wholeHub.Leave(ctx, of, with)
	case leaveAll:
		return h.wholeHub.LeaveAll(ctx, of)
	default:
		return h.wholeHub.Disconnect(ctx, of, with)
	}
}

// foreign reports whether a target names just one connection, of another instance.
func (h *hub) foreign(of hubtest.Target) bool {
	return len(of.Connections) == 1 && !of.All && len(of.Groups)+len(of.Users) == 0 && !h.node.world.isOf(h.node, of.Connections[0])
}

// late does something a moment later.
func late(f func()) { time.AfterFunc(time.Millisecond, f) }
