package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

func ignore(context.Context, backplane.Event) {}

// A Subscribe whose context ends leaves nothing behind, also in an outage that lasts, and a retry works.
func TestSubscribeThatFailsLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		time.Sleep(2 * time.Second)
		before := n.Stats()
		broker.Cut(n.ID())
		for i := range 1000 {
			_, err := n.Subscribe(within(t, 10*time.Millisecond), backplane.Group(strconv.Itoa(i)), ignore)
			wantIs(t, "subscribe", err, backplane.ErrUnavailable, context.DeadlineExceeded)
			if typed, ok := errors.AsType[*backplane.Error](err); !ok || typed.Op != "subscribe" {
				t.Fatalf("subscribe: %#v", err)
			}
		}
		if s := n.Stats(); s.Subscriptions != 0 || s.ChannelsWanted != before.ChannelsWanted {
			t.Errorf("left: %d subscriptions, %d channels wanted, %d before", s.Subscriptions, s.ChannelsWanted, before.ChannelsWanted)
		}
		waiting := async(func() error { _, err := n.Subscribe(t.Context(), ward, ignore); return err })
		broker.Heal(n.ID())
		wantIs(t, "retry", <-waiting)
		time.Sleep(time.Second)
		if s := n.Stats(); s.ChannelsConfirmed != before.ChannelsConfirmed+1 || s.Subscriptions != 1 {
			t.Errorf("in force: %d channels, want %d; %d subscriptions", s.ChannelsConfirmed, before.ChannelsConfirmed+1, s.Subscriptions)
		}
	})
}

// The broker confirms too late: what it then holds is given back.
func TestLateConfirmationIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		opener, tp := tapped(broker, func(*tap) {})
		n := open(t, opener, backplane.Options{})
		time.Sleep(time.Second)
		confirmed := n.Stats().ChannelsConfirmed
		broker.Delay(n.ID(), 500*time.Millisecond)
		_, err := n.Subscribe(within(t, 100*time.Millisecond), ward, ignore)
		wantIs(t, "subscribe", err, context.DeadlineExceeded)
		time.Sleep(5 * time.Second)
		if c := n.Stats().ChannelsConfirmed; c != confirmed {
			t.Errorf("%d channels in force, %d before", c, confirmed)
		}
		before := tp.wardFrames.Load()
		joinStranger(t, broker).send(t, wardChannel, []byte("garbage"))
		if tp.wardFrames.Load() != before {
			t.Error("the broker still sends")
		}
	})
}

// Whether the broker took a subscription that nobody waits for any more is not known: it is given back.
func TestUnsureSubscriptionIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		hold := make(chan struct{})
		opener, tp := tapped(broker, func(tp *tap) {
			tp.subscribe = func(_ context.Context, channels []string, next func() []error) []error {
				errs := next()
				if slices.Contains(channels, wardChannel) {
					<-hold
					return all(len(channels), transport.ErrUnavailable)
				}
				return errs
			}
		})
		n := open(t, opener, backplane.Options{})
		_, err := n.Subscribe(within(t, time.Second), ward, ignore)
		wantIs(t, "subscribe", err, context.DeadlineExceeded)
		close(hold)
		time.Sleep(5 * time.Second)
		before := tp.wardFrames.Load()
		joinStranger(t, broker).send(t, wardChannel, []byte("garbage"))
		if tp.wardFrames.Load() != before {
			t.Error("the broker still sends")
		}
	})
}

func TestSubscribeRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var asks atomic.Int64
		opener, _ := tapped(broker, func(tp *tap) {
			tp.subscribe = func(_ context.Context, channels []string, next func() []error) []error {
				if slices.Contains(channels, wardChannel) {
					asks.Add(1)
				}
				return next()
			}
		})
		n := open(t, opener, backplane.Options{})
		_, err := n.Subscribe(t.Context(), ward, nil)
		wantIs(t, "nil handler", err, backplane.ErrInvalidOption)
		_, err = n.Subscribe(t.Context(), backplane.Group(""), ignore)
		wantIs(t, "address", err, backplane.ErrInvalidAddress)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = n.Subscribe(ended, ward, ignore)
		wantIs(t, "context", err, backplane.ErrUnavailable, context.Canceled)

		broker.Deny(func(r inmem.Request) bool { return r.Op == inmem.OpSubscribe && r.Channel == wardChannel })
		began := time.Now()
		_, err = n.Subscribe(t.Context(), ward, ignore)
		wantIs(t, "denied", err, backplane.ErrDenied)
		if d := time.Since(began); d != 0 {
			t.Errorf("the denial took %v", d)
		}
		time.Sleep(time.Minute)
		if k := asks.Load(); k != 1 {
			t.Errorf("asked %d times for what is denied", k)
		}
		if h := n.Health(); h.State != backplane.Up {
			t.Errorf("a denial that was told to the caller is not a matter of health: %+v", h)
		}
		broker.Deny(nil)
		at, _ := listen(t, n, ward)
		publish(t, n, ward, "1")
		expect(t, "retry", at.heard(), "1")
	})
}

func TestTwoSubscriptionsOfOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		at1, sub1 := listen(t, n, ward)
		at2, sub2 := listen(t, n, ward)
		publish(t, n, ward, "1")
		expect(t, "first", at1.heard(), "1")
		expect(t, "second", at2.heard(), "1")
		wantIs(t, "close", sub1.Close(t.Context()))
		publish(t, n, ward, "2")
		expect(t, "first", at1.heard())
		expect(t, "second", at2.heard(), "2")
		wantIs(t, "close", sub2.Close(t.Context()))
		wantIs(t, "close again", sub2.Close(t.Context()))
		synctest.Wait()
		if s := n.Stats(); s.ChannelsWanted != s.ChannelsConfirmed || s.Subscriptions != 0 {
			t.Errorf("%+v", s)
		}
		publish(t, n, ward, "3")
		expect(t, "second", at2.heard())
		at3, _ := listen(t, n, ward)
		publish(t, n, ward, "4")
		expect(t, "third", at3.heard(), "4")
	})
}

// Thousands of concurrent calls share a handful of the transport's.
func TestSubscribesAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var calls atomic.Int64
		opener, _ := tapped(broker, func(tp *tap) {
			tp.subscribe = func(_ context.Context, _ []string, next func() []error) []error {
				calls.Add(1)
				return next()
			}
			tp.unsubscribe = tp.subscribe
		})
		n := open(t, opener, backplane.Options{})
		synctest.Wait()
		calls.Store(0)
		broker.Delay(n.ID(), 10*time.Millisecond)
		const many = 5000
		subs := make([]backplane.Subscription, many)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				var err error
				subs[i], err = n.Subscribe(t.Context(), backplane.Group(strconv.Itoa(i)), ignore)
				wantIs(t, "subscribe", err)
			})
		}
		wg.Wait()
		if k := calls.Swap(0); k > 5 {
			t.Errorf("%d calls of the transport for %d subscribes", k, many)
		}
		for _, s := range subs {
			wg.Go(func() { wantIs(t, "close", s.Close(t.Context())) })
		}
		wg.Wait()
		time.Sleep(time.Second)
		if k := calls.Load(); k > 5 {
			t.Errorf("%d calls of the transport for %d unsubscribes", k, many)
		}
		if s := n.Stats(); s.ChannelsConfirmed > 8 || s.ChannelsWanted > 8 {
			t.Errorf("left: %+v", s)
		}
	})
}

