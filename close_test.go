package backplane_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// openOnly is open without the Close at the end of the test.
func openOnly(t *testing.T, o transport.Opener, opts backplane.Options) *backplane.Node {
	t.Helper()
	n, err := backplane.Open(t.Context(), o, opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return n
}

// In each of these tests the bubble proves that no goroutine is left: it does not end before all of its own have.

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := openOnly(t, broker.Opener(), backplane.Options{})
		other := open(t, broker.Opener(), backplane.Options{})
		_, sub := listen(t, n, ward)
		var states []backplane.State
		n.OnHealth(func(h backplane.Health) { states = append(states, h.State) })
		publish(t, n, ward, "1")
		synctest.Wait()
		wantIs(t, "close", n.Close(t.Context()))
		wantIs(t, "second close", n.Close(t.Context()))
		synctest.Wait()

		if m := other.Members(); len(m) != 1 {
			t.Errorf("the other still sees %v", m)
		}
		wantIs(t, "publish", n.Publish(t.Context(), ward, nil), backplane.ErrClosed)
		_, err := n.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) {})
		wantIs(t, "subscribe", err, backplane.ErrClosed)
		_, err = n.Ask(t.Context(), n.ID(), "s", nil)
		wantIs(t, "ask", err, backplane.ErrClosed)
		_, err = n.AskAll(t.Context(), "s", nil)
		wantIs(t, "ask all", err, backplane.ErrClosed)
		wantIs(t, "close of a subscription", sub.Close(t.Context()))
		h := n.Health()
		if h.State != backplane.Down || len(h.Causes) != 1 || h.Causes[0].Kind != backplane.CauseClosed {
			t.Errorf("health: %+v", h)
		}
		if len(states) < 2 || states[len(states)-1] != backplane.Down {
			t.Errorf("OnHealth told %v", states)
		}
		if s := n.Stats(); s.Subscriptions != 0 || s.ReceiveQueueBytes != 0 || s.PublishQueueBytes != 0 {
			t.Errorf("gauges after Close: %+v", s)
		}
	})
}

func TestCloseIsBoundedByItsContext(t *testing.T) {
	for name, c := range map[string]struct {
		stick func(t *testing.T, broker *inmem.Broker, n *backplane.Node, release <-chan struct{})
	}{
		"a handler that does not return": {func(t *testing.T, _ *inmem.Broker, n *backplane.Node, release <-chan struct{}) {
			t.Helper()
			_, err := n.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) { <-release })
			wantIs(t, "subscribe", err)
			publish(t, n, ward, "1", "2")
		}},
		"an answer that does not come": {func(t *testing.T, _ *inmem.Broker, n *backplane.Node, release <-chan struct{}) {
			t.Helper()
			n.Answer("s", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { <-release; return nil, nil })
			go func() { _, _ = n.Ask(context.Background(), n.ID(), "s", nil) }()
		}},
		"a watcher of health that does not return": {func(_ *testing.T, _ *inmem.Broker, n *backplane.Node, release <-chan struct{}) {
			n.OnHealth(func(backplane.Health) { <-release })
		}},
		"a link that hangs": {func(_ *testing.T, broker *inmem.Broker, n *backplane.Node, _ <-chan struct{}) {
			broker.Hang(n.ID())
			go func() { _ = n.Publish(context.Background(), ward, nil) }()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				n := openOnly(t, broker.Opener(), backplane.Options{})
				release := make(chan struct{})
				c.stick(t, broker, n, release)
				synctest.Wait()
				began := time.Now()
				err := n.Close(within(t, time.Second))
				wantIs(t, "close", err, context.DeadlineExceeded)
				if typed, ok := errors.AsType[*backplane.Error](err); !ok || typed.Op != "close" {
					t.Errorf("close: %#v", err)
				}
				if d := time.Since(began); d > 1100*time.Millisecond {
					t.Errorf("it took %v", d)
				}
				close(release)
			})
		})
	}
}

