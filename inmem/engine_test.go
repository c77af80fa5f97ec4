package inmem_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// These tests show what each fault looks like from above, through a node: what the unit tests of a hub server see.

const timeout = time.Minute // of the bubble's clock, so it costs nothing

// farm is a broker with two nodes and a subscription of the second.
type farm struct {
	broker *inmem.Broker
	a, b   *backplane.Node
	events chan backplane.Event // of b
}

var ward = backplane.Group("ward:4B")

// inFarm runs a test in a bubble.
func inFarm(t *testing.T, o inmem.Options, test func(*testing.T, *farm)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &farm{broker: inmem.NewBrokerWith(o), events: make(chan backplane.Event, 100)}
		for _, n := range []**backplane.Node{&f.a, &f.b} {
			var err error
			if *n, err = backplane.Open(t.Context(), f.broker.Opener(), backplane.Options{Namespace: "ward"}); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := (*n).Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
		}
		f.listen(t, ward)
		test(t, f)
	})
}

func (f *farm) listen(t *testing.T, to backplane.Address) {
	t.Helper()
	if _, err := f.b.Subscribe(t.Context(), to, func(_ context.Context, e backplane.Event) { f.events <- e }); err != nil {
		t.Fatal(err)
	}
}

func (f *farm) publish(t *testing.T, payload string) {
	t.Helper()
	if err := f.a.Publish(t.Context(), ward, []byte(payload)); err != nil {
		t.Errorf("publish %q: %v", payload, err)
	}
}

// wantMessage and wantGap wait for the next event.
func (f *farm) wantMessage(t *testing.T, payload string) {
	t.Helper()
	select {
	case e := <-f.events:
		if m, ok := e.(*backplane.Message); !ok || string(m.Payload) != payload {
			t.Errorf("heard %+v, want message %q", e, payload)
		}
	case <-time.After(timeout):
		t.Errorf("message %q does not come", payload)
	}
}

func (f *farm) wantGap(t *testing.T, cause backplane.GapCause) *backplane.Gap {
	t.Helper()
	select {
	case e := <-f.events:
		if g, ok := e.(*backplane.Gap); ok && g.Cause == cause {
			return g
		}
		t.Errorf("heard %+v, want a gap with cause %v", e, cause)
	case <-time.After(timeout):
		t.Errorf("a gap with cause %v does not come", cause)
	}
	return &backplane.Gap{}
}

// awaitUp waits until a node that may have been hit by a fault is up.
func awaitUp(t *testing.T, n *backplane.Node) {
	t.Helper()
	synctest.Wait() // it has noticed
	up := make(chan struct{}, 1)
	stop := n.OnHealth(func(h backplane.Health) {
		if h.State == backplane.Up {
			select {
			case up <- struct{}{}:
			default:
			}
		}
	})
	defer stop()
	select {
	case <-up:
	case <-time.After(timeout):
		t.Errorf("the node is not up: %+v", n.Health())
	}
}

func TestEngineSeesAGapAfterEachLinkFault(t *testing.T) {
	for name, fault := range map[string]func(*farm){
		"cut":     func(f *farm) { f.broker.Cut(f.b.ID()) },
		"kick":    func(f *farm) { f.broker.Kick(f.b.ID()) },
		"restart": func(f *farm) { f.broker.Stop(); f.broker.Start() },
	} {
		t.Run(name, func(t *testing.T) {
			inFarm(t, inmem.Options{}, func(t *testing.T, f *farm) {
				f.publish(t, "before")
				f.wantMessage(t, "before")
				fault(f)
				f.broker.Heal(f.b.ID())
				f.wantGap(t, backplane.GapLink)
				awaitUp(t, f.a) // a restart hits the publisher too, whose next attempt may come later
				f.publish(t, "after")
				f.wantMessage(t, "after")
			})
		})
	}
}

func TestEngineFindsADroppedLastMessage(t *testing.T) {
	inFarm(t, inmem.Options{}, func(t *testing.T, f *farm) {
		f.publish(t, "first")
		f.wantMessage(t, "first")
		f.broker.Drop(f.b.ID(), 1, func(_ string, frame []byte) bool { return bytes.Contains(frame, []byte("second")) })
		lost := time.Now()
		f.publish(t, "second")
		if g := f.wantGap(t, backplane.GapNumbers); g.Missed != 1 || g.Publisher != f.a.ID() {
			t.Errorf("the gap is %+v, want one message of %s", g, f.a.ID())
		}
		if late := time.Since(lost); late > 4*time.Second { // twice the tail mark's time
			t.Errorf("the gap came after %v", late)
		}
	})
}

