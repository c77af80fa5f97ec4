package hubkit_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// bus is the smallest backplane there is: the three verbs and nothing else, in one process, delivering before Publish
// returns. Tests hold copies back with it, refuse calls, and tell gaps.
type bus struct {
	mu      sync.Mutex
	subs    map[backplane.Address][]*busSub
	held    map[backplane.Address][]*backplane.Message // addresses whose messages wait for release
	refuse  func(verb string, to backplane.Address) error
	stall   chan struct{} // Subscribe waits for it, if it is not nil
	deaf    bool          // and does not mind its context meanwhile
	waiting chan backplane.Address
	sent    int
	linger  map[backplane.Address]chan struct{} // Close of a subscription to the address waits for it, without being ended
}

func newBus() *bus {
	return &bus{
		subs: make(map[backplane.Address][]*busSub), held: make(map[backplane.Address][]*backplane.Message),
		waiting: make(chan backplane.Address, 100), linger: make(map[backplane.Address]chan struct{}),
	}
}

// seat is one instance's side of a bus.
type seat struct {
	*bus

	name backplane.NodeID
}

type busSub struct {
	bus     *bus
	to      backplane.Address
	handler backplane.Handler

	run    sync.Mutex // held while the handler runs
	closed bool       // guarded by run
}

func (b *bus) refused(verb string, to backplane.Address) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse == nil {
		return nil
	}
	return b.refuse(verb, to)
}

func (b *bus) refuseWith(f func(verb string, to backplane.Address) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = f
}

func (s seat) Publish(_ context.Context, to backplane.Address, payload []byte) error {
	if err := s.refused("publish", to); err != nil {
		return err
	}
	m := &backplane.Message{Address: to, Publisher: s.name, Payload: bytes.Clone(payload)}
	s.mu.Lock()
	s.sent++
	if queue, held := s.held[to]; held {
		s.held[to] = append(queue, m)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	s.tell(to, m)
	return nil
}

func (s seat) Subscribe(ctx context.Context, to backplane.Address, h backplane.Handler) (backplane.Subscription, error) {
	s.mu.Lock()
	stall, end := s.stall, ctx.Done()
	if s.deaf {
		end = nil
	}
	s.mu.Unlock()
	if stall != nil {
		s.waiting <- to
		select {
		case <-stall:
		case <-end:
			return nil, errors.Join(backplane.ErrUnavailable, ctx.Err())
		}
	}
	if err := s.refused("subscribe", to); err != nil {
		return nil, err
	}
	sub := &busSub{bus: s.bus, to: to, handler: h}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[to] = append(s.subs[to], sub)
	return sub, nil
}

func (s seat) Close(context.Context) error { return nil }

func (s *busSub) Close(context.Context) error {
	s.bus.mu.Lock()
	linger := s.bus.linger[s.to]
	s.bus.mu.Unlock()
	if linger != nil {
		<-linger
	}
	s.bus.mu.Lock()
	left := s.bus.subs[s.to][:0:0]
	for _, other := range s.bus.subs[s.to] {
		if other != s {
			left = append(left, other)
		}
	}
	s.bus.subs[s.to] = left
	s.bus.mu.Unlock()
	s.run.Lock()
	defer s.run.Unlock()
	s.closed = true
	return nil
}

// tell hands an event to the subscriptions of an address.
func (b *bus) tell(to backplane.Address, e backplane.Event) {
	b.mu.Lock()
	subs := b.subs[to]
	b.mu.Unlock()
	for _, s := range subs {
		s.run.Lock()
		if !s.closed {
			s.handler(context.Background(), e)
		}
		s.run.Unlock()
	}
}

// hold keeps the messages of an address back until release.
func (b *bus) hold(to backplane.Address) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[to] = []*backplane.Message{}
}

func (b *bus) release(to backplane.Address) {
	b.mu.Lock()
	queue := b.held[to]
	delete(b.held, to)
	b.mu.Unlock()
	for _, m := range queue {
		b.tell(to, m)
	}
}

// gap tells a gap to the subscriptions of addresses.
func (b *bus) gap(cause backplane.GapCause, missed uint64, at ...backplane.Address) {
	for _, to := range at {
		b.tell(to, &backplane.Gap{Address: to, Cause: cause, Missed: missed, Since: time.Now()})
	}
}

// stallSubscribes makes Subscribe wait until the function returned is called; the addresses come in on waiting.
func (b *bus) stallSubscribes() (proceed func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	stall := make(chan struct{})
	b.stall = stall
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.stall = nil
		close(stall)
	}
}

// stallUnsubscribe makes the end of subscriptions to an address wait until the function returned is called.
func (b *bus) stallUnsubscribe(to backplane.Address) (proceed func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	linger := make(chan struct{})
	b.linger[to] = linger
	return func() { close(linger) }
}

// subscriptions counts those of one address, or of all.
func (b *bus) subscriptions(at ...backplane.Address) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for to, subs := range b.subs {
		if len(at) == 0 || to == at[0] {
			n += len(subs)
		}
	}
	return n
}

// published counts the messages that were taken.
func (b *bus) published() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent
}