// After a connect everything is restored, each subscription hears of the gap before anything newer, and those that came
// meanwhile hear of none.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n, other := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		const many = 300
		var mu sync.Mutex
		heard := map[string][]string{}
		subscribe := func(name string) {
			_, err := n.Subscribe(t.Context(), backplane.Group(name), func(_ context.Context, e backplane.Event) {
				mu.Lock()
				defer mu.Unlock()
				switch e := e.(type) {
				case *backplane.Message:
					heard[name] = append(heard[name], string(e.Payload))
				case *backplane.Gap:
					heard[name] = append(heard[name], "gap:"+e.Cause.String())
					if e.Since.IsZero() || e.Err == nil || e.Address != backplane.Group(name) {
						t.Errorf("%+v", e)
					}
				}
			})
			wantIs(t, "subscribe", err)
		}
		for i := range many {
			subscribe(strconv.Itoa(i))
		}
		broker.Cut(n.ID())
		time.Sleep(time.Second)
		late := async(func() error { subscribe("late"); return nil })
		synctest.Wait()
		broker.Heal(n.ID())
		wantIs(t, "late", <-late)
		time.Sleep(5 * time.Second)
		if h := n.Health(); h.State != backplane.Up {
			t.Errorf("health: %+v", h)
		}
		for i := range many {
			publish(t, other, backplane.Group(strconv.Itoa(i)), "after")
		}
		publish(t, other, backplane.Group("late"), "after")
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for i := range many {
			expect(t, "restored", heard[strconv.Itoa(i)], "gap:link", "after")
		}
		expect(t, "late", heard["late"], "after")
	})
}

// The broker may fail in the middle of restoring, and again: each subscription hears of one gap, since the first failure.
func TestRestoreThatFailsHalfWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var fail atomic.Int64
		opener, tp := tapped(broker, func(tp *tap) {
			tp.subscribe = func(_ context.Context, channels []string, next func() []error) []error {
				if slices.Contains(channels, wardChannel) && fail.Add(-1) >= 0 {
					go tp.sink.Down(transport.OnlyLink, errors.New("again"))
					return all(len(channels), transport.ErrUnavailable)
				}
				return next()
			}
		})
		n := open(t, opener, backplane.Options{})
		at, _ := listen(t, n, ward)
		fail.Store(3)
		tp.sink.Down(transport.OnlyLink, errors.New("first"))
		time.Sleep(20 * time.Second)
		publish(t, n, ward, "1")
		expect(t, "ward", at.heard(), "gap:link:0", "1")
	})
}

// A refusal that says nothing about the outcome is tried again, and does not make health say Up meanwhile.
func TestUnsureSubscribeIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var failing atomic.Bool
		opener, tp := tapped(broker, func(tp *tap) {
			tp.subscribe = func(_ context.Context, channels []string, next func() []error) []error {
				if slices.Contains(channels, wardChannel) && failing.Load() {
					return all(len(channels), transport.ErrUnavailable)
				}
				return next()
			}
		})
		n := open(t, opener, backplane.Options{})
		at, _ := listen(t, n, ward)
		failing.Store(true)
		tp.sink.Down(transport.OnlyLink, errors.New("gone"))
		stop := make(chan struct{})
		for range 3 { // others that subscribe all the time must not put the next attempt off
			go func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
					}
					s, err := n.Subscribe(t.Context(), backplane.Group("other"+strconv.Itoa(i)), ignore)
					wantIs(t, "subscribe", err)
					wantIs(t, "close", s.Close(t.Context()))
				}
			}()
		}
		time.Sleep(10 * time.Second)
		if h := n.Health(); h.State == backplane.Up {
			t.Error("health is Up while a subscription could not be restored")
		}
		failing.Store(false)
		time.Sleep(2 * time.Second)
		close(stop)
		if h := n.Health(); h.State != backplane.Up {
			t.Errorf("health: %+v", h)
		}
		publish(t, n, ward, "1")
		expect(t, "ward", at.heard(), "gap:link:0", "1")
	})
}

// Who subscribes while an unsubscribe of the same address is under way is in force when Subscribe returns, whatever
// becomes of the unsubscribe.
func TestSubscribeDuringAnUnsubscribe(t *testing.T) {
	for name, outcome := range map[string]func(next func() []error, n int) []error{
		"done":                  func(next func() []error, _ int) []error { return next() },
		"failed":                func(_ func() []error, n int) []error { return all(n, transport.ErrUnavailable) },
		"done, but not told so": func(next func() []error, n int) []error { next(); return all(n, transport.ErrUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				hold := make(chan struct{})
				var armed atomic.Bool
				opener, tp := tapped(broker, func(tp *tap) {
					tp.unsubscribe = func(_ context.Context, channels []string, next func() []error) []error {
						if !armed.CompareAndSwap(true, false) {
							return next()
						}
						<-hold
						return outcome(next, len(channels))
					}
				})
				n, other := open(t, opener, backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
				_, sub := listen(t, n, ward)
				publish(t, other, ward, "before")
				armed.Store(true)
				wantIs(t, "close", sub.Close(t.Context()))
				synctest.Wait()
				var at *ear
				subscribed := async(func() error { at, _ = listen(t, n, ward); return nil })
				synctest.Wait()
				if name == "done" {
					wantIs(t, "unsubscribe", errors.Join(tp.Transport.Unsubscribe(t.Context(), transport.OnlyLink, []string{wardChannel})...))
					publish(t, other, ward, "nobody is subscribed", "and nobody misses it")
				}
				close(hold)
				select {
				case err := <-subscribed:
					wantIs(t, "subscribe", err)
				case <-time.After(10 * time.Second):
					t.Fatal("Subscribe does not return")
				}
				publish(t, other, ward, "1")
				expect(t, "ward", at.heard(), "1")
			})
		})
	}
}

