package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/transport"
)

// Subscribe at one server of a cluster, and publish at another one right after it has returned.
func TestSubscribeIsABarrierBetweenServers(t *testing.T) {
	const seeds, each = 200, 100
	heard := 0
	run := func(t *testing.T, seed uint64, hide func(transport.Opener) transport.Opener) (lost int) {
		synctest.Test(t, func(t *testing.T) {
			c := lan(seed)
			var nodes []*backplane.Node
			for server := range 3 {
				nodes = append(nodes, openOver(t, hide(c.Opener(server))))
			}
			w := newTold(t)
			w.t = t
			var groups sync.WaitGroup
			for i := range each {
				if i%10 == 0 { // some at the same time, the next ones behind them
					groups.Wait()
				}
				groups.Go(func() {
					to := backplane.Group(fmt.Sprint("room ", i))
					w.listen(nodes[i%3], to)
					w.say(nodes[(i+1)%3], to)
					w.say(nodes[(i+2)%3], to)
				})
			}
			groups.Wait()
			<-time.After(5 * time.Second)
			synctest.Wait()
			for _, e := range w.ears {
				k := len(e.events) - w.gaps(e)
				heard += k
				lost += 2 - k
			}
		})
		return lost
	}
	if run(t, 0, unclustered) == 0 {
		t.Error("nothing was lost where the engine does not know of the cluster: the test proves nothing")
	}
	heard = 0
	for seed := range uint64(shorter(seeds, 20)) {
		if lost := run(t, seed, func(o transport.Opener) transport.Opener { return o }); lost > 0 {
			t.Errorf("seed %d: lost %d of %d", seed, lost, 2*each)
		}
	}
	t.Logf("heard %d", heard)
}

// shorter is a number of repetitions, and another one in a short run.
func shorter(n, short int) int {
	if testing.Short() {
		return short
	}
	return n
}

func TestJoinsShareRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := lan(1)
		a, b := openAt(t, c, 0), openAt(t, c, 1)
		openAt(t, c, 2)
		w := newTold(t)
		before := a.Stats().BarrierRounds
		const joins, most = 1000, 20
		var all sync.WaitGroup
		for i := range joins {
			all.Go(func() {
				to := backplane.Group(fmt.Sprint("room ", i))
				w.listen(a, to)
				w.say(b, to)
			})
		}
		all.Wait()
		if rounds := a.Stats().BarrierRounds - before; rounds == 0 || rounds > most {
			t.Errorf("%d joins took %d rounds, want 1 to %d", joins, rounds, most)
		}
		<-time.After(5 * time.Second)
		if missed := w.judge(); missed > 0 {
			t.Errorf("%d were missed", missed)
		}
	})
}

// A node that is opened at a server without nodes, which hears of subscriptions late, publishes as soon as it is open.
func TestNewcomerAtAFarServerPublishesAtOnce(t *testing.T) {
	for far, mayMiss := range map[time.Duration]bool{60 * time.Millisecond: false, 2 * time.Second: true} {
		for seed := range uint64(shorter(50, 10)) {
			t.Run(fmt.Sprintf("far=%v/seed=%d", far, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := lan(seed)
					c.SetLatency(0, 2, far)
					c.SetLatency(1, 2, far)
					a, b := openAt(t, c, 0), openAt(t, c, 1)
					w := newTold(t)
					for i := range 5 {
						before, during := backplane.Group(fmt.Sprint("before ", i)), backplane.Group(fmt.Sprint("during ", i))
						w.listen(a, before)
						w.listen(b, before)
						var both sync.WaitGroup
						both.Go(func() { w.listen(a, during) })
						newcomer := openAt(t, c, 2)
						w.say(newcomer, before)
						w.say(newcomer, during)
						both.Wait()
						for range 20 {
							w.say(newcomer, during)
							w.say(newcomer, before)
							<-time.After(far / 5)
						}
						if err := newcomer.Close(t.Context()); err != nil {
							t.Error(err)
						}
					}
					<-time.After(20 * time.Second)
					if missed := w.judge(); missed > 0 && !mayMiss {
						t.Errorf("%d were missed, and a gap told it", missed)
					}
				})
			})
		}
	}
}

