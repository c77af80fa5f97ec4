package hubkit_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// Gaps that wait for one connection are told as one, which must not say less than each of them did.

// A client that fetches only the groups that a gap names must not be told of the first gap's groups alone.
func TestGapsThatWaitNameNoGroupsLess(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c := f.member(1, "4B", "4C")
		c.sock.Block()
		if err := c.Connection.Send([]byte("first")); err != nil {
			f.t.Fatal(err)
		}
		if err := c.sock.WaitBlocked(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
		begun := time.Now()
		f.bus.gap(backplane.GapNumbers, 2, group("4B"))
		settleFor(f.t, gapWindow)
		f.bus.gap(backplane.GapNumbers, 3, group("4B"))
		settleFor(f.t, gapWindow)
		c.sock.Unblock()
		told := c.told()
		if len(told) != 1 || told[0].Missed != 5 || !slices.Equal(told[0].Groups, []string{"4B"}) || !told[0].Since.Equal(begun) {
			f.t.Errorf("two gaps of one group were told as %+v", told)
		}

		c.sock.Block()
		if err := c.Connection.Send([]byte("second")); err != nil {
			f.t.Fatal(err)
		}
		if err := c.sock.WaitBlocked(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
		f.bus.gap(backplane.GapNumbers, 2, group("4B"))
		settleFor(f.t, gapWindow)
		f.bus.gap(backplane.GapLink, 0, group("4C"))
		settleFor(f.t, gapWindow)
		c.sock.Unblock()
		told = c.told()
		if len(told) != 2 || told[1].Missed != 0 || len(told[1].Groups) != 0 || told[1].Cause != backplane.GapNumbers {
			f.t.Errorf("gaps of two groups were told as %+v", told[len(told)-1])
		}
	})
}

func TestGapsThatAreSpreadNameNoGroupsLess(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward", GapSpread: time.Hour}, func(f *farm) {
		c := f.member(1, "4B", "4C")
		f.bus.gap(backplane.GapOverflow, 2, group("4B"))
		settleFor(f.t, gapWindow)
		f.bus.gap(backplane.GapLink, 0, group("4B"), group("4C"))
		settleFor(f.t, time.Hour)
		told := c.told()
		if len(told) != 1 || told[0].Missed != 0 || !slices.Equal(told[0].Groups, []string{"4B", "4C"}) {
			f.t.Errorf("told %+v", told)
		}
	})
}

// A hook that does not return keeps the hub neither from telling connections nor, in the end, from telling the hook.
func TestStuckHookDelaysNoConnection(t *testing.T) {
	var h hook
	var release, entered chan struct{}
	first := true
	o := hubkit.Options{Name: "ward", OnGap: func(ctx context.Context, g hubkit.Gap, concerned []*hubkit.Connection) {
		if first {
			first = false
			close(entered)
			<-release
			return
		}
		h.onGap(ctx, g, concerned)
	}}
	onBus(t, o, func(f *farm) {
		release, entered = make(chan struct{}), make(chan struct{})
		a, b, leaves := f.member(1, "4B"), f.member(1, "4C"), f.member(1, "4B")
		f.bus.gap(backplane.GapLink, 0, group("4B"))
		settleFor(f.t, gapWindow)
		<-entered
		for range 3 {
			f.bus.gap(backplane.GapLink, 0, group("4B"))
			f.bus.gap(backplane.GapNumbers, 2, group("4C"))
			settleFor(f.t, gapWindow)
		}
		f.bus.gap(backplane.GapMember, 0, group("4C"))
		settleFor(f.t, gapWindow)
		if len(a.told()) != 4 || len(b.told()) != 4 {
			f.t.Errorf("while the hook was stuck, connections were told %d and %d times, want 4 and 4", len(a.told()), len(b.told()))
		}
		leaves.Disconnect(hubkit.Reason{})
		close(release)
		settle()
		calls := h.take()
		if len(calls) != 2 {
			f.t.Fatalf("%d calls of the hook after it was stuck, want one for each cause", len(calls))
		}
		link, numbers := calls[0], calls[1]
		if link.gap.Cause != backplane.GapLink || len(link.concerned) != 2 || !slices.Equal(link.gap.Groups, []string{"4B", "4C"}) {
			f.t.Errorf("the link's gaps: %+v, %d concerned", link.gap, len(link.concerned))
		}
		if numbers.gap.Missed != 6 || !slices.Equal(numbers.concerned, []*hubkit.Connection{b.Connection}) {
			f.t.Errorf("the gaps of numbers: %+v, %d concerned", numbers.gap, len(numbers.concerned))
		}
	})
}