// An unsubscribe that failed leaves an unknown state: nobody relies on it, and it is tried again.
func TestFailedUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var failing atomic.Bool
		opener, _ := tapped(broker, func(tp *tap) {
			tp.unsubscribe = func(_ context.Context, channels []string, next func() []error) []error {
				errs := next()
				if failing.Load() {
					return all(len(channels), transport.ErrUnavailable)
				}
				return errs
			}
		})
		n := open(t, opener, backplane.Options{})
		failing.Store(true)
		_, sub := listen(t, n, ward)
		wantIs(t, "close", sub.Close(t.Context()))
		synctest.Wait()
		at, _ := listen(t, n, ward) // the broker has forgotten it, though it said otherwise
		publish(t, n, ward, "1")
		expect(t, "ward", at.heard(), "1")

		_, sub = listen(t, n, backplane.User("u"))
		wantIs(t, "close", sub.Close(t.Context()))
		time.Sleep(5 * time.Second)
		failing.Store(false)
		time.Sleep(5 * time.Second)
		if s := n.Stats(); s.ChannelsWanted != s.ChannelsConfirmed || s.Subscriptions != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A last unsubscribe racing the next subscribe ends right, whatever the order.
func TestUnsubscribeRacesSubscribe(t *testing.T) {
	broker := inmem.NewBroker()
	n, other := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
	const rounds, names = 300, 4
	var wg sync.WaitGroup
	for worker := range 2 * names {
		to := backplane.Group(strconv.Itoa(worker % names))
		wg.Go(func() {
			for round := range rounds {
				mark := fmt.Sprint(worker, "/", round)
				heard := make(chan struct{}, 1)
				sub, err := n.Subscribe(t.Context(), to, func(_ context.Context, e backplane.Event) {
					if m, ok := e.(*backplane.Message); ok && string(m.Payload) == mark {
						heard <- struct{}{}
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
				wantIs(t, "publish", other.Publish(t.Context(), to, []byte(mark)))
				select {
				case <-heard:
				case <-time.After(10 * time.Second):
					t.Errorf("%s was not heard after Subscribe had returned", mark)
					return
				}
				wantIs(t, "close", sub.Close(t.Context()))
			}
		})
	}
	wg.Wait()
}

// Once Close of a subscription is entered no handler starts, and it returns when the one in progress has.
func TestCloseOfASubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		release, begun := make(chan struct{}), make(chan string, 10)
		sub, err := n.Subscribe(t.Context(), ward, func(_ context.Context, e backplane.Event) {
			m, _ := e.(*backplane.Message)
			begun <- string(m.Payload)
			<-release
		})
		wantIs(t, "subscribe", err)
		publish(t, n, ward, "1", "2", "3")
		synctest.Wait()
		err = sub.Close(within(t, time.Second))
		wantIs(t, "close with a stuck handler", err, context.DeadlineExceeded)
		if typed, ok := errors.AsType[*backplane.Error](err); !ok || typed.Op != "unsubscribe" || typed.Address != ward {
			t.Errorf("%#v", err)
		}
		again := async(func() error { return sub.Close(context.Background()) })
		synctest.Wait()
		pending(t, "close with a stuck handler", again)
		if s := n.Stats(); s.ReceiveQueueMessages != 0 || s.ReceiveQueueBytes != 0 {
			t.Errorf("waits for a handler that will not run: %+v", s)
		}
		close(release)
		wantIs(t, "close", <-again)
		publish(t, n, ward, "4")
		synctest.Wait()
		if len(begun) != 1 {
			t.Errorf("%d handlers began, want the first only", len(begun))
		}
	})
}