// A frozen member keeps a Subscribe waiting no longer than it takes to be declared dead, which is a gap for who was subscribed before.
func TestFrozenMember(t *testing.T) {
	for seed := range uint64(shorter(20, 3)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := lan(seed)
				a, b, frozen := openAt(t, c, 0), openAt(t, c, 1), openAt(t, c, 2)
				w, room := newTold(t), backplane.Group("room")
				atA, atB := w.listen(a, room), w.listen(b, room)
				w.listen(frozen, room)
				<-time.After(time.Duration(seed) * 100 * time.Millisecond)
				c.Hang(frozen.ID())
				talk := make(chan struct{})
				var talking sync.WaitGroup
				talking.Go(func() {
					for {
						select {
						case <-talk:
							return
						case <-time.After(20 * time.Millisecond):
							w.say(a, room)
							w.say(b, room)
						}
					}
				})

				// Who gives up before is told for whom it waited, and leaves nothing behind.
				gone := backplane.Group("given up")
				before := a.Stats()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := a.Subscribe(ctx, gone, func(context.Context, backplane.Event) { t.Error("a handler of a Subscribe that failed was called") })
				cancel()
				if !errors.Is(err, backplane.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), string(frozen.ID())) {
					t.Errorf("subscribe: %v, want ErrUnavailable and the name of the silent node", err)
				}
				<-time.After(time.Second)
				w.say(b, gone)
				<-time.After(time.Second)
				if after := a.Stats(); after.Subscriptions != before.Subscriptions || after.ChannelsWanted != before.ChannelsWanted ||
					after.ChannelsConfirmed != before.ChannelsConfirmed {
					t.Errorf("left behind: %+v, before %+v", after, before)
				}
				for channel := range c.Heard(a.ID()) {
					if strings.Contains(channel, gone.Name()) {
						t.Error("a channel that was given up is heard")
					}
				}

				began := time.Now()
				long := w.listen(a, backplane.Group("long"))
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("Subscribe took %v", took)
				}
				w.say(b, long.to)
				began = time.Now()
				quick := w.listen(b, backplane.Group("quick")) // it is known to be dead now, here as well
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("the next Subscribe took %v", took)
				}
				w.say(a, quick.to)
				<-time.After(5 * time.Second)
				close(talk)
				talking.Wait()
				for _, e := range []*listening{atA, atB} {
					if k := w.gaps(e); k != 1 {
						t.Errorf("%s was told of %d gaps, want one for the death", e.name, k)
					}
				}
				if k := w.gaps(long) + w.gaps(quick); k > 0 {
					t.Errorf("who subscribed after the death, or waited for it, was told of %d gaps", k)
				}
				c.HealNode(frozen.ID())
				for range 200 {
					_ = w.try(frozen, room)
					_ = w.try(frozen, long.to)
					w.say(a, room)
					<-time.After(10 * time.Millisecond)
				}
				<-time.After(10 * time.Second)
				w.judge()
			})
		})
	}
}

// Who says goodbye is not waited for, although it has not answered.
func TestMemberThatLeavesDuringARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := lan(1)
		c.SetLatency(0, 2, time.Second)
		a, b, leaves := openAt(t, c, 0), openAt(t, c, 1), openAt(t, c, 2)
		<-time.After(10 * time.Second)
		if k := len(a.Members()); k != 3 {
			t.Fatalf("%d members", k)
		}
		w := newTold(t)
		w.t = t
		time.AfterFunc(500*time.Millisecond, func() {
			c.Deafen(leaves.ID()) // so that it cannot answer
			time.AfterFunc(time.Millisecond, func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_ = leaves.Close(ctx)
			})
		})
		began := time.Now()
		room := w.listen(a, backplane.Group("room"))
		if took := time.Since(began); took < time.Second || took > 3*time.Second {
			t.Errorf("Subscribe took %v, want one way of the goodbye", took)
		}
		w.say(b, room.to)
		<-time.After(time.Second)
		if missed := w.judge(); missed > 0 {
			t.Errorf("%d were missed", missed)
		}
	})
}

// A cluster is no reason to listen to what one has not asked for.
func TestNobodyHearsForeignFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := lan(1)
		a, b, idle := openAt(t, c, 0), openAt(t, c, 1), openAt(t, c, 2)
		w := newTold(t)
		known := func(n *backplane.Node) map[string]int { return c.Heard(n.ID()) }
		<-time.After(10 * time.Second)
		before := known(idle)
		for i := range 100 {
			to := backplane.Group(fmt.Sprint("room ", i))
			w.listen(a, to)
			w.say(b, to)
			w.say(idle, to)
		}
		<-time.After(10 * time.Second)
		after := known(idle)
		maps.DeleteFunc(after, func(channel string, _ int) bool { return before[channel] > 0 })
		// Answers to its own questions come to its inbox, which nothing had been sent to.
		maps.DeleteFunc(after, func(channel string, _ int) bool { return strings.Contains(channel, "inbox") })
		if len(after) > 0 {
			t.Errorf("a node that joined nothing heard %d other channels", len(after))
		}
		if k := w.judge(); k > 0 {
			t.Errorf("%d were missed", k)
		}
	})
}
