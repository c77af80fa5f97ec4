package conformance

import (
	"context"
	"fmt"
	"sync"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/internal/faultnet"
)

// This file is the only one of the suite that calls a backplane; its abilities are called in node_cluster.go and health.go.

// instance is one opened backplane.
type instance struct {
	w         *world
	id        int // its record
	name      string
	seat      string // what it is opened as: its name, or that of the one it replaces
	namespace string
	link      *faultnet.Link
	clock     clock

	mu     sync.Mutex
	bp     backplane.Backplane // guarded by mu; nil until opened
	faults Faults              // guarded by mu
}

// newInstance prepares an instance; open opens it.
func (w *world) newInstance(namespace string) *instance {
	return w.newNamed(namespace, "")
}

// newNamed prepares an instance with a name that no other one has; "" is for the next number.
func (w *world) newNamed(namespace, name string) *instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name == "" {
		name = fmt.Sprintf("n%d", len(w.instances)+1)
	}
	n := &instance{w: w, name: name, namespace: namespace, link: faultnet.New(w.suite.dial)}
	n.seat = n.name
	n.id = w.rec.openCall(n.name, namespace)
	w.instances = append(w.instances, n)
	return n
}

// open opens the instance, which must succeed.
func (n *instance) open() {
	ctx, cancel := n.w.patient()
	defer cancel()
	if err := n.tryOpen(ctx); err != nil {
		n.w.fatalf("%s could not be opened: %w", n.name, err)
	}
	if a := n.w.property.Ability; a != "" && !a.of(n.backplane()) {
		n.w.without("the backplane is no "+string(a), NotClaimed)
	}
}

func (n *instance) tryOpen(ctx context.Context) error {
	defer n.w.while("Open of " + n.name)()
	in := Instance{
		Namespace: n.namespace, Name: n.seat, World: n.w.name,
		Dial: n.link.Dial, Now: n.clock.now, Logger: n.w.logs.logger(n.name),
		found: &n.w.suite.found,
	}
	var bp backplane.Backplane
	var err error
	n.labelled(func() { bp, err = n.w.suite.open(ctx, in) })
	var id backplane.NodeID
	if c, is := bp.(backplane.Cluster); err == nil && is {
		id = c.ID()
	}
	n.w.rec.openReturn(n.id, id, err)
	if err != nil {
		return err
	}
	n.w.suite.found.look(bp)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bp = bp
	if n.w.suite.inject != nil {
		n.faults = n.w.suite.inject(in, bp)
	}
	return nil
}

func (n *instance) backplane() backplane.Backplane {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bp
}

// labelled runs f so that every goroutine it starts is known as this instance's.
func (n *instance) labelled(f func()) { underLabel(n.w.ctx, n.w.name, n.name, f) }

// publish publishes a small message, which must succeed. Before, it waits until what is under way to subscriptions that
// keep up leaves room for it.
func (n *instance) publish(to backplane.Address) (pub int) { return n.publishSize(to, headerLen) }

// publishSize does it with a payload of some size, at least headerLen. What is larger than the backplane takes is cut.
func (n *instance) publishSize(to backplane.Address, size int) (pub int) {
	size = min(size, n.w.suite.largest())
	n.pace(to, size)
	ctx, cancel := n.w.patient()
	defer cancel()
	pub, err := n.tryPublish(ctx, to, size)
	n.mustPublish(to, err)
	return pub
}

// publishRaw does it with a payload as it is. Payloads without a header are known by their content: what is published to a
// place more than once must all be published by one instance after one another, while everybody who is to hear it subscribes.
func (n *instance) publishRaw(to backplane.Address, payload []byte) {
	n.pace(to, len(payload))
	ctx, cancel := n.w.patient()
	defer cancel()
	pub := n.w.rec.nextPublish(n.id, n.at(to))
	n.mustPublish(to, n.send(ctx, pub, to, payload, true))
}

func (n *instance) mustPublish(to backplane.Address, err error) {
	if err != nil && n.w.ctx.Err() == nil {
		n.w.fatalf("Publish of %s to %v failed: %w", n.name, to, err)
	}
	n.w.check()
}

// tryPublish publishes and returns what Publish returned.
func (n *instance) tryPublish(ctx context.Context, to backplane.Address, size int) (pub int, err error) {
	pub = n.w.rec.nextPublish(n.id, n.at(to))
	return pub, n.send(ctx, pub, to, n.w.rec.payload(pub, size), false)
}

