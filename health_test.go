package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// wantHealth fails where the state or the kind of its first cause is another one.
func wantHealth(t *testing.T, what string, h backplane.Health, state backplane.State, kind backplane.CauseKind) {
	t.Helper()
	first := backplane.Cause{}
	if len(h.Causes) > 0 {
		first = h.Causes[0]
	}
	if h.State != state || first.Kind != kind {
		t.Errorf("%s: health is %v because of %q %v, want %v because of %q", what, h.State, first.Kind, first.Err, state, kind)
	}
	if (h.State == backplane.Up) != (len(h.Causes) == 0) || len(h.Causes) > 0 && first.Err == nil {
		t.Errorf("%s: %v with causes %+v", what, h.State, h.Causes)
	}
}

// Connected is not Up: that is only who has heard itself on this connection.
func TestUpNeedsAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		wantHealth(t, "open", n.Health(), backplane.Up, "")
		broker.Drop(n.ID(), 1<<30, func(channel string, _ []byte) bool { return channel == "default:s:probe/"+string(n.ID())+"/0" })
		broker.Kick(n.ID())
		synctest.Wait()
		time.Sleep(200 * time.Millisecond)
		wantHealth(t, "connected anew, without a probe", n.Health(), backplane.Down, backplane.CauseSilent)
		broker.Heal(n.ID())
		time.Sleep(2 * time.Second)
		wantHealth(t, "probed", n.Health(), backplane.Up, "")
		if h := n.Health(); h.LastProbe <= 0 || h.Since.IsZero() {
			t.Errorf("last probe %v, since %v", h.LastProbe, h.Since)
		}
	})
}

// Whatever makes a node deaf or mute without a word shows within ProbeInterval + ProbeTimeout, whatever the two are, and
// the link is made anew.
func TestHalfOpenLinksAreNoticedInTime(t *testing.T) {
	for name, fault := range map[string]func(*inmem.Broker, transport.NodeID){
		"hung": (*inmem.Broker).Hang, "deaf": (*inmem.Broker).Deafen, "mute": (*inmem.Broker).Mute,
	} {
		for _, o := range []backplane.Options{
			{},
			{ProbeInterval: time.Second, ProbeTimeout: 1500 * time.Millisecond},
			{ProbeInterval: 100 * time.Millisecond, ProbeTimeout: 2500 * time.Millisecond},
		} {
			t.Run(fmt.Sprint(name, o.ProbeInterval, o.ProbeTimeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					broker := inmem.NewBroker()
					n := open(t, broker.Opener(), o)
					other := open(t, broker.Opener(), backplane.Options{}) // its heartbeats keep coming to a node that is mute
					var mu sync.Mutex
					var red time.Time
					n.OnHealth(func(h backplane.Health) {
						mu.Lock()
						defer mu.Unlock()
						if h.State == backplane.Down && red.IsZero() {
							red = time.Now()
						}
					})
					time.Sleep(3456 * time.Millisecond)
					began := time.Now()
					fault(broker, n.ID())
					time.Sleep(time.Minute)
					interval, timeout := o.ProbeInterval, o.ProbeTimeout
					if interval == 0 {
						interval, timeout = time.Second, 3*time.Second
					}
					mu.Lock()
					if took := red.Sub(began); red.IsZero() || took > interval+timeout {
						t.Errorf("noticed after %v", took)
					}
					mu.Unlock()
					broker.Heal(n.ID())
					time.Sleep(10 * time.Second)
					wantHealth(t, "healed", n.Health(), backplane.Up, "")
					if n.Stats().Reconnects == 0 {
						t.Error("the link was not made anew")
					}
					_ = other
				})
			})
		}
	}
}

// A round trip that is longer than the interval between probes, or nearly as long as their timeout, is slow and not silent.
func TestSlowIsNotSilent(t *testing.T) {
	for _, delay := range []time.Duration{500 * time.Millisecond, 1400 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			broker := inmem.NewBroker()
			n := open(t, broker.Opener(), backplane.Options{})
			broker.Delay(n.ID(), delay)
			time.Sleep(time.Minute)
			wantHealth(t, "slow", n.Health(), backplane.Up, "")
			if h := n.Health(); h.LastProbe < delay || h.LastProbe > 3*time.Second {
				t.Errorf("delay %v: last probe %v", delay, h.LastProbe)
			}
			if r := n.Stats().Reconnects; r != 0 {
				t.Errorf("delay %v: %d reconnects", delay, r)
			}
			broker.Kick(n.ID())
			time.Sleep(20 * time.Second)
			wantHealth(t, "slow, connected anew", n.Health(), backplane.Up, "")
		})
	}
}