func TestEngineNoticesAHalfOpenLink(t *testing.T) {
	for name, fault := range map[string]func(*inmem.Broker, transport.NodeID){
		"hang": (*inmem.Broker).Hang, "deafen": (*inmem.Broker).Deafen, "mute": (*inmem.Broker).Mute,
	} {
		t.Run(name, func(t *testing.T) {
			inFarm(t, inmem.Options{}, func(t *testing.T, f *farm) {
				states := make(chan backplane.State, 10)
				defer f.b.OnHealth(func(h backplane.Health) { states <- h.State })()
				for s := range states {
					if s == backplane.Up {
						break
					}
				}
				begun := time.Now()
				fault(f.broker, f.b.ID())
				if s := <-states; s == backplane.Up {
					t.Error("health is up again")
				}
				if late := time.Since(begun); late > 5*time.Second {
					t.Errorf("noticed after %v", late)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := f.b.Publish(ctx, ward, nil); err == nil {
					t.Error("a publish on the half-open link is acknowledged")
				}
				time.Sleep(timeout) // a link on which frames still come in is given up later
				f.broker.Heal(f.b.ID())
				for s := range states {
					if s == backplane.Up {
						break
					}
				}
				f.wantGap(t, backplane.GapLink)
			})
		})
	}
}

func TestEngineSurvivesADelay(t *testing.T) {
	inFarm(t, inmem.Options{}, func(t *testing.T, f *farm) {
		f.broker.Delay(f.b.ID(), time.Second) // less than the probe's timeout
		begun := time.Now()
		for _, s := range []string{"1", "2", "3"} {
			f.publish(t, s)
		}
		for _, s := range []string{"1", "2", "3"} {
			f.wantMessage(t, s)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("the messages took %v", took)
		}
		time.Sleep(timeout)
		select {
		case e := <-f.events:
			t.Errorf("heard %+v without a reason", e)
		default:
		}
	})
}

// Probes are always under way on a link this slow; Close waits for what was accepted before it, and not for them.
func TestEngineClosesOnASlowLink(t *testing.T) {
	inFarm(t, inmem.Options{}, func(t *testing.T, f *farm) {
		f.broker.Delay(f.a.ID(), 2*time.Second)
		time.Sleep(10 * time.Second)
		begun := time.Now()
		if err := f.a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("close took %v", took)
		}
	})
}

func TestEngineReportsDenials(t *testing.T) {
	inFarm(t, inmem.Options{}, func(t *testing.T, f *farm) {
		f.broker.Deny(func(r inmem.Request) bool { return r.Op != inmem.OpConnect })
		if err := f.a.Publish(t.Context(), ward, nil); !errors.Is(err, backplane.ErrDenied) {
			t.Errorf("publish: %v", err)
		}
		_, err := f.a.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) {})
		if !errors.Is(err, backplane.ErrDenied) {
			t.Errorf("subscribe: %v", err)
		}
		f.broker.Deny(nil)
		f.publish(t, "allowed again")
		f.wantMessage(t, "allowed again")
	})
}

// The engine's names and frames stay within the limits that a broker states: this one refuses what does not.
func TestEngineKeepsToLimits(t *testing.T) {
	limits := transport.Limits{
		MaxFrame:   2 << 20,
		MaxChannel: 60,
		ChannelByte: func(c byte) bool {
			return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
		},
		Delimiter: '.',
		Shared:    true,
	}
	inFarm(t, inmem.Options{Limits: limits}, func(t *testing.T, f *farm) {
		for _, name := range []string{"plain", "ward:4C", "a b*>.{}\n\x00", strings.Repeat("ä", 512)} {
			to := backplane.Group(name)
			f.listen(t, to)
			for _, payload := range []string{name, ""} {
				if err := f.a.Publish(t.Context(), to, []byte(payload)); err != nil {
					t.Errorf("publish to %q: %v", name, err)
				}
				f.wantMessage(t, payload)
			}
		}
	})
}
