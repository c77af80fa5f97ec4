package backplane_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/internal/routed"
)

// A route between two servers is cut or frozen, and healed, while nodes at both of them and at a third one publish and
// subscribe: what is not heard is told by a gap, on both sides, and who is connected to the third one misses nothing.
func TestRouteFails(t *testing.T) {
	for name, fail := range map[string]func(*routed.Cluster, int, int){"cut": (*routed.Cluster).Cut, "freeze": (*routed.Cluster).Freeze} {
		for _, d := range []time.Duration{50 * time.Millisecond, time.Second, 3 * time.Second, 9 * time.Second, 20 * time.Second} {
			for seed := range uint64(shorter(3, 1)) {
				t.Run(fmt.Sprintf("%s/%v/seed=%d", name, d, seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { routeFails(t, lan(seed), d, fail) })
				})
			}
		}
	}
}

func routeFails(t *testing.T, c *routed.Cluster, d time.Duration, fail func(*routed.Cluster, int, int)) {
	t.Helper()
	a, b, third := openAt(t, c, 0, "a"), openAt(t, c, 1, "b"), openAt(t, c, 2, "third")
	w := newTold(t)
	room, side := backplane.Group("room"), backplane.Group("side")
	for _, n := range []*backplane.Node{a, b, third} {
		w.listen(n, room)
	}
	aside := w.listen(third, side) // hears a, whose route to it is well
	<-time.After(3 * time.Second)
	over := time.Now().Add(d + 6*time.Second)
	var all sync.WaitGroup
	for _, n := range []*backplane.Node{a, b, third} {
		all.Go(func() { // dense around the moments that matter
			for time.Now().Before(over) {
				w.say(n, room)
				<-time.After(7 * time.Millisecond)
			}
		})
	}
	all.Go(func() {
		for time.Now().Before(over) {
			w.say(a, side)
			<-time.After(7 * time.Millisecond)
		}
	})
	// Joins during the fault, on each side, and what the other side publishes at once.
	for i, sides := range [][2]*backplane.Node{{a, b}, {b, a}, {third, a}} {
		all.Go(func() {
			for k := 0; time.Now().Before(over.Add(-time.Second)); k++ {
				to := backplane.Group(fmt.Sprintf("join %d.%d", i, k))
				w.listen(sides[0], to)
				for range 20 {
					w.say(sides[1], to)
					<-time.After(11 * time.Millisecond)
				}
			}
		})
	}
	fail(c, 0, 1)
	<-time.After(d)
	c.Heal(0, 1)
	all.Wait()
	<-time.After(15 * time.Second)
	w.judge()
	if k := w.gaps(aside); k > 0 && !mayDoubt(w, aside) {
		t.Errorf("%s, whose routes were well, was told of %d gaps", aside.name, k)
	}
}

// mayDoubt reports whether all gaps of a subscription are of the kind that a member which missed something elsewhere explains.
func mayDoubt(w *told, e *listening) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range e.events {
		if h.gap != nil && h.gap.Cause != backplane.GapMember {
			return false
		}
	}
	return true
}

// Nodes that start at the same moment, with a route between them that is slower than their gates last, publish before they know
// one another. Each tells the other that it may have missed something: both at the same time, and that must come to an end.
func TestNodesThatMeetTooLate(t *testing.T) {
	for seed := range uint64(shorter(20, 5)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := lan(seed)
				c.SetLatency(0, 1, 400*time.Millisecond)
				nodes := make([]*backplane.Node, 2)
				w, room := newTold(t), backplane.Group("room")
				var both sync.WaitGroup
				for i := range nodes {
					both.Go(func() { nodes[i] = openAt(t, c, i) })
				}
				both.Wait()
				for _, n := range nodes {
					w.listen(n, room)
				}
				for range 100 {
					w.say(nodes[0], room)
					w.say(nodes[1], room)
					<-time.After(20 * time.Millisecond)
				}
				<-time.After(5 * time.Second)
				if missed := w.judge(); missed == 0 {
					t.Error("nothing was missed: the test proves nothing")
				}
				inboxes := func() (k int) {
					for _, n := range nodes {
						for channel, frames := range c.Heard(n.ID()) {
							if strings.Contains(channel, "inbox") {
								k += frames
							}
						}
					}
					return k
				}
				before := inboxes()
				<-time.After(time.Minute)
				if k := inboxes() - before; k > 60 { // each proves its inbox every 4 s
					t.Errorf("their inboxes heard %d frames in a minute without anything to ask", k)
				}
				late := w.listen(nodes[0], backplane.Group("late"))
				w.say(nodes[1], late.to)
				<-time.After(5 * time.Second)
				w.judge()
				if k := w.gaps(late); k > 0 {
					t.Errorf("a subscription long after that was told of %d gaps", k)
				}
			})
		})
	}
}

// A node that connects anew while the route to a member is away stays at its gate for long. What it tells its subscriptions when it
// hears something again is not all: others come and publish meanwhile at the far server, of whom it knows nothing.
func TestGateThatLastsForLong(t *testing.T) {
	for seed := range uint64(shorter(10, 3)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := lan(seed)
				a, third := openAt(t, c, 0, "a"), openAt(t, c, 1, "third")
				openAt(t, c, 2, "far")
				w, room := newTold(t), backplane.Group("room")
				atA := w.listen(a, room)
				<-time.After(3 * time.Second)
				c.Cut(0, 2)
				c.Kick(a.ID())
				<-time.After(time.Second)
				w.say(third, room)
				<-time.After(time.Second)
				if k := w.gaps(atA); k != 1 {
					t.Errorf("%d gaps when something was heard again, want 1", k)
				}
				newcomer := openAt(t, c, 2, "newcomer")
				for range 10 {
					w.say(newcomer, room)
				}
				c.Heal(0, 2)
				<-time.After(2 * time.Second)
				w.say(newcomer, room)
				<-time.After(10 * time.Second)
				if missed := w.judge(); missed == 0 {
					t.Error("nothing was missed: the test proves nothing")
				}
			})
		})
	}
}
