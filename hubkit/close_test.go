package hubkit_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

func TestCloseTellsConnectionsToGoElsewhere(t *testing.T) {
	onBoth(t, func(f *farm) {
		a, b := f.user(0, "u", "4B"), f.member(0)
		if err := f.hubs[0].Close(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
		for _, c := range []*client{a, b} {
			select {
			case <-c.Done():
			default:
				f.t.Error("Close has returned before a connection has ended")
			}
			if r := c.ended(); r.Code != hubkit.ReasonGoingAway || r.CloseCode() != 1001 {
				f.t.Errorf("the reason is %v", r)
			}
		}
		if err := f.hubs[0].Close(f.t.Context()); err != nil {
			f.t.Errorf("a second Close: %v", err)
		}
	})
}

func TestEverythingFailsAfterClose(t *testing.T) {
	onBoth(t, func(f *farm) {
		h, c := f.hubs[0], f.member(0)
		if err := h.Close(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
		sock := conntest.New()
		if _, err := h.Connect(f.t.Context(), sock, hubkit.ConnectOptions{}); !errors.Is(err, backplane.ErrClosed) {
			f.t.Errorf("Connect: %v", err)
		}
		if err := h.Send(f.t.Context(), hubkit.ToAll(), nil); !errors.Is(err, backplane.ErrClosed) {
			f.t.Errorf("Send: %v", err)
		}
		if err := c.Join(f.t.Context(), "4B"); !errors.Is(err, backplane.ErrClosed) {
			f.t.Errorf("Join: %v", err)
		}
		if err := c.Leave(f.t.Context(), "4B"); err != nil {
			f.t.Errorf("Leave: %v", err)
		}
	})
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c := f.member(0)
		proceed := f.bus.stallSubscribes()
		joined, connected := make(chan error, 1), make(chan error, 1)
		go func() { joined <- c.Join(f.t.Context(), "4B") }()
		go func() {
			_, err := f.hubs[0].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{User: "u"})
			connected <- err
		}()
		<-f.bus.waiting
		<-f.bus.waiting
		if err := f.hubs[0].Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		for _, err := range []error{<-joined, <-connected} {
			if !errors.Is(err, backplane.ErrClosed) {
				f.t.Errorf("a call under way: %v", err)
			}
		}
		proceed()
	})
}

// A subscription that succeeds although nobody wants it any more is not left behind.
func TestCloseWaitsForCallsUnderWay(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		f.bus.deaf = true
		proceed := f.bus.stallSubscribes()
		connected, closed := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := f.hubs[0].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{User: "u"})
			connected <- err
		}()
		<-f.bus.waiting
		go func() { closed <- f.hubs[0].Close(f.t.Context()) }()
		settle()
		proceed()
		if err := <-connected; !errors.Is(err, backplane.ErrClosed) {
			f.t.Errorf("Connect: %v", err)
		}
		if err := <-closed; err != nil {
			f.t.Error(err)
		}
	})
}

func TestCloseIsBoundedByItsContext(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		held := &heldConn{release: make(chan struct{})}
		if _, err := f.hubs[0].Connect(f.t.Context(), held, hubkit.ConnectOptions{}); err != nil {
			f.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
		defer cancel()
		if err := f.hubs[0].Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			f.t.Errorf("Close: %v", err)
		}
		close(held.release) // farm.stop closes again, and that waits
	})
}

// Close waits for a Leave under way: when it has returned, the subscriptions have ended.
func TestCloseWaitsForLeave(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c := f.member(0, "4B")
		proceed := f.bus.stallUnsubscribe(group("4B"))
		left, closed := make(chan error, 1), make(chan error, 1)
		go func() { left <- c.Leave(f.t.Context(), "4B") }()
		settle()
		go func() { closed <- f.hubs[0].Close(f.t.Context()) }()
		settle()
		select {
		case err := <-closed:
			f.t.Errorf("Close has returned (%v) with %d subscriptions", err, f.bus.subscriptions())
			closed <- err
		default:
		}
		proceed()
		for _, err := range []error{<-left, <-closed} {
			if err != nil {
				f.t.Error(err)
			}
		}
	})
}

// A Write that minds nothing but its context is given up when Close gives up.
func TestCloseGivesUpWrites(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward", WriteTimeout: time.Hour}, func(f *farm) {
		deaf := &deafConn{writing: make(chan struct{})}
		c, err := f.hubs[0].Connect(f.t.Context(), deaf, hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		if err := c.Send([]byte("x")); err != nil {
			f.t.Fatal(err)
		}
		<-deaf.writing
		begun := time.Now()
		ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
		defer cancel()
		if err := f.hubs[0].Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			f.t.Errorf("Close: %v", err)
		}
		<-c.Done()
		if took := time.Since(begun); took != 5*time.Second {
			f.t.Errorf("the write was given up after %v", took)
		}
	})
}

// deafConn writes until its context ends, also after it was closed.
type deafConn struct{ writing chan struct{} }

func (c *deafConn) Write(ctx context.Context, _ []hubkit.Delivery) error {
	close(c.writing)
	<-ctx.Done()
	return ctx.Err()
}

func (c *deafConn) Close(hubkit.Reason) error { return errors.New("it does not matter") }

// Close ends the telling of gaps, and waits for the hook.
func TestCloseWhileGapsAreTold(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{})
	o := hubkit.Options{Name: "ward", GapSpread: time.Hour, OnGap: func(ctx context.Context, _ hubkit.Gap, _ []*hubkit.Connection) {
		close(entered)
		<-ctx.Done()
		<-release
	}}
	onBus(t, o, func(f *farm) {
		release, entered = make(chan struct{}), make(chan struct{})
		f.member(0, "4B")
		f.bus.gap(backplane.GapLink, 0, group("4B"))
		settleFor(f.t, gapWindow)
		<-entered
		f.bus.gap(backplane.GapLink, 0, group("4B"))
		closed := make(chan error, 1)
		go func() { closed <- f.hubs[0].Close(f.t.Context()) }()
		settle()
		select {
		case err := <-closed:
			f.t.Errorf("Close did not wait for the hook: %v", err)
		default:
		}
		close(release)
		if err := <-closed; err != nil {
			f.t.Error(err)
		}
	})
}

