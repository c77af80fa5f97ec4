package backplane

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/inmem"
)

func ignoreEvents(context.Context, Event) {}

// Whatever came and went, in an outage too: the tables hold what is in force, and nothing else.
func TestInterestsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n, err := Open(t.Context(), broker.Opener(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		own := len(n.interests.m)
		check := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			n.interests.mu.Lock()
			defer n.interests.mu.Unlock()
			todo := 0
			for _, list := range n.interests.todo {
				todo += len(list)
			}
			if len(n.interests.m) != own+want || todo != 0 || n.interests.denied != 0 {
				t.Errorf("%s: %d interests, want %d; %d to be reconciled; %d denied", what, len(n.interests.m)-own, want, todo, n.interests.denied)
			}
		}
		subscribe := func(i int) Subscription {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			s, _ := n.Subscribe(ctx, Group(strconv.Itoa(i)), ignoreEvents)
			return s
		}
		for i := range 100 {
			if err := subscribe(i).Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		check("connected", 0)
		kept := subscribe(1000)
		broker.Cut(n.ID())
		for i := range 100 {
			subscribe(i)
		}
		check("in an outage", 1)
		if err := kept.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("closed in an outage", 0)
		broker.Heal(n.ID())
		time.Sleep(5 * time.Second)
		check("healed", 0)
		kept = subscribe(1000)
		broker.Hang(n.ID())
		if err := kept.Close(t.Context()); err != nil { // the unsubscribe is under way
			t.Fatal(err)
		}
		synctest.Wait()
		broker.Cut(n.ID())
		check("closed on a link that hangs and fails", 0)
		broker.Heal(n.ID())
		time.Sleep(5 * time.Second)
		broker.Hang(n.ID())
		for i := range 100 {
			subscribe(i)
		}
		time.Sleep(time.Second)
		broker.Heal(n.ID())
		time.Sleep(10 * time.Second)
		check("hung", 0)
		broker.Deny(func(r inmem.Request) bool { return r.Op == inmem.OpSubscribe })
		for i := range 100 {
			subscribe(i)
		}
		check("denied", 0)
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// Two addresses whose channels have one name are not mixed up: the frame's address decides, and the second one cannot be
// subscribed beside the first.
func TestCollidingChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(t.Context(), inmem.NewBroker().Opener(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := n.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		one, other := Group("one"), Group("other")
		var heard []string
		if _, err = n.Subscribe(t.Context(), one, func(_ context.Context, e Event) {
			if m, ok := e.(*Message); ok {
				heard = append(heard, string(m.Payload))
			}
		}); err != nil {
			t.Fatal(err)
		}
		o := n.outletFor(other)
		o.channel = n.names.channel(one) // as if both had one hash
		for to, payload := range map[Address]string{one: "for one", other: "for the other"} {
			if err = n.Publish(t.Context(), to, []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(heard) != 1 || heard[0] != "for one" {
			t.Errorf("heard %q", heard)
		}
		n.interests.mu.Lock()
		n.interests.m[n.names.channel(other)] = n.interests.m[n.names.channel(one)]
		n.interests.mu.Unlock()
		if _, err = n.Subscribe(t.Context(), other, ignoreEvents); !errors.Is(err, ErrInvalidAddress) {
			t.Errorf("a subscription to an address whose channel is another one's: %v", err)
		}
	})
}

// An idle subscription costs little beyond its name. The bound is the engine's part of the goal of 500 bytes.
func TestIdleSubscriptionsAreSmall(t *testing.T) {
	n, err := Open(t.Context(), inmem.NewBroker().Opener(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	const many, most = 50_000, 350
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	t0 := &interestTable{todo: map[*link][]*interest{}, m: map[string]*interest{}}
	t0.counted.m = map[*interest]struct{}{}
	subs := make([]*subscription, 0, many)
	for i := range many {
		s := &subscription{n: n, handler: ignoreEvents}
		if _, err := t0.join(n, Group("group-of-32-bytes-with-number-"+strconv.Itoa(i)), s); err != nil {
			t.Fatal(err)
		}
		s.in.waiters = nil
		subs = append(subs, s)
	}
	each := (heap() - before) / many
	names := uint64(len("default:g:group-of-32-bytes-with-number-10000"))
	t.Logf("%d bytes each beyond the name", each-names)
	if each > most+names {
		t.Errorf("%d bytes each beyond the name", each-names)
	}
	runtime.KeepAlive(subs)
	n.stats.subscriptions.Store(0)
}
