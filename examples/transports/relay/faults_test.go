package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/examples/transports/relay"
)

// patience bounds every wait; nothing is expected to come near it.
const patience = 20 * time.Second

// farm is a node that publishes, and one that hears.
type farm struct {
	from, to *backplane.Node
	heard    chan string // payloads, and "gap"
	down     chan struct{}
}

var room = backplane.Group("room")

func newFarm(t *testing.T, p *process) *farm {
	t.Helper()
	f := &farm{heard: make(chan string, 1024), down: make(chan struct{}, 1)}
	open := func() *backplane.Node {
		n, err := backplane.Open(t.Context(), relay.New(relay.Options{Address: p.address}), backplane.Options{
			Namespace: "ward", MaxPayload: relay.MaxPayload,
			ProbeInterval: 50 * time.Millisecond, ProbeTimeout: 500 * time.Millisecond, WaitWhenDown: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
			defer cancel()
			if err := n.Close(ctx); err != nil {
				t.Error(err)
			}
		})
		return n
	}
	f.from, f.to = open(), open()
	f.to.OnHealth(func(h backplane.Health) {
		if h.State == backplane.Down {
			select {
			case f.down <- struct{}{}:
			default:
			}
		}
	})
	_, err := f.to.Subscribe(t.Context(), room, func(_ context.Context, e backplane.Event) {
		switch e := e.(type) {
		case *backplane.Message:
			f.heard <- string(e.Payload)
		case *backplane.Gap:
			f.heard <- "gap"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// next waits for what the subscription is told next.
func (f *farm) next(t *testing.T, want string) {
	t.Helper()
	select {
	case what := <-f.heard:
		if what != want {
			t.Errorf("heard %q, not %q", what, want)
		}
	case <-time.After(patience):
		t.Fatalf("did not hear %q", want)
	}
}

func (f *farm) publish(t *testing.T, payload string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.from.Publish(ctx, room, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestKilledRelay(t *testing.T) {
	p := start(t)
	f := newFarm(t, p)
	f.publish(t, "one")
	f.next(t, "one")
	if err := errors.Join(p.kill(), p.launch()); err != nil {
		t.Fatal(err)
	}
	f.next(t, "gap") // and then all is well again
	f.publish(t, "two")
	f.next(t, "two")
}

func TestFrozenRelay(t *testing.T) {
	p := start(t)
	f := newFarm(t, p)
	f.publish(t, "one")
	f.next(t, "one")
	if err := p.freeze(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.down:
	case <-time.After(patience):
		t.Error("a relay that answers nothing was not noticed")
	}
	if err := p.thaw(); err != nil {
		t.Fatal(err)
	}
	f.next(t, "gap") // and then all is well again
	f.publish(t, "two")
	f.next(t, "two")
}
