// Package mutant holds broken backplanes. Each is our engine over the in-memory transport with one defect, and names the
// property of the conformance suite that has to find it out: a suite is worth as much as the broken backplanes that it
// catches. A property that catches none proves nothing.
package mutant

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// Mutant is one defect.
type Mutant struct {
	Name   string
	Defect string // one sentence
	Breaks string // the id of the property that must fail
	Seen   string // the report or product that inspired it; "" where common sense did
	// Full says that a short run is too short to show it.
	Full bool
	// Strict says that it shows only where what cannot be exercised is a failure.
	Strict bool
	// Bare says that programs see nothing but the three verbs of its instances.
	Bare bool
	// Also names core properties that it may break besides. The others it has to pass, so that it has one defect and no more.
	Also []string
	// Wire says that its instances publish over a connection that they dial, and that [Node.Serve] has the other end of.
	Wire bool
	// Cluster says that its instances are connected to different servers of a cluster, those from the fourth on far away.
	Cluster bool

	// world is called once for the instances of one property, and returns what breaks each of them.
	world func(*World) func(*Node)
	// open, if it is set, replaces the opening of an instance.
	open func(Opener) Opener
	// carry, if it is set, is called once for the instances of one property, and returns what breaks the transport of each.
	carry func() func(*carrier)
	lied  *atomic.Int64 // how often the defect has shown, for Survivors
}

// each makes the world function of a defect without state that instances share.
func each(breakIt func(*Node)) func(*World) func(*Node) {
	return func(*World) func(*Node) { return breakIt }
}

// All returns all mutants.
func All() []Mutant {
	return slices.Concat(
		delivery(), traces(), loads(), order(), drained(), subscribing(), unsubscribing(), isolation(), naming(), payload(), limits(),
		handlers(), pressure(), overflows(), races(), contexts(), errings(), closing(), claims(), askings(), registrations(), asked(), views(),
		crowds(), comebacks(), clusters(), links(), gaps(), outages(), afterwards(), voids(), doubts(), combinations(),
		transports(), transportStreams(), transportNames(), transportSubjects(), transportFates(), transportGuesses(),
		around(), told(), returns(), lost(), firsts(), deaths(), restarts(), impaired(), silences(), skews(),
		fieldNames(), fieldPayloads(), fieldLinks(), fieldReturns(), fieldEnds(), fieldWaits(), fieldCalls(),
		outsiders(), tables(), runs(), registers(), since(), afterAnOutage(), onTheSecondTime(), finePrint(),
		linger(), jsonInJSON(), failedPublishes(), longOutages(), assumptions(),
		redeliveries(), reentries(), comforts(), precautions(),
	)
}

// Instance is what an opener needs to know.
type Instance struct {
	Namespace, Name string
	Dial            func(ctx context.Context) (net.Conn, error)
	Now             func() time.Time
}

// Opener opens a healthy instance.
type Opener func(ctx context.Context, in Instance) (*backplane.Node, error)

// Faults make an instance's link fail.
type Faults struct{ Cut, Hang, Deafen, Mute, Lose, Partition, Heal func() }

// World is what the instances of one property share.
type World struct {
	open    Opener
	breakIt func(*Node)
	restart func() // what a restart of the broker does to the world; nil for nothing
	carry   func(*carrier)
	lied    *atomic.Int64 // see Mutant; nil where nobody asks

	mu    sync.Mutex
	nodes []*Node // guarded by mu
	subs  []*Sub  // guarded by mu; those that are open, of all nodes
}

// World returns a new world of broken instances.
func (m Mutant) World(open Opener) *World {
	w := &World{open: open, breakIt: func(*Node) {}}
	if m.open != nil {
		w.open = m.open(open)
	}
	if m.world != nil {
		w.breakIt = m.world(w)
	}
	if m.carry != nil {
		w.carry, w.lied = m.carry(), m.lied
	}
	return w
}

// Open opens one more instance.
func (w *World) Open(ctx context.Context, in Instance) (*Node, error) {
	healthy, err := w.open(ctx, in)
	if err != nil {
		return nil, err
	}
	n := &Node{Node: healthy, world: w, as: in.Name, dial: in.Dial, now: in.Now}
	n.publish, n.close = healthy.Publish, healthy.Close
	n.subscribe = n.subscribeHealthy
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) { s.handler(ctx, e) }
	n.unsubscribe = func(ctx context.Context, s *Sub) error { return s.healthy.Close(ctx) }
	n.onHealth, n.health = healthy.OnHealth, healthy.Health
	n.id, n.members, n.ask, n.askAll, n.answer = healthy.ID, healthy.Members, healthy.Ask, healthy.AskAll, healthy.Answer
	n.faults = func(f Faults) Faults { return f }
	w.breakIt(n)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, n)
	return n, nil
}

// Restarted tells the world that its broker has been started with an empty memory.
func (w *World) Restarted() {
	if w.restart != nil {
		w.restart()
	}
}

// open returns the subscriptions that are open and that match, of all nodes.
func (w *World) openSubs(match func(*Sub) bool) []*Sub {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []*Sub
	for _, s := range w.subs {
		if match(s) {
			found = append(found, s)
		}
	}
	return found
}