// A handler may close its own subscription and others of its node: that does not wait, and so cannot lock up.
func TestCloseFromInsideAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		subs := make([]backplane.Subscription, 2)
		var runs [2]atomic.Int32
		ready := make(chan struct{})
		for i := range subs {
			var err error
			subs[i], err = n.Subscribe(t.Context(), ward, func(ctx context.Context, _ backplane.Event) {
				runs[i].Add(1)
				<-ready
				for _, s := range subs { // each closes both
					wantIs(t, "close", s.Close(ctx))
				}
			})
			wantIs(t, "subscribe", err)
		}
		publish(t, n, ward, "1")
		synctest.Wait()
		close(ready)
		synctest.Wait()
		publish(t, n, ward, "2")
		synctest.Wait()
		if a, b := runs[0].Load(), runs[1].Load(); a != 1 || b != 1 {
			t.Errorf("handlers ran %d and %d times", a, b)
		}
		if s := n.Stats(); s.Subscriptions != 0 {
			t.Errorf("%d subscriptions", s.Subscriptions)
		}
	})
}

// The context of one node's handler is nothing to another node: there Close waits.
func TestCloseFromAnotherNodesHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		started, release := make(chan struct{}), make(chan struct{})
		sub, err := a.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) { close(started); <-release })
		wantIs(t, "subscribe", err)
		done := make(chan error, 1)
		_, err = b.Subscribe(t.Context(), ward, func(ctx context.Context, _ backplane.Event) {
			<-started // else there is nothing to wait for
			done <- sub.Close(ctx)
		})
		wantIs(t, "subscribe", err)
		publish(t, a, ward, "1")
		synctest.Wait()
		pending(t, "close", done)
		close(release)
		wantIs(t, "close", <-done)
	})
}

// The broker takes subscriptions away, of some channels or all, with or without a word about others.
func TestGapsOfTheTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var asked atomic.Int64
		opener, tp := tapped(broker, func(tp *tap) {
			tp.subscribe = func(_ context.Context, channels []string, next func() []error) []error {
				asked.Add(int64(len(channels)))
				return next()
			}
		})
		n := open(t, opener, backplane.Options{})
		other := backplane.User("u")
		atWard, _ := listen(t, n, ward)
		atOther, _ := listen(t, n, other)
		asked.Store(0)
		cause := errors.New("dropped")
		tp.sink.Gap(transport.OnlyLink, []string{wardChannel, "default:g:unknown"}, false, cause)
		expect(t, "named", atWard.heard(), "gap:broker:0")
		expect(t, "not named", atOther.heard())
		tp.sink.Gap(transport.OnlyLink, nil, false, cause)
		expect(t, "all", atWard.heard(), "gap:broker:0")
		expect(t, "all", atOther.heard(), "gap:broker:0")
		if k := asked.Load(); k != 0 {
			t.Errorf("%d channels subscribed anew without need", k)
		}
		wantIs(t, "unsubscribe behind the node's back", errors.Join(tp.Transport.Unsubscribe(t.Context(), transport.OnlyLink, []string{wardChannel})...))
		tp.sink.Gap(transport.OnlyLink, []string{wardChannel}, true, cause)
		synctest.Wait()
		publish(t, n, ward, "1")
		expect(t, "subscribed anew", atWard.heard(), "gap:broker:0", "1")
		expect(t, "not named", atOther.heard())
		if k := asked.Load(); k != 1 {
			t.Errorf("%d channels subscribed anew, want 1", k)
		}
	})
}

