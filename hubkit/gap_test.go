package hubkit_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/internal/routed"
)

// H7: a gap of the backplane is told once for one cause, and to each connection it concerns once.

// hook records the calls of OnGap.
type hook struct {
	mu    sync.Mutex
	calls []hookCall
}

type hookCall struct {
	gap       hubkit.Gap
	concerned []*hubkit.Connection
	at        time.Time
}

func (h *hook) onGap(_ context.Context, g hubkit.Gap, concerned []*hubkit.Connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, hookCall{g, concerned, time.Now()})
}

func (h *hook) take() []hookCall {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

func (h *hook) options() hubkit.Options { return hubkit.Options{Name: "ward", OnGap: h.onGap} }

// told returns the gaps that the client was told.
func (c *client) told() (gaps []*hubkit.Gap) {
	c.f.t.Helper()
	settle()
	for _, d := range c.sock.Deliveries() {
		if d.Gap != nil {
			gaps = append(gaps, d.Gap)
		}
	}
	return gaps
}

func TestGapConcernsMembersOnceForOneCause(t *testing.T) {
	var h hook
	onBus(t, h.options(), func(f *farm) {
		a, b, other := f.user(1, "u", "4B", "4C"), f.member(1, "4C"), f.member(1, "4D")
		elsewhere := f.member(2, "4E")
		since := time.Now()
		f.bus.gap(backplane.GapLink, 0, group("4B"))
		settleFor(f.t, gapWindow-1) // one after the other, as after a reconnect
		f.bus.gap(backplane.GapLink, 0, group("4C"), backplane.User("u").In("ward"))
		settleFor(f.t, gapWindow-1)
		if calls := h.take(); len(calls) != 0 {
			f.t.Fatalf("told before the cause was quiet: %+v", calls)
		}
		settleFor(f.t, 1)
		calls := h.take()
		if len(calls) != 1 {
			f.t.Fatalf("%d calls of the hook, want 1", len(calls))
		}
		call := calls[0]
		if len(call.concerned) != 2 || !slices.Contains(call.concerned, a.Connection) || !slices.Contains(call.concerned, b.Connection) {
			f.t.Errorf("%d connections concerned", len(call.concerned))
		}
		if g := call.gap; g.Cause != backplane.GapLink || !g.Since.Equal(since) || g.Missed != 0 || g.Groups != nil {
			f.t.Errorf("gap %+v", g) // a user was hit too: more than groups
		}
		for _, c := range []*client{a, b} {
			if told := c.told(); len(told) != 1 {
				f.t.Errorf("a connection concerned was told %d times", len(told))
			}
		}
		for _, c := range []*client{other, elsewhere} {
			if told := c.told(); len(told) != 0 {
				f.t.Errorf("a connection not concerned was told %d times", len(told))
			}
		}
	})
}

func TestGapNamesGroupsAndCounts(t *testing.T) {
	var h hook
	onBus(t, h.options(), func(f *farm) {
		f.member(1, "4B", "4C")
		f.bus.gap(backplane.GapNumbers, 3, group("4C"))
		f.bus.gap(backplane.GapNumbers, 4, group("4B"))
		settleFor(f.t, gapWindow)
		f.bus.gap(backplane.GapNumbers, 3, group("4C"))
		f.bus.gap(backplane.GapNumbers, 0, group("4C"))
		settleFor(f.t, gapWindow)
		calls := h.take()
		if len(calls) != 2 {
			f.t.Fatalf("%d calls of the hook, want 2", len(calls))
		}
		if g := calls[0].gap; g.Missed != 7 || !slices.Equal(g.Groups, []string{"4B", "4C"}) {
			f.t.Errorf("the first gap is %+v", g)
		}
		if g := calls[1].gap; g.Missed != 0 || !slices.Equal(g.Groups, []string{"4C"}) {
			f.t.Errorf("the second gap is %+v", g)
		}
	})
}

func TestGapOfWhatEverybodyHears(t *testing.T) {
	var h hook
	onBus(t, h.options(), func(f *farm) {
		f.bus.gap(backplane.GapLink, 0, backplane.All().In("ward"))
		settleFor(f.t, gapWindow)
		if calls := h.take(); len(calls) != 0 {
			f.t.Errorf("a gap without connections was told: %+v", calls)
		}
		a, b := f.member(1), f.member(1, "4B")
		f.bus.gap(backplane.GapLink, 0, backplane.All().In("ward"))
		late := f.member(1)
		a.Disconnect(hubkit.Reason{})
		settleFor(f.t, gapWindow)
		calls := h.take()
		if len(calls) != 1 || !slices.Equal(calls[0].concerned, []*hubkit.Connection{b.Connection}) {
			f.t.Errorf("calls %+v", calls)
		}
		if len(b.told()) != 1 || len(late.told()) != 0 {
			f.t.Errorf("told %d and %d times", len(b.told()), len(late.told()))
		}
	})
}

// A cause that does not end is told nevertheless, and told again.
func TestGapThatGoesOn(t *testing.T) {
	var h hook
	onBus(t, h.options(), func(f *farm) {
		c := f.member(1, "4B")
		for range 50 {
			f.bus.gap(backplane.GapNumbers, 1, group("4B"))
			settleFor(f.t, gapWindow/2)
		}
		settleFor(f.t, gapWindow)
		calls := h.take()
		missed := uint64(0)
		for _, call := range calls {
			missed += call.gap.Missed
		}
		if len(calls) != 2 || missed != 50 {
			f.t.Errorf("%d calls of the hook with %d missed, want 2 with 50", len(calls), missed)
		}
		if told := c.told(); len(told) != 2 {
			f.t.Errorf("told %d times", len(told))
		}
	})
}

func TestGapsOfDifferentCausesAreTwo(t *testing.T) {
	var h hook
	onBus(t, h.options(), func(f *farm) {
		f.member(1, "4B")
		f.bus.gap(backplane.GapOverflow, 1, group("4B"))
		settleFor(f.t, 1)
		f.bus.gap(backplane.GapLink, 0, group("4B"))
		settleFor(f.t, 2*gapWindow)
		calls := h.take()
		if len(calls) != 2 || calls[0].gap.Cause != backplane.GapOverflow || calls[1].gap.Cause != backplane.GapLink {
			f.t.Errorf("calls %+v", calls)
		}
	})
}

func TestGapIsSpread(t *testing.T) {
	var h hook
	o := h.options()
	o.GapSpread = 10 * time.Second
	onBus(t, o, func(f *farm) {
		const clients = 200
		all := make([]*client, clients)
		for i := range all {
			all[i] = f.member(1, "4B", "g"+strconv.Itoa(i))
		}
		f.bus.gap(backplane.GapLink, 0, group("4B"))
		settleFor(f.t, gapWindow)
		if calls := h.take(); len(calls) != 1 || len(calls[0].concerned) != clients {
			f.t.Fatalf("the hook was called %d times", len(calls))
		}
		seconds := func(from, to int) {
			for second := from; second <= to; second++ {
				before := toldOf(all)
				settleFor(f.t, time.Second)
				if now := toldOf(all) - before; now < 5 || now > 60 {
					f.t.Errorf("%d of %d connections were told in second %d of 10", now, clients, second)
				}
			}
		}
		seconds(1, 5)
		f.bus.gap(backplane.GapOverflow, 0, group("4B")) // again, while half of them wait: these are told once
		settleFor(f.t, gapWindow)
		before := toldOf(all)
		seconds(6, 9)
		settleFor(f.t, 12*time.Second)
		if told := toldOf(all); told != clients+before {
			f.t.Errorf("told %d times, want %d and again the %d that had been told before the second gap", told, clients, before)
		}
	})
}

func toldOf(all []*client) (n int) {
	for _, c := range all {
		n += len(c.told())
	}
	return n
}

// A message of a version that this hub does not know must not be passed over in silence.
func TestUnreadableIsAGap(t *testing.T) {
	var h hook
	onBus(t, h.options(), func(f *farm) {
		c := f.member(1, "4B")
		if err := f.seats[0].Publish(f.t.Context(), group("4B"), []byte{99, 0, 'x'}); err != nil {
			f.t.Fatal(err)
		}
		settleFor(f.t, gapWindow)
		calls := h.take()
		if len(calls) != 1 || calls[0].gap.Cause != backplane.GapUnreadable || calls[0].gap.Missed != 1 || calls[0].gap.Err == nil {
			f.t.Errorf("calls %+v", calls)
		}
		if told := c.told(); len(told) != 1 || len(c.sock.Payloads()) != 0 {
			f.t.Errorf("told %d times, payloads %q", len(told), c.sock.Payloads())
		}
		if s := f.hubs[1].Stats(); s.Unreadable != 1 {
			f.t.Errorf("%d unreadable", s.Unreadable)
		}
	})
}

// The whole way: a node is cut off, and comes back.
func TestCutIsOneGap(t *testing.T) {
	for name, length := range map[string]time.Duration{"short": 3 * time.Second, "long": time.Minute} {
		t.Run(name, func(t *testing.T) {
			var h hook
			onNodes(t, h.options(), func(f *farm) { cutAndHeal(f, &h, length) })
		})
	}
}

func cutAndHeal(f *farm, h *hook, length time.Duration) {
	f.t.Helper()
	var groups []string
	for i := range 100 {
		groups = append(groups, "g"+strconv.Itoa(i))
	}
	a, b, well := f.user(1, "u", groups...), f.member(1, groups[0]), f.member(2, groups[0])
	f.broker.Cut(f.nodes[1].ID())
	f.send(0, hubkit.ToGroups(groups[0]), "missed")
	well.got("missed")
	settleFor(f.t, length)
	f.broker.Heal(f.nodes[1].ID())
	settleFor(f.t, 10*time.Second)
	var here []hookCall
	for _, call := range h.take() {
		if slices.Contains(call.concerned, a.Connection) {
			here = append(here, call)
		}
	}
	if len(here) != 1 || len(here[0].concerned) != 2 || here[0].gap.Cause != backplane.GapLink {
		f.t.Errorf("calls %+v", here)
	}
	for _, c := range []*client{a, b} {
		if len(c.told()) != 1 || len(c.sock.Payloads()) != 0 {
			f.t.Errorf("told %d times, payloads %q", len(c.told()), c.sock.Payloads())
		}
	}
	if told := well.told(); len(told) > 0 && told[0].Cause != backplane.GapLink && told[0].Cause != backplane.GapMember {
		f.t.Errorf("an instance that was not cut off was told %v", told[0].Cause)
	}
	f.send(0, hubkit.ToGroups(groups[0]), "again")
	a.got("again")
	b.got("again")
}

// In a cluster of servers the death of an instance is a gap for the connections of all others, once: its server may have died with
// it, and what that had taken.
func TestDeathIsOneGap(t *testing.T) {
	var h hook
	onCluster(t, h.options(), func(f *farm, c *routed.Cluster) {
		dies := f.nodes[0]
		well := []*client{f.user(1, "u", "4B", "4C"), f.member(2)}
		settleFor(f.t, 10*time.Second)
		c.Part(dies.ID())
		f.send(0, hubkit.ToGroups("4B"), "missed")
		f.send(0, hubkit.ToAll(), "missed")
		c.CutNode(dies.ID())
		settleFor(f.t, 20*time.Second)
		told := map[*hubkit.Connection]int{}
		for _, call := range h.take() {
			for _, conn := range call.concerned {
				told[conn]++
			}
		}
		for _, w := range well {
			gaps := w.told()
			if len(gaps) != 1 || gaps[0].Cause != backplane.GapMember || told[w.Connection] != 1 {
				f.t.Errorf("told %+v, the hook %d times", gaps, told[w.Connection])
			}
		}
	})
}

func TestStateIsToldOnceForEachChange(t *testing.T) {
	var mu sync.Mutex
	var states []backplane.State
	seen := func() []backplane.State {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(states)
	}
	o := hubkit.Options{Name: "ward", OnState: func(h backplane.Health) {
		mu.Lock()
		defer mu.Unlock()
		states = append(states, h.State)
	}}
	onNodes(t, hubkit.Options{Name: "other"}, func(f *farm) {
		settleFor(f.t, 10*time.Second)
		h, err := hubkit.New(f.nodes[1], o)
		if err != nil {
			f.t.Fatal(err)
		}
		settle()
		if got := seen(); !slices.Equal(got, []backplane.State{backplane.Up}) {
			f.t.Errorf("at first %v", got)
		}
		f.broker.Cut(f.nodes[1].ID())
		settleFor(f.t, time.Minute)
		f.broker.Heal(f.nodes[1].ID())
		settleFor(f.t, time.Minute)
		got := seen()
		if len(got) < 3 || !slices.Contains(got, backplane.Down) || got[len(got)-1] != backplane.Up {
			f.t.Errorf("states %v", got)
		}
		for i := range got[1:] {
			if got[i] == got[i+1] {
				f.t.Errorf("a state was told twice: %v", got)
			}
		}
		if err := h.Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		f.broker.Cut(f.nodes[1].ID())
		settleFor(f.t, time.Minute)
		if after := seen(); len(after) != len(got) {
			f.t.Errorf("told after Close: %v", after)
		}
		f.broker.Heal(f.nodes[1].ID())
	})
}