func TestFailedConnectLeavesNothing(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		for _, kind := range []backplane.Kind{backplane.KindInbox, backplane.KindAll, backplane.KindUser} {
			f.bus.refuseWith(func(verb string, to backplane.Address) error {
				if to.Kind() == kind {
					return backplane.ErrDenied
				}
				return nil
			})
			sock := conntest.New()
			_, err := f.hubs[0].Connect(f.t.Context(), sock, hubkit.ConnectOptions{User: "u"})
			if !errors.Is(err, backplane.ErrDenied) {
				f.t.Errorf("%v denied: %v", kind, err)
			}
			if s := f.hubs[0].Stats(); s.Connections != 0 || s.Users != 0 || s.ConnectionsTotal != 0 {
				f.t.Errorf("%v denied, left behind: %+v", kind, s)
			}
			if err := sock.Close(hubkit.Reason{}); err != nil { // it was not closed by the hub
				f.t.Error(err)
			}
		}
		f.bus.refuseWith(nil)
		c := f.user(0, "u")
		f.send(1, hubkit.ToUsers("u"), "x")
		c.got("x")
	})
}

func TestHubThatOnlySendsSubscribesToNothing(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c := f.user(1, "u", "4B")
		f.send(0, hubkit.Target{Groups: []string{"4B"}, Users: []string{"u"}, Connections: []string{c.ID()}}, "x")
		c.got("x")
		if s := f.hubs[0].Stats(); s.Subscriptions != 0 || s.Received != 0 || s.Sends != 1 {
			f.t.Errorf("stats %+v", s)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	seats := seat{bus: newBus()}
	for _, o := range []hubkit.Options{
		{},
		{Name: "Ward"},
		{Name: strings.Repeat("x", 65)},
		{Name: "ward", WriteTimeout: -1},
		{Name: "ward", GapWindow: -1},
		{Name: "ward", GapSpread: -1},
		{Name: "ward", Outbox: hubkit.OutboxOptions{Messages: -1}},
		{Name: "ward", Outbox: hubkit.OutboxOptions{Bytes: -1}},
		{Name: "ward", Outbox: hubkit.OutboxOptions{Policy: 99}},
	} {
		if _, err := hubkit.New(seats, o); !errors.Is(err, backplane.ErrInvalidOption) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	h, err := hubkit.New(seats, hubkit.Options{Name: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	if h.Name() != "ward" {
		t.Errorf("the name is %q", h.Name())
	}
	for _, o := range []hubkit.ConnectOptions{
		{Label: strings.Repeat("x", hubkit.MaxLabel+1)},
		{Metadata: map[string]string{"k": strings.Repeat("x", hubkit.MaxMetadata)}},
		{Outbox: hubkit.OutboxOptions{Messages: -1}},
	} {
		if _, err := h.Connect(t.Context(), conntest.New(), o); !errors.Is(err, backplane.ErrInvalidOption) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := h.Connect(t.Context(), conntest.New(), hubkit.ConnectOptions{User: "\xff"}); !errors.Is(err, backplane.ErrInvalidAddress) {
		t.Errorf("an invalid user: %v", err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConnectionTellsWhatItWasGiven(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		meta := map[string]string{"bed": "3"}
		begun := time.Now()
		c := f.connect(0, hubkit.ConnectOptions{User: "u", Label: "tablet", Metadata: meta}, "b", "a")
		meta["bed"] = "4"
		if c.User() != "u" || c.Label() != "tablet" || c.Metadata()["bed"] != "3" || !c.Since().Equal(begun) {
			f.t.Errorf("%q %q %v %v", c.User(), c.Label(), c.Metadata(), c.Since())
		}
		if got := strings.Join(c.Groups(), " "); got != "a b" {
			f.t.Errorf("groups %q", got)
		}
	})
}

func TestReasons(t *testing.T) {
	long := hubkit.Reason{Text: strings.Repeat("ä", 100)}
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c := f.member(0)
		c.Disconnect(long)
		if r := c.ended(); len(r.Text) != 122 {
			f.t.Errorf("a long text has %d bytes", len(r.Text))
		}
		c = f.member(0)
		c.Disconnect(hubkit.Reason{Text: "bed\xff 3"}) // browsers end a WebSocket whose close frame is no UTF-8 as broken
		if r := c.ended(); r.Text != "bed 3" {
			f.t.Errorf("a text that is no UTF-8 became %q", r.Text)
		}
	})
	for _, r := range []struct {
		reason hubkit.Reason
		text   string
		code   int
	}{
		{hubkit.Reason{}, "done", 1000},
		{hubkit.Reason{Code: hubkit.ReasonGoingAway}, "going away", 1001},
		{hubkit.Reason{Code: hubkit.ReasonSlow, Text: "full"}, "too slow: full", 1013},
		{hubkit.Reason{Code: hubkit.ReasonFailed, Err: errors.New("broken pipe")}, "failed: broken pipe", 1011},
		{hubkit.Reason{Code: hubkit.ReasonRefused}, "refused", 1008},
		{hubkit.Reason{Code: 99}, "invalid", 1000},
	} {
		if r.reason.String() != r.text || r.reason.CloseCode() != r.code {
			t.Errorf("%+v: %q, %d", r.reason, r.reason, r.reason.CloseCode())
		}
	}
}
