package hubkit_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// H1: one copy of a send, however often a connection is addressed.

func TestOneCopyHoweverOftenAddressed(t *testing.T) {
	onBoth(t, func(f *farm) {
		var clients []*client
		for i := range instances {
			clients = append(clients, f.user(i, "u", "a", "b", "c"), f.user(i, "v", "b"), f.member(i, "c"))
		}
		var ids []string
		for _, c := range clients {
			ids = append(ids, c.ID())
		}
		everything := hubkit.Target{
			Groups: []string{"a", "b", "c", "a"}, Users: []string{"u", "v", "u"}, Connections: append(ids, ids[0]),
		}
		f.send(0, everything, "one")
		for _, c := range clients {
			c.got("one")
		}
		f.send(1, hubkit.Target{Groups: everything.Groups}, "two")
		everything.All = true
		f.send(2, everything, "three")
		for _, c := range clients {
			c.settled(3)
		}
	})
}

// Each pair of ways in which a connection can be addressed.
func TestOneCopyWhenAddressedInTwoWays(t *testing.T) {
	onBoth(t, func(f *farm) {
		c, groupOnly, userOnly := f.user(1, "u", "a", "b"), f.member(1, "a"), f.user(1, "u")
		id := []string{c.ID()}
		for i, to := range []hubkit.Target{
			{Groups: []string{"a", "b"}},
			{Groups: []string{"a"}, Users: []string{"u"}},
			{Groups: []string{"a"}, Connections: id},
			{Users: []string{"u"}, Connections: id},
		} {
			for _, from := range []int{0, 1} { // to the connection through the broker, and without it
				f.send(from, to, strconv.Itoa(i))
				settle()
			}
		}
		c.got("0", "0", "1", "1", "2", "2", "3", "3")
		groupOnly.got("0", "0", "1", "1", "2", "2")
		userOnly.got("1", "1", "3", "3")
	})
}

// A burst of sends to two groups, whose copies overtake one another: each member of both gets each once.
func TestOneCopyInABurst(t *testing.T) {
	onBoth(t, func(f *farm) {
		const sends = 500
		c, only := f.member(1, "a", "b"), f.member(2, "b")
		c.sock.Block()
		for i := range sends {
			f.send(0, hubkit.ToGroups("a", "b"), strconv.Itoa(i))
			if i%200 == 199 { // less than an outbox
				c.sock.Unblock()
				only.settled(i + 1)
				c.sock.Block()
			}
		}
		c.sock.Unblock()
		c.settled(sends)
		got := c.sock.Payloads()
		slices.Sort(got)
		if unique := len(slices.Compact(got)); unique != sends {
			f.t.Errorf("%d different payloads of %d", unique, sends)
		}
		var want []string
		for i := range sends {
			want = append(want, strconv.Itoa(i))
		}
		only.got(want...)
	})
}

// A connection that joins and leaves while the copies travel, in every order of these events: one that was a member of
// one of the groups throughout gets exactly one copy, every other at most one.
func TestOneCopyWhileJoiningAndLeaving(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		keep := f.member(0, "a", "b") // keeps both groups subscribed
		for _, start := range [][]string{nil, {"a"}, {"b"}, {"a", "b"}} {
			for _, order := range permutations([]string{"toggle a", "toggle b", "release a", "release b"}) {
				travel(f, start, order)
			}
		}
		keep.settled(4 * 24)
	})
}

// travel sends to groups a and b, and lets the events happen before the copies have arrived.
func travel(f *farm, start, order []string) {
	f.t.Helper()
	c := f.member(0, start...)
	f.bus.hold(group("a"))
	f.bus.hold(group("b"))
	f.send(1, hubkit.ToGroups("a", "b"), "x")
	throughout := false
	for _, g := range start {
		// It is a member from before the send until the group's copy has arrived.
		if slices.Index(order, "release "+g) < slices.Index(order, "toggle "+g) {
			throughout = true
		}
	}
	for _, event := range order {
		what, g, _ := split(event)
		var err error
		switch {
		case what == "release":
			f.bus.release(group(g))
		case slices.Contains(c.Groups(), g):
			err = c.Leave(f.t.Context(), g)
		default:
			err = c.Join(f.t.Context(), g)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	settle()
	got := len(c.sock.Payloads())
	if got > 1 || throughout && got != 1 {
		f.t.Errorf("member of %q, then %q: %d copies", start, order, got)
	}
	c.Disconnect(hubkit.Reason{})
}

func split(event string) (what, name string, err error) {
	_, err = fmt.Sscan(event, &what, &name)
	return what, name, err
}

func permutations(of []string) [][]string {
	if len(of) < 2 {
		return [][]string{of}
	}
	var all [][]string
	for i, first := range of {
		rest := slices.Concat(of[:i], of[i+1:])
		for _, p := range permutations(rest) {
			all = append(all, append([]string{first}, p...))
		}
	}
	return all
}

// Copies that overtake one another do not change the order in which a connection hears a group, if it is reached by
// that group only.
func TestOrderOfAGroupAmongSendsToSeveral(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c, other := f.member(1, "a"), f.member(1, "b")
		f.bus.hold(group("a"))
		f.send(0, hubkit.ToGroups("a"), "1")
		f.send(0, hubkit.ToGroups("a", "b"), "2")
		f.send(0, hubkit.ToGroups("a"), "3")
		other.got("2")
		c.got()
		f.bus.release(group("a"))
		c.got("1", "2", "3")
	})
}

func TestOrderOfSendsToOneTarget(t *testing.T) {
	onBoth(t, func(f *farm) {
		c := f.user(1, "u", "a")
		var want []string
		for i := range 100 {
			want = append(want, strconv.Itoa(i))
			f.send(0, hubkit.ToGroups("a"), strconv.Itoa(i))
		}
		c.got(want...)
	})
}

// A copy that comes so late that nobody can know whether the connection had another: not delivered, and told.
func TestCopyTooLateIsAGap(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		const window = 4096
		c := f.member(1, "a", "b")
		f.connect(1, hubkit.ConnectOptions{Outbox: hubkit.OutboxOptions{Policy: hubkit.DropOldest}}, "c", "d")
		f.bus.hold(group("a"))
		f.send(0, hubkit.ToGroups("a", "b"), "early")
		for range window {
			f.send(2, hubkit.ToGroups("c", "d"), "other")
		}
		c.got("early")
		f.bus.release(group("a"))
		settle()
		if len(c.sock.Payloads()) != 1 {
			f.t.Errorf("%d copies", len(c.sock.Payloads()))
		}
		settleFor(f.t, gapWindow)
		if s := f.hubs[1].Stats(); s.Gaps != 1 {
			f.t.Errorf("%d gaps were told, want 1", s.Gaps)
		}
		if last := c.sock.Deliveries()[len(c.sock.Deliveries())-1]; last.Gap == nil || last.Gap.Cause != backplane.GapOverflow {
			f.t.Errorf("the connection was not told: %+v", last)
		}
	})
}
