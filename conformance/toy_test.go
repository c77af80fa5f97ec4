package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// toyBroker joins toys: a small, correct backplane that shares nothing with this module's engine. It proves the suite:
// that a foreign backplane passes, and, with one of its lines broken, does not.
type toyBroker struct {
	mu    sync.Mutex
	nodes []*toy // guarded by mu
	next  int    // guarded by mu
}

// toy is one instance. Everything of it is guarded by the broker's mutex.
type toy struct {
	b         *toyBroker
	namespace string
	id        backplane.NodeID
	ctx       context.Context //nolint:containedctx // the handlers'
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	subs    []*toySub
	closed  bool
	cut     bool
	deaf    bool
	mute    bool
	losing  bool
	changed chan struct{} // closed and replaced when one of these changes
	notice  *time.Timer
}

type toySub struct {
	n       *toy
	to      backplane.Address
	h       backplane.Handler
	queue   []backplane.Event
	last    time.Time                   // when a message last came, or it began: a gap may reach back to then
	lost    map[backplane.NodeID]uint64 // by publisher: what was lost since its last message
	mark    *time.Timer                 // tells what was lost if no message does
	full    bool                        // a gap for what did not fit is queued
	closed  bool
	running chan struct{} // closed when the run under way ends; nil between runs
	wake    chan struct{}
}

const (
	toyQueue  = 1024
	toyNotice = 2 * time.Second
)

// toyKey is how a handler's context tells its node.
type toyKey struct{}

func (b *toyBroker) open(in Instance) *toy {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	n := &toy{b: b, namespace: in.Namespace, id: backplane.NodeID(fmt.Sprintf("%016x", b.next)), changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	n.ctx, n.cancel = context.WithValue(ctx, toyKey{}, n), cancel
	b.nodes = append(b.nodes, n)
	return n
}

// faults is for Inject.
func (n *toy) faults() Faults {
	half := func(fail func()) func() {
		return func() {
			n.fault(func() {
				fail()
				n.notice = time.AfterFunc(toyNotice, func() { n.fault(n.restored) })
			})
		}
	}
	return Faults{
		Cut:    func() { n.fault(func() { n.cut = true }) },
		Hang:   half(func() { n.deaf, n.mute = true, true }),
		Deafen: half(func() { n.deaf = true }),
		Mute:   half(func() { n.mute = true }),
		Lose:   func() { n.fault(func() { n.losing = true }) },
		Heal:   func() { n.fault(func() { n.losing = false; n.restored() }) },
	}
}

// stop and start are for Broker.
func (b *toyBroker) stop() {
	for _, n := range b.all() {
		n.fault(func() { n.cut = true })
	}
}

func (b *toyBroker) start() {
	for _, n := range b.all() {
		n.fault(n.restored)
	}
}

func (b *toyBroker) all() []*toy {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*toy{}, b.nodes...)
}

func (n *toy) fault(f func()) {
	n.b.mu.Lock()
	defer n.b.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// restored connects anew: all subscriptions may have missed something.
func (n *toy) restored() {
	if !n.cut && !n.deaf && !n.mute {
		return
	}
	n.cut, n.deaf, n.mute = false, false, false
	if n.notice != nil {
		n.notice.Stop()
	}
	for _, s := range n.subs {
		s.push(&backplane.Gap{Address: s.to, Cause: backplane.GapLink, Since: s.last})
	}
}

func toyError(op string, to backplane.Address, err error) error {
	if err == nil {
		return nil
	}
	return &backplane.Error{Op: op, Address: to, Err: err}
}

func (n *toy) Publish(ctx context.Context, to backplane.Address, payload []byte) error {
	return toyError("publish", to, n.publish(ctx, to, payload))
}

func (n *toy) publish(ctx context.Context, to backplane.Address, payload []byte) error {
	if err := to.Validate(); err != nil {
		return err //nolint:wrapcheck // toyError does
	}
	if len(payload) > defaultMaxPayload {
		return backplane.ErrTooLarge
	}
	n.b.mu.Lock()
	defer n.b.mu.Unlock()
	switch {
	case n.closed:
		return backplane.ErrClosed
	case n.cut, ctx.Err() != nil:
		return errors.Join(backplane.ErrUnavailable, ctx.Err())
	case n.mute:
		n.wait(ctx, func() bool { return !n.mute })
		return backplane.ErrUncertain
	}
	m := &backplane.Message{Address: to, Publisher: n.id, Payload: append([]byte{}, payload...)}
	for _, other := range n.b.nodes {
		if other.namespace != n.namespace || other.cut || other.deaf {
			continue
		}
		for _, s := range other.subs {
			if s.to == to {
				s.hear(m)
			}
		}
	}
	if n.deaf {
		n.wait(ctx, func() bool { return !n.deaf })
		return backplane.ErrUncertain
	}
	return nil
}

// wait waits, with the mutex held before and after, until done or ctx ends.
func (n *toy) wait(ctx context.Context, done func() bool) bool {
	for !done() && !n.closed {
		changed := n.changed
		n.b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		n.b.mu.Lock()
		if ctx.Err() != nil {
			return false
		}
	}
	return !n.closed
}

func (n *toy) Subscribe(ctx context.Context, to backplane.Address, h backplane.Handler) (backplane.Subscription, error) {
	if err := to.Validate(); err != nil {
		return nil, toyError("subscribe", to, err)
	}
	n.b.mu.Lock()
	defer n.b.mu.Unlock()
	if ready := n.wait(ctx, func() bool { return !n.cut && !n.deaf && !n.mute }); n.closed {
		return nil, toyError("subscribe", to, backplane.ErrClosed)
	} else if !ready {
		return nil, toyError("subscribe", to, errors.Join(backplane.ErrUnavailable, ctx.Err()))
	}
	if ctx.Err() != nil {
		return nil, toyError("subscribe", to, errors.Join(backplane.ErrUnavailable, ctx.Err()))
	}
	s := &toySub{n: n, to: to, h: h, last: time.Now(), wake: make(chan struct{}, 1)}
	n.subs = append(n.subs, s)
	n.wg.Go(s.loop)
	return s, nil
}

func (n *toy) Close(ctx context.Context) error {
	n.b.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.changed)
		n.changed = make(chan struct{})
	}
	if n.notice != nil {
		n.notice.Stop()
	}
	subs := append([]*toySub{}, n.subs...)
	n.b.nodes = deleteFrom(n.b.nodes, n)
	n.b.mu.Unlock()
	n.cancel()
	var stuck error
	for _, s := range subs { // all of them, also behind one whose handler is stuck
		if err := s.Close(ctx); err != nil && stuck == nil {
			stuck = toyError("close", backplane.Address{}, err)
		}
	}
	if stuck == nil {
		n.wg.Wait()
	}
	return stuck
}

