package backplane_test

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/internal/routed"
)

// flicker takes the route between the servers 0 and 1 away for a moment in which a message is published, shorter than that a
// heartbeat would be missing.
func flicker(c *routed.Cluster, say func()) {
	c.Cut(0, 1)
	say()
	c.Heal(0, 1)
	<-time.After(time.Second) // until the servers know again what is subscribed
}

// The first message that a new subscription would hear is lost without a word. Its publisher has been publishing to the address for
// a while: where its numbers stood is known from its answer to the barrier, so the loss is counted.
func TestFirstMessageIsCounted(t *testing.T) {
	for name, subscribe := range map[string]func(c *routed.Cluster, w *told, at *backplane.Node, to backplane.Address) *listening{
		"new": func(_ *routed.Cluster, w *told, at *backplane.Node, to backplane.Address) *listening {
			return w.listen(at, to)
		},
		"beside others": func(_ *routed.Cluster, w *told, at *backplane.Node, to backplane.Address) *listening {
			for i := range 50 {
				w.listen(at, backplane.User(strconv.Itoa(i)).In("ward"))
			}
			return w.listen(at, to)
		},
		"in another scope": func(_ *routed.Cluster, w *told, at *backplane.Node, to backplane.Address) *listening {
			return w.listen(at, to.In("ward"))
		},
		"restored": func(c *routed.Cluster, w *told, at *backplane.Node, to backplane.Address) *listening {
			e := w.listen(at, to)
			c.Kick(at.ID())
			<-time.After(time.Second)
			return e
		},
	} {
		for seed := range uint64(shorter(10, 3)) {
			t.Run(fmt.Sprintf("%s/seed=%d", name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := lan(seed)
					a, b := openAt(t, c, 0, "a"), openAt(t, c, 1, "b")
					w, room := newTold(t), backplane.Group("room")
					<-time.After(3 * time.Second)
					for _, to := range []backplane.Address{room, room.In("ward"), room} { // and an epoch of its own for each
						w.say(b, to)
					}
					<-time.After(100 * time.Millisecond)
					e := subscribe(c, w, a, room)
					before := w.gaps(e)
					flicker(c, func() { w.say(b, e.to) })
					w.say(b, e.to)
					<-time.After(100 * time.Millisecond)
					if missed := w.judge(); missed != 1 {
						t.Errorf("%d messages were missed, want 1", missed)
					}
					w.mu.Lock()
					defer w.mu.Unlock()
					counted := uint64(0)
					for _, h := range e.events {
						if h.gap != nil && h.gap.Cause == backplane.GapNumbers {
							counted += h.gap.Missed
						}
					}
					if counted != 1 {
						t.Errorf("gaps counted %d messages of one that was missed (%d gaps were told before it)", counted, before)
					}
				})
			})
		}
	}
}

// While others publish to the address without pause, a subscription that misses nothing is told of no gap.
func TestCountsBeginWithTheBarrier(t *testing.T) {
	for seed := range uint64(shorter(20, 4)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := lan(seed)
				a, b, third := openAt(t, c, 0, "a"), openAt(t, c, 1, "b"), openAt(t, c, 2, "third")
				w, room := newTold(t), backplane.Group("room")
				over := time.Now().Add(3 * time.Second)
				for i, n := range []*backplane.Node{b, third} {
					go func() {
						for time.Now().Before(over) {
							w.say(n, room)
							<-time.After(time.Duration(3+2*i) * time.Millisecond)
						}
					}()
				}
				var ears []*listening
				for time.Now().Before(over) {
					<-time.After(97 * time.Millisecond)
					e := w.listen(a, room)
					<-time.After(31 * time.Millisecond)
					ears = append(ears, e)
					w.leave(e)
				}
				<-time.After(20 * time.Second)
				w.judge()
				for _, e := range ears {
					if k := w.gaps(e); k > 0 {
						t.Errorf("%s was told of %d gaps", e.name, k)
					}
				}
			})
		})
	}
}

// A message is lost without a word, and then its tail mark as well, on a subscription that is new or has just been restored.
func TestLostWithItsMark(t *testing.T) {
	for _, restored := range []bool{false, true} {
		for seed := range uint64(shorter(20, 5)) {
			t.Run(fmt.Sprintf("restored=%t/seed=%d", restored, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := lan(seed)
					a, b := openAt(t, c, 0, "a"), openAt(t, c, 1, "b")
					w, room := newTold(t), backplane.Group("room")
					<-time.After(3*time.Second + time.Duration(seed)*100*time.Millisecond)
					w.say(b, room)
					<-time.After(100 * time.Millisecond)
					e := w.listen(a, room)
					if restored {
						c.Kick(a.ID())
						<-time.After(time.Second)
					}
					flicker(c, func() { w.say(b, e.to) })
					<-time.After(500 * time.Millisecond)
					c.Cut(0, 1) // the mark
					<-time.After(1100 * time.Millisecond)
					c.Heal(0, 1)
					<-time.After(time.Second)
					w.say(b, e.to)
					<-time.After(30 * time.Second)
					w.judge()
				})
			})
		}
	}
}