func (n *instance) send(ctx context.Context, pub int, to backplane.Address, payload []byte, raw bool) (err error) {
	defer n.w.while("Publish of " + n.name)()
	n.w.rec.publishCall(pub, payload, raw)
	n.labelled(func() { err = n.backplane().Publish(ctx, to, payload) })
	n.w.rec.publishReturn(pub, err)
	return err
}

// pace waits until there is room for a message.
func (n *instance) pace(to backplane.Address, size int) {
	at := n.at(to)
	n.w.await("the subscriptions to "+to.String()+" to keep up", func() bool { return n.w.rec.room(at, size) })
}

func (n *instance) at(a backplane.Address) place { return place{n.namespace, a} }

// sub is one subscription.
type sub struct {
	n  *instance
	id int
	s  backplane.Subscription

	// during is called inside each run of the handler, if it is set; pub is -1 for gaps and foreign messages.
	during func(ctx context.Context, e backplane.Event, pub int)
}

// subscribe subscribes, which must succeed.
func (n *instance) subscribe(to backplane.Address) *sub { return n.subscribeWith(to, nil) }

func (n *instance) subscribeWith(to backplane.Address, during func(context.Context, backplane.Event, int)) *sub {
	ctx, cancel := n.w.patient()
	defer cancel()
	s, err := n.trySubscribe(ctx, to, during)
	if err != nil {
		n.w.check()
		n.w.fatalf("Subscribe of %s to %v failed: %w", n.name, to, err)
	}
	return s
}

func (n *instance) trySubscribe(
	ctx context.Context, to backplane.Address, during func(context.Context, backplane.Event, int),
) (*sub, error) {
	defer n.w.while("Subscribe of " + n.name)()
	s := &sub{n: n, id: n.w.rec.subscribeCall(n.id, n.at(to)), during: during}
	var err error
	n.labelled(func() { s.s, err = n.backplane().Subscribe(ctx, to, s.handle) })
	n.w.rec.subscribeReturn(s.id, err)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// handle is the handler of every subscription: it records, and nothing else. The rules judge later.
func (s *sub) handle(ctx context.Context, e backplane.Event) {
	run, pub := s.n.w.rec.runStart(s.id, e)
	if s.during != nil {
		s.during(ctx, e, pub)
	}
	s.n.w.rec.runEnd(s.id, run)
}

// close ends the subscription, which must succeed.
func (s *sub) close() {
	ctx, cancel := s.n.w.patient()
	defer cancel()
	if err := s.tryClose(ctx); err != nil {
		s.n.w.check()
		s.n.w.fatalf("Close of a subscription of %s failed: %w", s.n.name, err)
	}
}

func (s *sub) tryClose(ctx context.Context) error { return s.closeFrom(ctx, false) }

// closeFrom closes with a context that may be one of the subscription's own handler.
func (s *sub) closeFrom(ctx context.Context, handler bool) (err error) {
	defer s.n.w.while("Close of a subscription of " + s.n.name)()
	s.n.w.rec.unsubscribeCall(s.id, handler)
	s.n.labelled(func() { err = s.s.Close(ctx) })
	s.n.w.rec.unsubscribeReturn(s.id, err)
	return err
}

// close closes the instance, which must succeed.
func (n *instance) close() {
	ctx, cancel := n.w.patient()
	defer cancel()
	if err := n.tryClose(ctx); err != nil {
		n.w.check()
		n.w.fatalf("Close of %s failed: %w", n.name, err)
	}
}

func (n *instance) tryClose(ctx context.Context) (err error) {
	defer n.w.while("Close of " + n.name)()
	n.w.rec.closeCall(n.id)
	n.labelled(func() { err = n.backplane().Close(ctx) })
	n.w.rec.closeReturn(n.id, err)
	return err
}

// finish closes the instance at the end of its world, if nobody has.
func (n *instance) finish(ctx context.Context) {
	n.heal()
	if n.backplane() == nil || n.closed() {
		return
	}
	if err := n.tryClose(ctx); err != nil {
		n.w.fail(fmt.Errorf("Close of %s failed: %w", n.name, err), false)
	}
}

func (n *instance) closed() bool {
	n.w.rec.mu.Lock()
	defer n.w.rec.mu.Unlock()
	return n.w.rec.h.Nodes[n.id].Close.Return.happened()
}