// hear takes a message, or loses it. The caller holds the mutex.
func (s *toySub) hear(m *backplane.Message) {
	if s.n.losing {
		if s.lost == nil {
			s.lost = map[backplane.NodeID]uint64{}
		}
		s.lost[m.Publisher]++
		if s.mark == nil {
			s.mark = time.AfterFunc(toyNotice, func() { s.n.fault(s.tell) })
		}
		s.mark.Reset(toyNotice)
		return
	}
	s.missed(m.Publisher)
	s.push(m)
	s.last = time.Now()
}

// tell tells what was lost without a message after it.
func (s *toySub) tell() {
	if s.n.losing {
		s.mark.Reset(toyNotice)
		return
	}
	for publisher := range s.lost {
		s.missed(publisher)
	}
}

func (s *toySub) missed(publisher backplane.NodeID) {
	if k := s.lost[publisher]; k > 0 {
		s.push(&backplane.Gap{Address: s.to, Cause: backplane.GapNumbers, Since: s.last, Publisher: publisher, Missed: k})
	}
	delete(s.lost, publisher)
}

// push queues an event, or a gap if the queue is full. The caller holds the mutex.
func (s *toySub) push(e backplane.Event) {
	switch {
	case len(s.queue) < toyQueue:
		s.queue, s.full = append(s.queue, e), false
	case !s.full:
		s.queue, s.full = append(s.queue, &backplane.Gap{Address: s.to, Cause: backplane.GapOverflow, Since: s.last}), true
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *toySub) loop() {
	for {
		s.n.b.mu.Lock()
		if s.closed {
			s.n.b.mu.Unlock()
			return
		}
		var e backplane.Event
		if len(s.queue) > 0 {
			e, s.queue = s.queue[0], s.queue[1:]
			s.running = make(chan struct{})
		}
		s.n.b.mu.Unlock()
		if e == nil {
			<-s.wake
			continue
		}
		s.h(s.n.ctx, e)
		s.n.b.mu.Lock()
		close(s.running)
		s.running = nil
		s.n.b.mu.Unlock()
	}
}

func (s *toySub) Close(ctx context.Context) error {
	s.n.b.mu.Lock()
	s.closed = true
	if s.mark != nil {
		s.mark.Stop()
	}
	s.n.subs = deleteFrom(s.n.subs, s)
	running := s.running
	s.n.b.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	if running == nil || ctx.Value(toyKey{}) == any(s.n) {
		return nil
	}
	select {
	case <-running:
		return nil
	case <-ctx.Done():
		return toyError("unsubscribe", s.to, ctx.Err())
	}
}

func deleteFrom[T comparable](all []T, one T) []T {
	out := make([]T, 0, len(all))
	for _, x := range all {
		if x != one {
			out = append(out, x)
		}
	}
	return out
}

// toys opens toys: one broker for each world, made in its bubble. With breakIt, each instance is broken by it.
func toys(breakIt func(backplane.Backplane) backplane.Backplane) (Opener, Option) {
	var mu sync.Mutex
	brokers := map[string]*toyBroker{}
	opened := map[string]*toy{}
	open := func(_ context.Context, in Instance) (backplane.Backplane, error) {
		mu.Lock()
		defer mu.Unlock()
		if brokers[in.World] == nil {
			brokers[in.World] = &toyBroker{}
		}
		n := brokers[in.World].open(in)
		opened[in.World+in.Name] = n
		if breakIt != nil {
			return breakIt(n), nil
		}
		return n, nil
	}
	broker := func(do func(*toyBroker)) brokerFunc {
		return func(_ context.Context, world string) error {
			mu.Lock()
			b := brokers[world]
			mu.Unlock()
			do(b)
			return nil
		}
	}
	inject := Inject(func(in Instance, _ backplane.Backplane) Faults {
		mu.Lock()
		defer mu.Unlock()
		return opened[in.World+in.Name].faults()
	})
	return open, func(s *settings) {
		inject(s)
		Broker(broker((*toyBroker).stop), broker((*toyBroker).start))(s)
	}
}
