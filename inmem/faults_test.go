package inmem_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// within runs a call in its own goroutine, for calls that block, and returns where its result will be.
func within[T any](call func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- call() }()
	return c
}

// blocked fails the test if the result is there once nothing moves any more.
func blocked[T any](t *testing.T, what string, c <-chan T) {
	t.Helper()
	synctest.Wait()
	select {
	case v := <-c:
		t.Errorf("%s returned %v, want it to block", what, v)
	default:
	}
}

func TestCut(t *testing.T) {
	b := inmem.NewBroker()
	x, y := connected(t, b, "x", "one"), connected(t, b, "y", "one")
	b.Cut("x")
	b.Cut("x")
	x.hears(t, "down")
	wantErr(t, "cause", x.cause, transport.ErrUnavailable)
	wantErr(t, "publish", x.publish(t, "one", "1"), transport.ErrUnavailable)
	wantErr(t, "connect", x.Connect(t.Context(), 0), transport.ErrUnavailable)
	y.mustPublish(t, "one", "2")
	b.Heal("x")
	x.mustNotPublish(t, "one", "3") // healing does not connect
	wantErr(t, "connect", x.Connect(t.Context(), 0), nil)
	wantErrs(t, "subscribe", x.Subscribe(t.Context(), 0, []string{"one"}))
	y.mustPublish(t, "one", "4")
	x.hears(t, "one=4")
	y.hears(t, "one=2", "one=4")
}

func (p *peer) mustNotPublish(t *testing.T, channel, data string) {
	t.Helper()
	if err := p.publish(t, channel, data); !errors.Is(err, transport.ErrUnavailable) || errors.Is(err, transport.ErrUncertain) {
		t.Errorf("%s publishes %q: %v, want a definite %v", p.id, data, err, transport.ErrUnavailable)
	}
}

func TestKick(t *testing.T) {
	b := inmem.NewBroker()
	x, y := connected(t, b, "x", "one"), connected(t, b, "y", "one")
	b.Kick("x")
	b.Kick("x")
	b.Kick("nobody")
	x.hears(t, "down")
	wantErr(t, "connect", x.Connect(t.Context(), 0), nil)
	y.mustPublish(t, "one", "1")
	x.hears(t)
	y.hears(t, "one=1")
}

func TestStopAndStart(t *testing.T) {
	b := inmem.NewBroker()
	x, y := connected(t, b, "x", "one"), connected(t, b, "y", "one")
	b.Stop()
	b.Stop()
	for _, p := range []*peer{x, y} {
		p.hears(t, "down")
		wantErr(t, "connect", p.Connect(t.Context(), 0), transport.ErrUnavailable)
	}
	z := join(t, b, "z") // opening needs no broker
	b.Start()
	for _, p := range []*peer{x, z} {
		wantErr(t, "connect", p.Connect(t.Context(), 0), nil)
	}
	wantErrs(t, "subscribe", z.Subscribe(t.Context(), 0, []string{"one"}))
	x.mustPublish(t, "one", "1")
	x.hears(t)
	z.hears(t, "one=1")
}