// Node is a broken instance. Its verbs are the functions below, which are the healthy ones unless a mutant replaced them.
type Node struct {
	*backplane.Node
	world *World
	as    string // its name among the instances
	dial  func(ctx context.Context) (net.Conn, error)
	now   func() time.Time // its clock, right or wrong
	serve func(net.Conn)

	publish     func(ctx context.Context, to backplane.Address, payload []byte) error
	subscribe   func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error)
	deliver     func(ctx context.Context, s *Sub, e backplane.Event) // runs the handler of a subscription
	unsubscribe func(ctx context.Context, s *Sub) error
	close       func(ctx context.Context) error
	onHealth    func(f func(backplane.Health)) (stop func())
	health      func() backplane.Health
	id          func() backplane.NodeID
	members     func() []backplane.Member
	ask         func(ctx context.Context, node backplane.NodeID, service string, request []byte) ([]byte, error)
	askAll      func(ctx context.Context, service string, request []byte) ([]backplane.Answer, error)
	answer      func(service string, f backplane.AnswerFunc) (stop func())
	faults      func(Faults) Faults

	watching []func() // for stop-by-place; guarded by world.mu
}

// Sub is a subscription of a broken instance.
type Sub struct {
	n       *Node
	to      backplane.Address
	handler backplane.Handler
	healthy backplane.Subscription
	born    time.Time
	deaf    atomic.Bool // it hears nothing any more
	leaver  atomic.Bool // for goodbye-is-a-gap
}

var (
	_ backplane.Backplane      = (*Node)(nil)
	_ backplane.Cluster        = (*Node)(nil)
	_ backplane.HealthReporter = (*Node)(nil)
)

// Publish implements [backplane.Backplane].
func (n *Node) Publish(ctx context.Context, to backplane.Address, payload []byte) error {
	return n.publish(ctx, to, payload)
}

// Subscribe implements [backplane.Backplane].
func (n *Node) Subscribe(ctx context.Context, to backplane.Address, h backplane.Handler) (backplane.Subscription, error) {
	s, err := n.subscribe(ctx, to, h)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// subscribeHealthy subscribes as the healthy instance does.
func (n *Node) subscribeHealthy(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
	return n.subscribeAs(ctx, to, to, h)
}

// subscribeAs subscribes to one address at the healthy instance for a subscription to another one.
func (n *Node) subscribeAs(ctx context.Context, at, to backplane.Address, h backplane.Handler) (*Sub, error) {
	s := &Sub{n: n, to: to, handler: h, born: time.Now()}
	healthy, err := n.Node.Subscribe(ctx, at, func(ctx context.Context, e backplane.Event) {
		if !s.deaf.Load() {
			n.deliver(ctx, s, e)
		}
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // the healthy instance's word, as it is
	}
	s.healthy = healthy
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.world.subs = append(n.world.subs, s)
	return s, nil
}

// Close implements [backplane.Subscription].
func (s *Sub) Close(ctx context.Context) error {
	w := s.n.world
	w.mu.Lock()
	if i := slices.Index(w.subs, s); i >= 0 {
		w.subs = slices.Delete(w.subs, i, i+1)
	}
	w.mu.Unlock()
	return s.n.unsubscribe(ctx, s)
}

// Close implements [backplane.Backplane].
func (n *Node) Close(ctx context.Context) error { return n.close(ctx) }

// ID implements [backplane.Cluster].
func (n *Node) ID() backplane.NodeID { return n.id() }

// Members implements [backplane.Cluster].
func (n *Node) Members() []backplane.Member { return n.members() }

// Ask implements [backplane.Cluster].
func (n *Node) Ask(ctx context.Context, node backplane.NodeID, service string, request []byte) ([]byte, error) {
	return n.ask(ctx, node, service, request)
}

// AskAll implements [backplane.Cluster].
func (n *Node) AskAll(ctx context.Context, service string, request []byte) ([]backplane.Answer, error) {
	return n.askAll(ctx, service, request)
}

// Answer implements [backplane.Cluster].
func (n *Node) Answer(service string, f backplane.AnswerFunc) (stop func()) {
	return n.answer(service, f)
}

// OnHealth implements [backplane.HealthReporter].
func (n *Node) OnHealth(f func(backplane.Health)) (stop func()) { return n.onHealth(f) }

// Health implements [backplane.HealthReporter].
func (n *Node) Health() backplane.Health { return n.health() }

// Faults returns the faults of the healthy instance, as far as the mutant knows them.
func (n *Node) Faults(healthy Faults) Faults { return n.faults(healthy) }

// Serve is the other end of a connection that the instance dialed. It returns when the connection has ended.
func (n *Node) Serve(conn net.Conn) { n.serve(conn) }

// message returns the message that an event is; false for a gap.
func message(e backplane.Event) (*backplane.Message, bool) {
	m, ok := e.(*backplane.Message)
	return m, ok
}

// isGap reports whether an event is a gap.
func isGap(e backplane.Event) bool {
	_, ok := e.(*backplane.Gap)
	return ok
}

// refused is the error of a mutant that refuses.
func refused(op string, to backplane.Address, err error) error {
	return &backplane.Error{Op: op, Address: to, Err: err}
}

// at is who hears what: an address in a namespace.
type at struct {
	namespace string
	address   backplane.Address
}

func (n *Node) at(a backplane.Address) at { return at{n.Namespace(), a} }

// pause lets time pass; in a bubble it is free.
func pause(d time.Duration) { <-time.After(d) }
