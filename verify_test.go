package backplane_test

import (
	"bytes"
	"context"
	"fmt"
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

// deafTo is a tap that confirms subscriptions of a channel without making them, as long as lie is set.
func deafTo(channel string, lie *atomic.Bool) func(*tap) {
	return func(tp *tap) {
		tp.subscribe = func(ctx context.Context, channels []string, next func() []error) []error {
			if !lie.Load() || !slices.Contains(channels, channel) {
				return next()
			}
			others := slices.DeleteFunc(slices.Clone(channels), func(c string) bool { return c == channel })
			if len(others) == 0 {
				return nil
			}
			return tp.Transport.Subscribe(ctx, transport.OnlyLink, others)
		}
	}
}

func TestFalseConfirmationIsFoundOutWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var lie atomic.Bool
		opener, _ := tapped(broker, deafTo(wardChannel, &lie))
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, opener, backplane.Options{})
		ward := backplane.Group("ward:4B")
		lie.Store(true)
		atB, _ := listen(t, b, ward)
		publish(t, a, ward, "1")
		lie.Store(false)
		time.Sleep(5500 * time.Millisecond) // a probe interval until it is asked, the timeout, one more interval at most
		expect(t, "found out", atB.heard(), "gap:broker:0")
		publish(t, a, ward, "2")
		expect(t, "subscribed anew", atB.heard(), "2")
		time.Sleep(2 * time.Second)
		if h := b.Health(); h.State != backplane.Up {
			t.Errorf("health: %v", h.Causes)
		}
	})
}

// A subscription that stays deaf is told again and again, ever less often, and health says so until it delivers.
func TestDeafSubscriptionDegradesHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var lie atomic.Bool
		opener, _ := tapped(broker, deafTo(wardChannel, &lie))
		b := open(t, opener, backplane.Options{})
		lie.Store(true)
		atB, _ := listen(t, b, backplane.Group("ward:4B"))
		time.Sleep(6 * time.Second)
		if h := b.Health(); h.State != backplane.Degraded || h.Causes[0].Kind != backplane.CauseSilent {
			t.Errorf("health while a subscription is deaf: %v %v", h.State, h.Causes)
		}
		time.Sleep(10 * time.Minute)
		if gaps := len(atB.heard()); gaps < 8 || gaps > 16 {
			t.Errorf("%d gaps in ten minutes, want about one a minute", gaps)
		}
		lie.Store(false)
		time.Sleep(2 * time.Minute)
		if h := b.Health(); h.State != backplane.Up {
			t.Errorf("health after the lie: %v", h.Causes)
		}
	})
}

func TestSilentlyLostSubscriptionIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		opener, tp := tapped(broker, func(*tap) {})
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, opener, backplane.Options{})
		ward := backplane.Group("ward:4B")
		atB, _ := listen(t, b, ward)
		publish(t, a, ward, "1")
		expect(t, "before", atB.heard(), "1")
		if errs := tp.Transport.Unsubscribe(t.Context(), transport.OnlyLink, []string{wardChannel}); errs != nil {
			t.Fatal(errs)
		}
		publish(t, a, ward, "2")
		time.Sleep(85 * time.Second) // a minute, its jitter, and what a false confirmation takes
		got := atB.heard()
		if !slices.Contains(got, "gap:broker:0") {
			t.Errorf("heard %q of a subscription that the broker lost", got)
		}
		publish(t, a, ward, "3")
		if got := atB.heard(); !slices.Contains(got, "3") {
			t.Errorf("heard %q after it must have been subscribed anew", got)
		}
	})
}

// The members' channel and the inbox are the engine's own; without the former a node believes that it is alone.
func TestLostMembersChannelIsFoundOutBeforeAnybodyIsDeclaredDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		opener, tp := tapped(broker, func(*tap) {})
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, opener, backplane.Options{})
		inbox := "default:s:inbox/" + string(b.ID())
		b.Answer("echo", func(_ context.Context, _ backplane.NodeID, q []byte) ([]byte, error) { return q, nil })
		synctest.Wait()
		if errs := tp.Transport.Unsubscribe(t.Context(), transport.OnlyLink, []string{"default:s:members", inbox}); errs != nil {
			t.Fatal(errs)
		}
		for range 40 {
			time.Sleep(500 * time.Millisecond)
			if len(b.Members()) != 2 || len(a.Members()) != 2 {
				t.Fatalf("members: %v, %v", a.Members(), b.Members())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, err := a.Ask(ctx, b.ID(), "echo", []byte("?")); err != nil || string(got) != "?" {
			t.Errorf("Ask: %q, %v", got, err)
		}
	})
}