// What the broker takes away while it is being confirmed is asked for again.
func TestGapDuringASubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var asked atomic.Int64
		opener, _ := tapped(broker, func(tp *tap) {
			tp.subscribe = func(ctx context.Context, channels []string, next func() []error) []error {
				errs := next()
				if slices.Contains(channels, wardChannel) && asked.Add(1) == 1 {
					tp.Transport.Unsubscribe(ctx, transport.OnlyLink, []string{wardChannel})
					tp.sink.Gap(transport.OnlyLink, []string{wardChannel}, true, errors.New("dropped"))
				}
				return errs
			}
		})
		n := open(t, opener, backplane.Options{})
		at, _ := listen(t, n, ward)
		publish(t, n, ward, "1")
		expect(t, "ward", at.heard(), "1")
		if k := asked.Load(); k != 2 {
			t.Errorf("asked %d times", k)
		}
	})
}

// A transport may grow a link, and move channels to it.
func TestChannelMovesToANewLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		second, err := broker.Opener()(transport.Config{Node: "second"})
		wantIs(t, "open", err)
		var moved atomic.Bool
		opener, tp := tapped(broker, func(tp *tap) {
			tp.link = func(channel string) transport.Link {
				if moved.Load() && (channel == wardChannel || strings.HasSuffix(channel, "/1")) {
					return 1
				}
				return 0
			}
		})
		links := &twoLinks{second: second}
		two := func(c transport.Config) (transport.Transport, error) {
			var err error
			links.Transport, err = opener(c)
			return links, err
		}
		n, other := open(t, two, backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		at, _ := listen(t, n, ward)
		publish(t, other, ward, "1")
		expect(t, "before", at.heard(), "1")
		moved.Store(true)
		tp.sink.Gap(0, []string{wardChannel}, true, errors.New("moved"))
		time.Sleep(2 * time.Second)
		publish(t, other, ward, "2")
		expect(t, "moved", at.heard(), "gap:broker:0", "2")
		time.Sleep(10 * time.Second) // the outlet, too, is made anew
		publish(t, n, ward, "3")
		expect(t, "own", at.heard(), "3")
		if h := n.Health(); h.State != backplane.Up || n.Stats().LastProbe == 0 {
			t.Errorf("health: %+v", h)
		}
		if k := links.moved.Load(); k != 1 {
			t.Errorf("the new link was asked %d times for the channel that moved", k)
		}
		wantIs(t, "disconnect", second.Close()) // the new link's end is only its own
		time.Sleep(5 * time.Second)
		if h := n.Health(); h.State != backplane.Degraded {
			t.Errorf("health with one of two links down: %+v", h)
		}
	})
}

// twoLinks has a second client of the broker as its link 1.
type twoLinks struct {
	transport.Transport

	second transport.Transport
	moved  atomic.Int64 // how often link 1 was asked for the ward
}

func (t *twoLinks) of(l transport.Link) transport.Transport {
	if l == 1 {
		return t.second
	}
	return t.Transport
}

func (t *twoLinks) Start(s transport.Sink) {
	t.Transport.Start(s)
	t.second.Start(secondSink{s})
}

func (t *twoLinks) Connect(ctx context.Context, l transport.Link) error {
	return t.of(l).Connect(ctx, 0)
}
func (t *twoLinks) Disconnect(l transport.Link) { t.of(l).Disconnect(0) }

func (t *twoLinks) Publish(ctx context.Context, l transport.Link, frames []transport.Frame) []error {
	return t.of(l).Publish(ctx, 0, frames)
}

func (t *twoLinks) Subscribe(ctx context.Context, l transport.Link, channels []string) []error {
	if l == 1 && slices.Contains(channels, wardChannel) {
		t.moved.Add(1)
	}
	return t.of(l).Subscribe(ctx, 0, channels)
}

func (t *twoLinks) Unsubscribe(ctx context.Context, l transport.Link, channels []string) []error {
	return t.of(l).Unsubscribe(ctx, 0, channels)
}

func (t *twoLinks) Close() error { return errors.Join(t.Transport.Close(), t.second.Close()) }

// secondSink says link 1 where its transport says link 0.
type secondSink struct{ transport.Sink }

func (s secondSink) Frame(_ transport.Link, channel string, data []byte) {
	s.Sink.Frame(1, channel, data)
}
func (s secondSink) Down(_ transport.Link, cause error) { s.Sink.Down(1, cause) }