// A publish that waits when Close ends early gets its answer, and so does everybody else.
func TestCloseFreesCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := openOnly(t, broker.Opener(), backplane.Options{PublishBytes: 200, WaitWhenDown: true})
		other := open(t, broker.Opener(), backplane.Options{})
		other.Answer("s", func(ctx context.Context, _ backplane.NodeID, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, nil })
		synctest.Wait()
		asked := async(func() error { _, err := n.Ask(context.Background(), other.ID(), "s", nil); return err })
		askedAll := async(func() error { _, err := n.AskAll(context.Background(), "s", nil); return err })
		synctest.Wait()
		broker.Hang(n.ID())
		background := context.Background()
		underWay := async(func() error { return n.Publish(background, ward, make([]byte, 100)) })
		synctest.Wait()
		queued := async(func() error { return n.Publish(background, ward, nil) })
		synctest.Wait()
		blocked := async(func() error { return n.Publish(background, ward, make([]byte, 100)) })
		subscribing := async(func() error {
			_, err := n.Subscribe(background, backplane.User("u"), func(context.Context, backplane.Event) {})
			return err
		})
		synctest.Wait()
		wantIs(t, "close", n.Close(within(t, time.Second)), context.DeadlineExceeded)
		wantIs(t, "publish under way", <-underWay, backplane.ErrUncertain)
		for what, c := range map[string]<-chan error{
			"queued publish": queued, "blocked publish": blocked, "subscribe": subscribing, "ask": asked, "ask all": askedAll,
		} {
			err := <-c
			wantIs(t, what, err, backplane.ErrClosed)
			if errors.Is(err, backplane.ErrUncertain) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// What was accepted is finished: also by a slow broker on which a probe is always under way.
func TestCloseFinishesPublishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := openOnly(t, broker.Opener(), backplane.Options{ProbeInterval: 100 * time.Millisecond})
		other := open(t, broker.Opener(), backplane.Options{})
		atOther, _ := listen(t, other, ward)
		synctest.Wait()
		broker.Delay(n.ID(), 400*time.Millisecond)
		var errs []<-chan error
		var want []string
		for i := range 5 {
			want = append(want, strconv.Itoa(i))
			errs = append(errs, async(func() error { return n.Publish(t.Context(), ward, []byte(want[i])) }))
			synctest.Wait()
		}
		broker.Kick(n.ID()) // not even this hinders it: the node connects again and repeats what is open
		began := time.Now()
		wantIs(t, "close", n.Close(context.Background()))
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("it took %v", d)
		}
		for _, c := range errs {
			wantIs(t, "publish", <-c)
		}
		expect(t, "other", atOther.heard(), want...)
	})
}

// On a slow link some probe is always under way. Close does not wait for those.
func TestCloseDoesNotWaitForProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := openOnly(t, broker.Opener(), backplane.Options{ProbeInterval: 100 * time.Millisecond})
		broker.Delay(n.ID(), 400*time.Millisecond)
		time.Sleep(time.Second)
		wantIs(t, "close", n.Close(within(t, 5*time.Second)))
	})
}

// A handler may wait for the end of its context: Close ends it. And what the handler was publishing is finished.
func TestCloseEndsTheContextOfHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n, other := openOnly(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		echo := backplane.Group("echo")
		atOther, _ := listen(t, other, echo)
		var ended atomic.Int32
		_, err := n.Subscribe(t.Context(), ward, func(ctx context.Context, _ backplane.Event) {
			wantIs(t, "publish in a handler", n.Publish(ctx, echo, []byte("echo")))
			<-ctx.Done()
			wantIs(t, "cause", context.Cause(ctx), backplane.ErrClosed)
			wantIs(t, "publish afterwards", n.Publish(ctx, echo, nil), backplane.ErrClosed)
			ended.Add(1)
		})
		wantIs(t, "subscribe", err)
		n.Answer("s", func(ctx context.Context, _ backplane.NodeID, _ []byte) ([]byte, error) {
			<-ctx.Done()
			ended.Add(1)
			return nil, nil
		})
		synctest.Wait()
		asked := async(func() error { _, err := other.Ask(t.Context(), n.ID(), "s", nil); return err })
		synctest.Wait()
		broker.Delay(n.ID(), time.Second)
		publish(t, other, ward, "1", "2")
		time.Sleep(1500 * time.Millisecond) // the handler is publishing; 2 is never handled, because Close comes first
		wantIs(t, "close", n.Close(context.Background()))
		if n := ended.Load(); n != 2 {
			t.Errorf("%d of 2 contexts had ended when Close returned", n)
		}
		expect(t, "echo", atOther.heard(), "echo")
		if err := <-asked; err != nil && !errors.Is(err, backplane.ErrClosed) && !errors.Is(err, backplane.ErrUnavailable) {
			t.Errorf("the question ended with %v", err)
		}
	})
}

func TestCloseFromInside(t *testing.T) {
	for _, deadline := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			broker := inmem.NewBroker()
			n, other := openOnly(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
			closed := make(chan error, 4)
			closeIt := func(ctx context.Context) {
				if deadline {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Minute)
					defer cancel()
				}
				closed <- n.Close(ctx)
				closed <- n.Close(ctx)
			}
			_, err := n.Subscribe(t.Context(), ward, func(ctx context.Context, _ backplane.Event) { closeIt(ctx) })
			wantIs(t, "subscribe", err)
			publish(t, other, ward, "1")
			wantIs(t, "close in a handler", <-closed)
			wantIs(t, "second close in a handler", <-closed)
			wantIs(t, "close outside", n.Close(t.Context()))

			n = openOnly(t, broker.Opener(), backplane.Options{})
			n.Answer("s", func(ctx context.Context, _ backplane.NodeID, _ []byte) ([]byte, error) { closeIt(ctx); return nil, nil })
			synctest.Wait()
			_, err = other.Ask(t.Context(), n.ID(), "s", nil) // its answer cannot leave any more
			wantIs(t, "ask", err, backplane.ErrUnavailable)
			wantIs(t, "close in an answer", <-closed)
			wantIs(t, "second close in an answer", <-closed)
		})
	}
}

func TestConcurrentCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := openOnly(t, broker.Opener(), backplane.Options{})
		release := make(chan struct{})
		_, err := n.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) { <-release })
		wantIs(t, "subscribe", err)
		publish(t, n, ward, "1")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { wantIs(t, "close", n.Close(context.Background())) })
		}
		synctest.Wait()
		close(release)
		wg.Wait()
	})
}

// The last words of a node that closes are its last numbers, and then its goodbye: the loss of its last message is told,
// also where it was its first.
func TestCloseTellsTheLastNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		b := open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		atUser, _ := listen(t, b, backplane.User("u"))
		a := openOnly(t, broker.Opener(), backplane.Options{})
		publish(t, a, ward, "1")
		lose(broker, b, 1, wardChannel)
		publish(t, a, ward, "2")
		lose(broker, b, 1, "default:u:u")
		publish(t, a, backplane.User("u"), "first and last")
		wantIs(t, "close", a.Close(t.Context()))
		expect(t, "b", atB.heard(), "1", "gap:numbers:1")
		expect(t, "b", atUser.heard(), "gap:numbers:1")
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := b.Stats(); s.Counters > 2 || s.MembersLost != 0 {
			t.Errorf("counters left: %d; members lost: %d", s.Counters, s.MembersLost)
		}
	})
}

func TestOpenThatFailsLeavesNothing(t *testing.T) {
	denied := func(op inmem.Op) func(inmem.Request) bool {
		return func(r inmem.Request) bool { return r.Op == op }
	}
	for name, c := range map[string]struct {
		damage func(*inmem.Broker)
		o      backplane.Options
		want   []error
	}{
		"invalid option":        {nil, backplane.Options{MaxPayload: -1}, []error{backplane.ErrInvalidOption}},
		"no broker":             {(*inmem.Broker).Stop, backplane.Options{RequireBroker: true}, []error{backplane.ErrUnavailable}},
		"connect denied":        {func(b *inmem.Broker) { b.Deny(denied(inmem.OpConnect)) }, backplane.Options{}, []error{backplane.ErrDenied}},
		"subscribe denied":      {func(b *inmem.Broker) { b.Deny(denied(inmem.OpSubscribe)) }, backplane.Options{}, []error{backplane.ErrDenied}},
		"publish denied":        {func(b *inmem.Broker) { b.Deny(denied(inmem.OpPublish)) }, backplane.Options{}, []error{backplane.ErrDenied}},
		"one of its own denied": {func(b *inmem.Broker) { b.Deny(func(r inmem.Request) bool { return r.Channel == "default:s:members" }) }, backplane.Options{}, []error{backplane.ErrDenied}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				if c.damage != nil {
					c.damage(broker)
				}
				_, err := backplane.Open(t.Context(), broker.Opener(), c.o)
				wantIs(t, "open", err, c.want...)
				if typed, ok := errors.AsType[*backplane.Error](err); !ok || typed.Op != "open" {
					t.Errorf("open: %#v", err)
				}
			})
		})
	}
}

func TestOpenThatIsCanceledLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := backplane.Open(ended, broker.Opener(), backplane.Options{})
		wantIs(t, "context that has ended", err, backplane.ErrUnavailable, context.Canceled)

		for name, tap := range map[string]func(*tap){
			"connect hangs": func(tp *tap) {
				tp.connect = func(ctx context.Context, _ func() error) error { <-ctx.Done(); return ctx.Err() }
			},
			"subscribe hangs": func(tp *tap) {
				tp.subscribe = func(ctx context.Context, channels []string, _ func() []error) []error {
					<-ctx.Done()
					return all(len(channels), transport.ErrUnavailable)
				}
			},
			"publish hangs": func(tp *tap) {
				tp.publish = func(ctx context.Context, frames []transport.Frame, _ func() []error) []error {
					<-ctx.Done()
					return all(len(frames), transport.ErrUncertain)
				}
			},
		} {
			began := time.Now()
			opener, _ := tapped(broker, tap)
			_, err := backplane.Open(within(t, time.Second), opener, backplane.Options{})
			wantIs(t, name, err, backplane.ErrUnavailable, context.DeadlineExceeded)
			if d := time.Since(began); d != time.Second {
				t.Errorf("%s: it took %v", name, d)
			}
		}
	})
}

// The absence of the broker is no error by default: the node connects when it comes.
func TestOpenWithoutBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		broker.Stop()
		n := open(t, broker.Opener(), backplane.Options{})
		if h := n.Health(); h.State != backplane.Down || len(h.Causes) == 0 || h.Causes[0].Kind != backplane.CauseLink {
			t.Errorf("health: %+v", h)
		}
		subscribed := async(func() error {
			_, err := n.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) {})
			return err
		})
		time.Sleep(time.Minute)
		pending(t, "subscribe", subscribed)
		broker.Start()
		wantIs(t, "subscribe", <-subscribed)
		time.Sleep(time.Second)
		if h := n.Health(); h.State != backplane.Up {
			t.Errorf("health: %+v", h)
		}
	})
}