// count is a tap that counts frames on a channel.
func count(frames *atomic.Int64, channel string) func(*tap) {
	return func(tp *tap) {
		tp.publish = func(_ context.Context, sent []transport.Frame, next func() []error) []error {
			for _, f := range sent {
				if f.Channel == channel {
					frames.Add(1)
				}
			}
			return next()
		}
	}
}

// What one node sends proves the channel for all: many idle nodes cost no more than one.
func TestProvingCostsOneMessageAMinuteForAChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var frames atomic.Int64
		const nodes = 60
		for range nodes {
			opener, _ := tapped(broker, count(&frames, "default:a:"))
			n := open(t, opener, backplane.Options{})
			listen(t, n, backplane.All())
		}
		time.Sleep(10 * time.Second)
		if n := frames.Load(); n > nodes { // each subscribed alone, and was there before the next one came
			t.Errorf("%d messages to prove %d new subscriptions", n, nodes)
		}
		frames.Store(0)
		time.Sleep(10 * time.Minute)
		if n := frames.Load(); n < 5 || n > 20 {
			t.Errorf("%d messages in ten minutes, want about one a minute", n)
		}
	})
}

func TestTrafficIsProofEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var frames atomic.Int64
		opener, _ := tapped(broker, count(&frames, wardChannel))
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, opener, backplane.Options{})
		ward := backplane.Group("ward:4B")
		listen(t, b, ward)
		for range 400 {
			publish(t, a, ward, "1")
			time.Sleep(500 * time.Millisecond)
		}
		if n := frames.Load(); n != 0 {
			t.Errorf("%d messages to prove what traffic proves", n)
		}
	})
}

// Many subscriptions are proven at a bounded pace, and none of them is taken for deaf because it waits for its turn.
func TestManySubscriptionsAreProvenAtABoundedPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		const groups = 3000
		var frames atomic.Int64
		var mu sync.Mutex
		asked := map[string]int{} // by channel; guarded by mu
		opener, _ := tapped(broker, func(tp *tap) {
			tp.publish = func(_ context.Context, sent []transport.Frame, next func() []error) []error {
				for _, f := range sent {
					if bytes.Contains(f.Data, []byte("proven-")) {
						frames.Add(1)
						mu.Lock()
						asked[f.Channel]++
						mu.Unlock()
					}
				}
				return next()
			}
		})
		n := open(t, opener, backplane.Options{})
		e := &ear{events: make(chan string, 100)}
		for i := range groups {
			if _, err := n.Subscribe(t.Context(), backplane.Group(fmt.Sprint("proven-", i)), func(_ context.Context, ev backplane.Event) {
				e.events <- fmt.Sprintf("%T", ev)
			}); err != nil {
				t.Fatal(err)
			}
		}
		for range groups/128 + 2 {
			before := frames.Load()
			time.Sleep(time.Second)
			if k := frames.Load() - before; k > 2*128 { // the second's begin is not the interval's
				t.Errorf("%d messages in a second", k)
			}
		}
		synctest.Wait()
		mu.Lock()
		if len(asked) != groups || frames.Load() != groups {
			t.Errorf("%d of %d subscriptions were asked, by %d messages", len(asked), groups, frames.Load())
		}
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		expect(t, "healthy subscriptions", e.heard())
	})
}

// Who may not publish on a channel cannot prove it, and must neither be told of gaps nor ask all the time.
func TestSubscriptionThatMayNotBePublishedToIsLeftInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var frames atomic.Int64
		opener, _ := tapped(broker, count(&frames, wardChannel))
		b := open(t, opener, backplane.Options{})
		broker.Deny(func(r inmem.Request) bool { return r.Op == inmem.OpPublish && r.Channel == wardChannel })
		atB, _ := listen(t, b, backplane.Group("ward:4B"))
		time.Sleep(10 * time.Minute)
		expect(t, "denied", atB.heard())
		if n := frames.Load(); n > 15 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		if h := b.Health(); h.State != backplane.Up {
			t.Errorf("health: %v", h.Causes)
		}
	})
}
