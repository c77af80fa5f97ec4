package inmem_test

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// peer is a transport with a sink that writes down what it is told.
type peer struct {
	transport.Transport

	id transport.NodeID

	busy atomic.Bool // a sink method is running

	mu    sync.Mutex
	heard []string // "channel=data" for frames, "down" for Down
	cause error    // of the last Down
}

// join opens a peer, which the test closes at its end.
func join(tb testing.TB, b *inmem.Broker, id transport.NodeID) *peer {
	tb.Helper()
	tr, err := b.Opener()(transport.Config{Node: id, Namespace: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatalf("open %s: %v", id, err)
	}
	p := &peer{Transport: tr, id: id}
	tr.Start(p)
	tb.Cleanup(func() {
		if err := tr.Close(); err != nil {
			tb.Errorf("close %s: %v", id, err)
		}
	})
	return p
}

// connected is join, connect, and subscribe to channels.
func connected(tb testing.TB, b *inmem.Broker, id transport.NodeID, channels ...string) *peer {
	tb.Helper()
	p := join(tb, b, id)
	if err := p.Connect(tb.Context(), transport.OnlyLink); err != nil {
		tb.Fatalf("connect %s: %v", id, err)
	}
	if errs := p.Subscribe(tb.Context(), transport.OnlyLink, channels); errs != nil {
		tb.Fatalf("subscribe %s: %v", id, errs)
	}
	return p
}

func (p *peer) enter() (leave func()) {
	if p.busy.Swap(true) {
		panic("two sink methods at a time")
	}
	return func() { p.busy.Store(false) }
}

func (p *peer) note(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, s)
}

func (p *peer) Frame(_ transport.Link, channel string, data []byte) {
	defer p.enter()()
	p.note(channel + "=" + string(data))
}

func (p *peer) Gap(transport.Link, []string, bool, error) { panic("inmem reports no gaps") }

func (p *peer) Down(_ transport.Link, cause error) {
	defer p.enter()()
	p.note("down")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cause = cause
}

// take returns what was heard since the last take.
func (p *peer) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	heard := p.heard
	p.heard = nil
	return heard
}

// hears fails the test unless exactly this was heard since the last look.
func (p *peer) hears(t *testing.T, want ...string) {
	t.Helper()
	if got := p.take(); !slices.Equal(got, want) {
		t.Errorf("%s heard %q, want %q", p.id, got, want)
	}
}

// publish sends one frame.
func (p *peer) publish(tb testing.TB, channel, data string) error {
	tb.Helper()
	errs := p.Publish(tb.Context(), transport.OnlyLink, []transport.Frame{{Channel: channel, Data: []byte(data)}})
	if errs == nil {
		return nil
	}
	return errs[0]
}

func (p *peer) mustPublish(tb testing.TB, channel, data string) {
	tb.Helper()
	if err := p.publish(tb, channel, data); err != nil {
		tb.Errorf("%s publishes %q: %v", p.id, data, err)
	}
}

// frames makes frames for one channel.
func (*peer) frames(channel string, data ...string) (f []transport.Frame) {
	for _, d := range data {
		f = append(f, transport.Frame{Channel: channel, Data: []byte(d)})
	}
	return f
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// wantErrs checks one error for each, nil for none.
func wantErrs(t *testing.T, what string, got []error, want ...error) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d errors (%v), want %d", what, len(got), got, len(want))
	}
	for i, err := range got {
		if !errors.Is(err, want[i]) {
			t.Errorf("%s, number %d: %v, want %v", what, i, err, want[i])
		}
	}
}
