package nats

import (
	"context"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

// hand hands over what comes until the link ends.
func (l *link) hand() {
	wire := l.wire.Load()
	for {
		select {
		case m := <-l.inbox:
			wire.taken()
			l.take(m)
		case <-l.dead:
			return
		}
	}
}

// handRest hands over what had come when the link ended.
func (l *link) handRest() {
	for !l.stopping.Load() {
		select {
		case m := <-l.inbox:
			l.take(m)
		default:
			return
		}
	}
}

func (l *link) take(m *natsgo.Msg) {
	if m.Sub != nil {
		l.bus.sink.Frame(transport.OnlyLink, m.Subject, m.Data)
		return
	}
	l.mu.Lock()
	f := l.marks[m]
	delete(l.marks, m)
	l.mu.Unlock()
	f()
}

// mark has receive call f when all that is in the inbox now was handed over. It returns false if the link or ctx ended
// before it had a place.
func (l *link) mark(ctx context.Context, f func()) bool {
	m := &natsgo.Msg{}
	l.mu.Lock()
	l.marks[m] = f
	l.mu.Unlock()
	select {
	case l.inbox <- m:
		return true
	case <-ctx.Done():
	case <-l.dead:
	}
	l.mu.Lock()
	delete(l.marks, m)
	l.mu.Unlock()
	return false
}

// handedOver waits until all that was received has reached the sink.
func (l *link) handedOver(ctx context.Context) error {
	reached := make(chan struct{})
	if l.mark(ctx, func() { close(reached) }) {
		select {
		case <-reached:
			return nil
		case <-ctx.Done():
		case <-l.dead:
		}
	}
	if ctx.Err() != nil {
		return unavailable(ctx.Err(), "what the server sent before was not taken in time")
	}
	return l.cause
}