// A broker that accepts connections and closes them soon, before or after the first probe, is tried at the pace of the
// back-off.
func TestNoReconnectLoop(t *testing.T) {
	for _, lived := range []time.Duration{0, 10 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			broker := inmem.NewBroker()
			var connects atomic.Int32
			opener, tp := tapped(broker, func(tp *tap) {
				tp.connect = func(_ context.Context, next func() error) error {
					if err := next(); err != nil {
						return err
					}
					if connects.Add(1) > 1 {
						time.AfterFunc(lived, func() { tp.sink.Down(transport.OnlyLink, errors.New("too many clients")) })
					}
					return nil
				}
			})
			n := open(t, opener, backplane.Options{})
			time.Sleep(10 * time.Second)
			tp.sink.Down(transport.OnlyLink, errors.New("the first one ends"))
			time.Sleep(time.Minute)
			if k := connects.Load(); k < 20 || k > 100 {
				t.Errorf("connections that live %v: %d attempts in a minute", lived, k)
			}
			if h := n.Health(); h.State != backplane.Down && time.Since(h.Since) > lived { // it may just live
				t.Errorf("health: %+v", h)
			}
		})
	}
}

// The transport may say that a connection has failed before Connect has returned.
func TestDownBeforeConnectReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var connects atomic.Int32
		opener, tp := tapped(broker, func(tp *tap) {
			tp.connect = func(_ context.Context, next func() error) error {
				err := next()
				if connects.Add(1) == 2 {
					tp.Transport.Disconnect(transport.OnlyLink)
					tp.sink.Down(transport.OnlyLink, errors.New("gone already"))
				}
				return err
			}
		})
		n := open(t, opener, backplane.Options{})
		at, _ := listen(t, n, ward)
		tp.sink.Down(transport.OnlyLink, errors.New("the first one ends"))
		time.Sleep(time.Second)
		wantHealth(t, "connected for the third time", n.Health(), backplane.Up, "")
		publish(t, n, ward, "1")
		expect(t, "ward", at.heard(), "gap:link:0", "1")
	})
}

func TestMembersThatDisagreeAreDegraded(t *testing.T) {
	for name, o := range map[string]backplane.Options{
		"MaxPayload": {MaxPayload: 1000},
		"Heartbeat":  {Heartbeat: 3 * time.Second, MemberTimeout: 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				a := open(t, broker.Opener(), backplane.Options{})
				b := openOnly(t, broker.Opener(), o)
				synctest.Wait()
				wantHealth(t, "a", a.Health(), backplane.Degraded, backplane.CauseSettings)
				wantHealth(t, "b", b.Health(), backplane.Degraded, backplane.CauseSettings)
				if c := a.Health().Causes[0]; c.Node != b.ID() {
					t.Errorf("a blames %q", c.Node)
				}
				wantIs(t, "close", b.Close(t.Context()))
				wantHealth(t, "a alone", a.Health(), backplane.Up, "")
			})
		})
	}
}

func TestLateMemberIsDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		time.Sleep(20 * time.Second)
		wantHealth(t, "both there", a.Health(), backplane.Up, "")
		broker.Mute(b.ID())
		time.Sleep(5500 * time.Millisecond)
		wantHealth(t, "late", a.Health(), backplane.Degraded, backplane.CauseMember)
		if c := a.Health().Causes; len(c) > 0 && c[0].Node != b.ID() {
			t.Errorf("a blames %q", c[0].Node)
		}
		time.Sleep(5 * time.Second)
		wantHealth(t, "dead", a.Health(), backplane.Up, "")
	})
}

func TestOnHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		var mu sync.Mutex
		var told []backplane.State
		stop := n.OnHealth(func(h backplane.Health) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, h.State)
			_ = n.Health() // may be called from here
			n.Members()
		})
		late := make(chan struct{})
		var slow []backplane.State
		n.OnHealth(func(h backplane.Health) {
			slow = append(slow, h.State)
			<-late
		})
		synctest.Wait()
		for range 3 {
			broker.Cut(n.ID())
			time.Sleep(time.Second)
			broker.Heal(n.ID())
			time.Sleep(5 * time.Second)
		}
		mu.Lock()
		if !slices.Equal(told, []backplane.State{backplane.Up}) { // the slow one is in the way
			t.Errorf("told %v", told)
		}
		mu.Unlock()
		close(late)
		broker.Cut(n.ID())
		time.Sleep(time.Second)
		broker.Heal(n.ID())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		mu.Lock()
		up, down := backplane.Up, backplane.Down
		want := []backplane.State{up, down, up, down, up, down, up, down, up}
		if !slices.Equal(told, want) || !slices.Equal(slow, want) {
			t.Errorf("told %v, the slow one %v", told, slow)
		}
		mu.Unlock()
		stop()
		stop()
		broker.Cut(n.ID())
		time.Sleep(time.Second)
		if len(told) != 9 {
			t.Errorf("told %v after stop", told)
		}
	})
}