// Each direction of a half-open link, and what becomes of calls on it.
func TestHalfOpen(t *testing.T) {
	for name, tc := range map[string]struct {
		fault      func(*inmem.Broker, transport.NodeID)
		in, out    bool // the direction works
		publishErr error
	}{
		"hang":   {(*inmem.Broker).Hang, false, false, transport.ErrUncertain},
		"deafen": {(*inmem.Broker).Deafen, false, true, transport.ErrUncertain},
		"mute":   {(*inmem.Broker).Mute, true, false, transport.ErrUncertain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := inmem.NewBroker()
				x, y := connected(t, b, "x", "one"), connected(t, b, "y", "one")
				tc.fault(b, "x")

				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				errs := x.Publish(ctx, 0, x.frames("one", "lost answer"))
				wantErrs(t, "publish", errs, transport.ErrUncertain)
				wantErrs(t, "publish", errs, context.DeadlineExceeded)
				if took := time.Since(begun); took != time.Second {
					t.Errorf("publish took %v, want its context's second", took)
				}
				wantErrs(t, "publish after the end", x.Publish(ctx, 0, x.frames("one", "never sent")), transport.ErrUnavailable)
				y.mustPublish(t, "one", "from y")
				var want []string
				if tc.out {
					want = []string{"one=lost answer"}
				}
				y.hears(t, append(want, "one=from y")...)
				if tc.in {
					x.hears(t, append(want, "one=from y")...)
				} else {
					x.hears(t)
				}

				publish := within(func() []error { return x.Publish(t.Context(), 0, x.frames("one", "late")) })
				subscribe := within(func() []error { return x.Subscribe(t.Context(), 0, []string{"two"}) })
				blocked(t, "publish", publish)
				blocked(t, "subscribe", subscribe)
				b.Heal("x")
				wantErrs(t, "publish", <-publish)
				wantErrs(t, "subscribe", <-subscribe)
				y.mustPublish(t, "two", "2")
				if tc.in {
					x.hears(t, "one=late", "two=2")
				} else {
					x.hears(t, append(want, "one=from y", "one=late", "two=2")...)
				}
				y.hears(t, "one=late")
			})
		})
	}
}

// A call that a hung link blocks returns when the link is given up, by whoever.
func TestHungCallsEndWithTheirConnection(t *testing.T) {
	for name, end := range map[string]func(*inmem.Broker, *peer){
		"disconnect": func(_ *inmem.Broker, p *peer) { p.Disconnect(0) },
		"close":      func(_ *inmem.Broker, p *peer) { _ = p.Close() },
		"cut":        func(b *inmem.Broker, p *peer) { b.Cut(p.id) },
		"kick, heal": func(b *inmem.Broker, p *peer) { b.Kick(p.id); b.Heal(p.id) },
		"stop, heal": func(b *inmem.Broker, p *peer) { b.Stop(); b.Heal(p.id) },
	} {
		for fault, begin := range map[string]func(*inmem.Broker, transport.NodeID){
			"hang": (*inmem.Broker).Hang, "deafen": (*inmem.Broker).Deafen,
		} {
			t.Run(name+" after "+fault, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := inmem.NewBroker()
					x := connected(t, b, "x")
					begin(b, "x")
					publish := within(func() []error { return x.Publish(t.Context(), 0, x.frames("one", "1", "2")) })
					subscribe := within(func() []error { return x.Subscribe(t.Context(), 0, []string{"two"}) })
					blocked(t, "publish", publish)
					blocked(t, "subscribe", subscribe)
					end(b, x)
					wantErrs(t, "publish", <-publish, transport.ErrUncertain, transport.ErrUncertain)
					wantErrs(t, "subscribe", <-subscribe, transport.ErrUnavailable)
					if name == "disconnect" || name == "close" {
						x.hears(t)
					} else {
						x.hears(t, "down")
					}
				})
			})
		}
	}
}

// A broker that goes away while a node is deaf is noticed when the node is healed, and not before.
func TestDeafNodeLearnsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inmem.NewBroker()
		x, y := connected(t, b, "x", "one"), connected(t, b, "y", "one")
		b.Deafen("x")
		y.mustPublish(t, "one", "held") // and lost with the connection
		b.Stop()
		b.Start()
		x.hears(t)
		y.hears(t, "one=held", "down")
		wantErr(t, "connect y", y.Connect(t.Context(), 0), nil)
		wantErrs(t, "subscribe y", y.Subscribe(t.Context(), 0, []string{"one"}))
		publish := within(func() []error { return x.Publish(t.Context(), 0, x.frames("one", "to nobody")) })
		subscribe := within(func() []error { return x.Subscribe(t.Context(), 0, []string{"two"}) })
		blocked(t, "publish", publish)
		blocked(t, "subscribe", subscribe)
		y.mustPublish(t, "two", "not for x, whose connection is gone")
		b.Heal("x")
		wantErrs(t, "publish", <-publish, transport.ErrUncertain)
		wantErrs(t, "subscribe", <-subscribe, transport.ErrUnavailable)
		x.hears(t, "down")
		y.hears(t)
		wantErr(t, "connect", x.Connect(t.Context(), 0), nil)
	})
}

func TestConnectThroughFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inmem.NewBroker()
		x := join(t, b, "x")
		connect := func() <-chan error { return within(func() error { return x.Connect(t.Context(), 0) }) }

		b.Hang("x")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := x.Connect(ctx, 0)
		wantErr(t, "hung", err, transport.ErrUnavailable)
		wantErr(t, "hung", err, context.DeadlineExceeded)

		got := connect()
		blocked(t, "connect", got)
		b.Heal("x")
		wantErr(t, "healed", <-got, nil)

		b.Hang("x")
		got = connect()
		blocked(t, "connect", got)
		b.Cut("x")
		wantErr(t, "cut", <-got, transport.ErrUnavailable)
		x.hears(t)
		b.Heal("x")

		b.Delay("x", time.Second)
		begun := time.Now()
		wantErr(t, "delayed", <-connect(), nil)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("a delayed connect took %v", took)
		}
		b.Heal("x")
		b.Mute("x")
		got = connect()
		blocked(t, "connect", got)
		wantErr(t, "close", x.Close(), nil)
		wantErr(t, "closed", <-got, transport.ErrClosed)
	})
}

func TestDrop(t *testing.T) {
	b := inmem.NewBroker()
	x, y := connected(t, b, "x", "one", "two"), connected(t, b, "y", "one")
	b.Drop("x", 2, nil)
	y.mustPublish(t, "three", "not for x, not counted")
	y.mustPublish(t, "one", "1")
	y.mustPublish(t, "two", "2")
	y.mustPublish(t, "one", "3")
	x.hears(t, "one=3")
	y.hears(t, "one=1", "one=3")

	b.Drop("x", 1, func(channel string, frame []byte) bool { return channel == "one" && string(frame) == "alert" })
	for _, s := range []string{"a", "alert", "alert"} {
		y.mustPublish(t, "one", s)
	}
	y.mustPublish(t, "two", "alert")
	x.hears(t, "one=a", "one=alert", "two=alert")

	b.Drop("x", 1, nil)
	b.Heal("x")
	y.mustPublish(t, "one", "4")
	b.Drop("x", 1, nil)
	b.Drop("x", 0, nil)
	y.mustPublish(t, "one", "5")
	x.hears(t, "one=4", "one=5")
}

func TestDeny(t *testing.T) {
	b := inmem.NewBroker()
	x, y := connected(t, b, "x", "ward:one"), connected(t, b, "y")
	b.Deny(func(r inmem.Request) bool { return r.Op != inmem.OpConnect && !strings.HasPrefix(r.Channel, "ward:") })
	wantErrs(t, "subscribe", x.Subscribe(t.Context(), 0, []string{"ward2:a", "ward:a", "ward2:b"}), transport.ErrDenied, nil, transport.ErrDenied)
	wantErrs(t, "publish", x.Publish(t.Context(), 0, append(x.frames("ward2:a", "1"), x.frames("ward:a", "2")...)), transport.ErrDenied, nil)
	x.hears(t, "ward:a=2")

	b.Deny(func(r inmem.Request) bool { return r.Node == "x" })
	wantErr(t, "publish", x.publish(t, "ward:one", "3"), transport.ErrDenied)
	y.mustPublish(t, "ward:one", "4") // what is subscribed stays
	b.Kick("x")
	wantErr(t, "connect", x.Connect(t.Context(), 0), transport.ErrDenied)
	x.hears(t, "ward:one=4", "down")
	b.Deny(nil)
	wantErr(t, "connect", x.Connect(t.Context(), 0), nil)
}
