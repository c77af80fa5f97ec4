package backplane_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
)

// Nodes that are opened at the same time find each other before they publish.
func TestNodesOpenedAtTheSameTimeMissNothing(t *testing.T) {
	for seed := range uint64(shorter(50, 10)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := lan(seed)
				nodes := make([]*backplane.Node, 6)
				var all sync.WaitGroup
				for i := range nodes {
					all.Go(func() { nodes[i] = openAt(t, c, i%3) })
				}
				all.Wait()
				w, room := newTold(t), backplane.Group("room")
				for _, n := range nodes {
					all.Go(func() {
						w.listen(n, room)
						for range 100 {
							w.say(n, room)
							<-time.After(50 * time.Millisecond)
						}
					})
				}
				all.Wait()
				<-time.After(5 * time.Second)
				if missed := w.judge(); missed > 0 {
					t.Errorf("%d were missed", missed)
				}
				for _, e := range w.ears {
					if k := w.gaps(e); k > 0 {
						t.Errorf("%s: %d gaps", e.name, k)
					}
				}
			})
		})
	}
}

// When all is quiet, what nodes of a cluster say to each other is not more than what they are to say each second.
func TestIdleClusterIsQuiet(t *testing.T) {
	for _, together := range []bool{true, false} {
		t.Run(fmt.Sprintf("together=%v", together), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := lan(1)
				nodes := make([]*backplane.Node, 3)
				var all sync.WaitGroup
				for i := range nodes {
					all.Go(func() { nodes[i] = openAt(t, c, i) })
					if !together {
						all.Wait()
					}
				}
				all.Wait()
				w := newTold(t)
				for _, n := range nodes {
					w.listen(n, backplane.All())
					w.say(n, backplane.All())
				}
				<-time.After(time.Minute) // all that a start brings along is over
				heard := func(n *backplane.Node) (frames int) {
					for _, k := range c.Heard(n.ID()) {
						frames += k
					}
					return frames
				}
				before := make([]int, len(nodes))
				for i, n := range nodes {
					before[i] = heard(n)
				}
				const seconds = 30
				<-time.After(seconds * time.Second)
				for i, n := range nodes {
					// A probe each second, three heartbeats each two, and a message each ten for a subscription that is proven.
					if k := heard(n) - before[i]; k > 4*seconds {
						t.Errorf("node %d heard %d frames in %d s", i, k, seconds)
					}
				}
			})
		})
	}
}

// A node that is opened while a route is cut hears of who is behind it before it knows that it is there: by a gap, in front of
// the first message.
func TestNewcomerDuringACut(t *testing.T) {
	for seed := range uint64(shorter(20, 5)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := lan(seed)
				a := openAt(t, c, 0, "a")
				openAt(t, c, 1, "b")
				openAt(t, c, 2, "third")
				w, room := newTold(t), backplane.Group("room")
				w.listen(a, room)
				<-time.After(3 * time.Second)
				c.Cut(0, 1)
				newcomer := openAt(t, c, 1, "newcomer")
				w.listen(newcomer, room)
				var both sync.WaitGroup
				for _, n := range []*backplane.Node{a, newcomer} {
					both.Go(func() {
						for range 500 {
							w.say(n, room)
							<-time.After(7 * time.Millisecond)
						}
					})
				}
				<-time.After(time.Duration(seed) * 50 * time.Millisecond)
				c.Heal(0, 1)
				both.Wait()
				<-time.After(10 * time.Second)
				if w.judge() == 0 {
					t.Error("nothing was missed: the test proves nothing")
				}
			})
		})
	}
}

// Servers are stopped and started one after the other, under traffic, as in an update: nodes connect anew, to servers that do not
// know the others' subscriptions yet.
func TestServersRestartOneByOne(t *testing.T) {
	for seed := range uint64(shorter(30, 3)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := lan(seed)
				nodes := []*backplane.Node{openAt(t, c, 0, "0"), openAt(t, c, 1, "1"), openAt(t, c, 2, "2")}
				w, room := newTold(t), backplane.Group("room")
				for _, n := range nodes {
					w.listen(n, room)
				}
				over := make(chan struct{})
				var all sync.WaitGroup
				for i, n := range nodes {
					all.Go(func() {
						for k := 0; ; k++ {
							select {
							case <-over:
								return
							case <-time.After(13 * time.Millisecond):
							}
							_ = w.try(n, room)
							if k%20 == 0 {
								to := backplane.Group(fmt.Sprintf("join %d.%d", i, k))
								w.listen(n, to)
								_ = w.try(nodes[(i+1)%3], to)
								_ = w.try(nodes[(i+2)%3], to)
							}
						}
					})
				}
				for server := range 3 {
					<-time.After(3 * time.Second)
					c.Stop(server)
					if server == 1 {
						c.Move(nodes[1].ID(), 2) // to another server meanwhile
					}
					<-time.After(time.Second)
					c.Start(server)
				}
				<-time.After(15 * time.Second)
				close(over)
				all.Wait()
				<-time.After(15 * time.Second)
				w.judge()
			})
		})
	}
}