// Changes that a watcher does not take are bounded, and what is left of them makes sense.
func TestOnHealthMergesTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		release := make(chan struct{})
		var told []backplane.State
		n.OnHealth(func(h backplane.Health) {
			<-release
			told = append(told, h.State)
		})
		for range 100 {
			broker.Kick(n.ID())
			time.Sleep(3 * time.Second)
		}
		close(release)
		synctest.Wait()
		for i := 1; i < len(told); i++ {
			if told[i] == told[i-1] {
				t.Fatalf("told %v", told)
			}
		}
		if len(told) < 10 || len(told) > 20 || told[len(told)-1] != backplane.Up {
			t.Errorf("told %v", told)
		}
	})
}

// Changes are told once each and in order, however fast they come.
func TestOnHealthTellsEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		var told []backplane.Health
		n.OnHealth(func(h backplane.Health) { told = append(told, h) })
		for range 50 {
			broker.Kick(n.ID())
			time.Sleep(3 * time.Second)
		}
		synctest.Wait()
		for i := 1; i < len(told); i++ {
			if told[i].State == told[i-1].State || told[i].Since.Before(told[i-1].Since) {
				t.Fatalf("%+v after %+v", told[i], told[i-1])
			}
		}
		if len(told) != 101 {
			t.Errorf("%d told, want 101", len(told))
		}
	})
}

func TestServerThatMayNotPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var mu sync.Mutex
		var role error
		opener, _ := tapped(broker, func(tp *tap) {
			answer := func() error {
				mu.Lock()
				defer mu.Unlock()
				return role
			}
			tp.check = func(context.Context, transport.Link) error { return answer() }
			tp.connect = func(_ context.Context, next func() error) error {
				if err := answer(); err != nil {
					return err
				}
				return next()
			}
		})
		n := open(t, opener, backplane.Options{})
		set := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			role = err
		}
		time.Sleep(2 * time.Second)
		wantHealth(t, "master", n.Health(), backplane.Up, "")
		set(fmt.Errorf("%w: it is a replica", transport.ErrReadOnly))
		time.Sleep(3 * time.Second)
		wantHealth(t, "replica", n.Health(), backplane.Down, backplane.CauseRole)
		wantIs(t, "publish", n.Publish(t.Context(), ward, nil), backplane.ErrUnavailable, transport.ErrReadOnly)
		set(nil)
		time.Sleep(5 * time.Second)
		wantHealth(t, "master again", n.Health(), backplane.Up, "")
		set(fmt.Errorf("%w: it does not answer", transport.ErrUnavailable))
		time.Sleep(1500 * time.Millisecond)
		wantHealth(t, "no answer", n.Health(), backplane.Down, backplane.CauseSilent)
		set(nil)
	})
}

// What is denied after Open is said in one word, is not hammered at, and comes back by itself.
func TestDeniedSubscriptionsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var log logbook
		n := open(t, broker.Opener(), backplane.Options{Logger: log.logger()})
		at, _ := listen(t, n, ward)
		broker.Deny(func(r inmem.Request) bool { return r.Op == inmem.OpSubscribe && r.Channel == wardChannel })
		broker.Kick(n.ID())
		time.Sleep(time.Minute)
		wantHealth(t, "denied", n.Health(), backplane.Degraded, backplane.CauseDenied)
		wantIs(t, "cause", n.Health().Causes[0].Err, backplane.ErrDenied)
		if k := log.count("denies subscriptions"); k != 1 {
			t.Errorf("logged %d times", k)
		}
		broker.Deny(nil)
		time.Sleep(2 * time.Second)
		wantHealth(t, "allowed again", n.Health(), backplane.Up, "")
		publish(t, n, ward, "1")
		expect(t, "allowed again", at.heard(), "gap:link:0", "1")
	})
}

// reentrant is a log handler that asks the node about itself.
type reentrant struct {
	slog.Handler
	ask func()
}

func (r reentrant) Handle(context.Context, slog.Record) error {
	r.ask()
	return nil
}

// A logger may look at the node it logs for.
func TestLoggerMayUseTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var mu sync.Mutex
		var node *backplane.Node
		logger := slog.New(reentrant{slog.NewTextHandler(&logbook{}, nil), func() {
			mu.Lock()
			n := node
			mu.Unlock()
			if n != nil {
				n.Health()
				n.Members()
				n.Stats()
			}
		}})
		n := open(t, broker.Opener(), backplane.Options{Logger: logger})
		mu.Lock()
		node = n
		mu.Unlock()
		listen(t, n, ward)
		other := openOnly(t, broker.Opener(), backplane.Options{MaxPayload: 1000})
		joinStranger(t, broker).send(t, wardChannel, []byte("garbage"))
		broker.Cut(n.ID())
		time.Sleep(time.Second)
		broker.Heal(n.ID())
		time.Sleep(5 * time.Second)
		broker.Cut(other.ID())
		time.Sleep(20 * time.Second)
		wantIs(t, "close", other.Close(t.Context()))
	})
}
