package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// An instance catches up with the changes of users' memberships that it could not hear.

// groups checks what a client is in.
func (c *client) isIn(groups ...string) {
	c.f.t.Helper()
	settle()
	if got := c.Groups(); !slices.Equal(got, groups) {
		c.f.t.Errorf("the connection is in %q, want %q", got, groups)
	}
}

// caughtUp checks that no instance has a user left to read again.
func (f *farm) caughtUp() {
	f.t.Helper()
	settle()
	for i, h := range f.hubs {
		if n := h.Stats().UsersBehind; n != 0 {
			f.t.Errorf("%d users of instance %d are behind", n, i)
		}
	}
}

func TestUserGroupsAfterAnOutage(t *testing.T) {
	for name, length := range map[string]time.Duration{"short": 3 * time.Second, "taken for dead": time.Minute} {
		t.Run(name, func(t *testing.T) {
			onStore(t, func(f *farm) {
				there, own, other := f.user(1, "nurse"), f.user(1, "nurse", "both"), f.user(1, "doctor")
				stays := f.user(1, "nurse")
				f.joinUser(0, "nurse", "ended", 0, 3)
				f.joinUser(0, "nurse", "both", 0, 2)
				f.joinUser(0, "nurse", "left", 0, 3)
				if err := stays.Leave(f.t.Context(), "left"); err != nil {
					f.t.Fatal(err)
				}
				f.broker.Cut(f.nodes[1].ID())
				change := func(do func(context.Context)) { // it names the instance, or takes it for dead
					ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
					defer cancel()
					do(ctx)
				}
				if length > settling {
					settleFor(f.t, 2*settling)
				}
				change(func(ctx context.Context) { _, _ = f.hubs[0].JoinUser(ctx, "nurse", "new", time.Hour) })
				change(func(ctx context.Context) { _, _ = f.hubs[2].LeaveUser(ctx, "nurse", "ended") })
				change(func(ctx context.Context) { _, _ = f.hubs[2].LeaveUser(ctx, "nurse", "both") })
				settleFor(f.t, length)
				there.isIn("both", "ended", "left")
				f.broker.Heal(f.nodes[1].ID())
				settleFor(f.t, 10*time.Second)
				there.isIn("left", "new")
				own.isIn("both", "left", "new") // it had joined by itself
				stays.isIn("new")               // it had left by itself
				other.isIn()
				f.caughtUp()
				f.send(0, hubkit.ToGroups("new"), "x")
				there.got("x")
				f.joinUser(0, "nurse", "new", 20*time.Second, 0)
				settleFor(f.t, 21*time.Second)
				there.isIn("left") // what was caught up ends like everything else
			})
		})
	}
}

// What is lost without any failure of the link shows by the numbers of what was sent to all.
func TestUserGroupsAfterALossOnTheWay(t *testing.T) {
	onStore(t, func(f *farm) {
		c := f.user(1, "nurse")
		f.send(0, hubkit.ToAll(), "one")
		c.got("one")
		f.broker.Drop(f.nodes[1].ID(), 1000, func(string, []byte) bool { return true })
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
		defer cancel()
		if _, err := f.hubs[0].JoinUser(ctx, "nurse", "4B", 0); !errors.Is(err, backplane.ErrTimeout) {
			f.t.Errorf("a question that was lost: %v, want ErrTimeout", err)
		}
		f.send(0, hubkit.ToAll(), "two")
		settle()
		f.broker.Heal(f.nodes[1].ID())
		c.isIn()
		f.send(0, hubkit.ToAll(), "three")
		settleFor(f.t, time.Second)
		c.isIn("4B")
		c.got("one", "three")
		f.caughtUp()
	})
}

// gapless is a node whose subscriptions tell no gaps: those of the hub are on links that have not failed.
type gapless struct{ *backplane.Node }

func (g gapless) Subscribe(ctx context.Context, to backplane.Address, h backplane.Handler) (backplane.Subscription, error) {
	return g.Node.Subscribe(ctx, to, func(ctx context.Context, e backplane.Event) {
		if _, gap := e.(*backplane.Gap); !gap {
			h(ctx, e)
		}
	})
}

// The link that carries questions may fail alone: the state of the backplane tells.
func TestUserGroupsAfterAnOutageOfAnotherLink(t *testing.T) {
	onStore(t, func(f *farm) {
		for i := range 2 {
			h, err := hubkit.New(gapless{f.nodes[i]}, hubkit.Options{Name: "other", UserGroups: true})
			if err != nil {
				f.t.Fatal(err)
			}
			f.hubs = append(f.hubs, h)
		}
		const asks, hears = instances, instances + 1
		c := f.user(hears, "nurse")
		f.broker.Cut(f.nodes[1].ID())
		settleFor(f.t, 2*settling)
		f.joinUser(asks, "nurse", "4B", 0, 0)
		f.broker.Heal(f.nodes[1].ID())
		settleFor(f.t, 10*time.Second)
		c.isIn("4B")
		f.caughtUp()
	})
}

// An instance whose store did not answer reads again what it was told to read, by itself.
func TestUserGroupsAfterTheStoreFailed(t *testing.T) {
	onStore(t, func(f *farm) {
		c := f.user(1, "nurse")
		away := f.nodes[1].ID()
		f.broker.Deny(func(r inmem.Request) bool { return r.Node == away && r.Op == inmem.OpStore })
		if _, err := f.hubs[0].JoinUser(f.t.Context(), "nurse", "4B", 0); err == nil {
			f.t.Error("an instance that could not read was not named")
		}
		settleFor(f.t, time.Minute)
		c.isIn()
		if n := f.hubs[1].Stats().UsersBehind; n != 1 {
			f.t.Errorf("%d users are behind, want 1", n)
		}
		f.broker.Deny(nil)
		settleFor(f.t, time.Minute) // it tries every 30 s at least
		c.isIn("4B")
		f.caughtUp()

		f.broker.Deny(func(r inmem.Request) bool { return r.Node == away && r.Op == inmem.OpStore })
		_, _ = f.hubs[0].LeaveUser(f.t.Context(), "nurse", "4B")
		settleFor(f.t, 100*time.Second)
		f.broker.Deny(nil)
		f.broker.Kick(f.nodes[1].ID()) // what made it fail may be over: it does not wait the 30 s
		settleFor(f.t, 5*time.Second)
		c.isIn()
		f.caughtUp()

		f.broker.Deny(func(r inmem.Request) bool { return r.Node == away && r.Op == inmem.OpStore })
		_, _ = f.hubs[0].JoinUser(f.t.Context(), "nurse", "4B", 0)
		c.Disconnect(hubkit.Reason{})
		settle()
		f.caughtUp() // nobody is left to read for
		f.broker.Deny(nil)
	})
}

// One record is read at a time, and the store has as long a rest: a thousand users take their time, and a close does not wait.
func TestUserGroupsCatchUpIsPaced(t *testing.T) {
	const users, slow = 300, 100 * time.Millisecond
	onStore(t, func(f *farm) {
		clients := make([]*client, users)
		for i := range clients {
			clients[i] = f.user(1, "nurse-"+strconv.Itoa(i))
		}
		f.joinUser(0, "nurse-0", "4B", 0, 1)
		var reads atomic.Int64
		f.broker.Deny(func(r inmem.Request) bool {
			if r.Op == inmem.OpStore {
				reads.Add(1)
			}
			return false
		})
		f.broker.Kick(f.nodes[1].ID())
		settleFor(f.t, 5*time.Second)
		if n := reads.Load(); n < users {
			f.t.Errorf("%d records of %d users were read", n, users)
		}
		f.caughtUp()
		clients[0].isIn("4B")

		f.broker.Delay(f.nodes[1].ID(), slow)
		f.broker.Kick(f.nodes[1].ID())
		settleFor(f.t, 2*time.Second)
		for range 3 {
			before := reads.Load()
			settleFor(f.t, 10*time.Second)
			if n := reads.Load() - before; n < 30 || n > 60 {
				f.t.Errorf("%d records were read in 10 s, want 50: one at a time takes %v, and as long a rest", n, slow)
			}
		}
		if n := f.hubs[1].Stats().UsersBehind; n < users/4 {
			f.t.Errorf("%d users are behind", n)
		}
		if err := f.hubs[1].Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		f.broker.Heal(f.nodes[1].ID())
	})
}

// LeaveAll takes a connection out of groups that it is in by its user, and leaves the user's membership alone.
func TestLeaveAllAndUserGroups(t *testing.T) {
	onStore(t, func(f *farm) {
		a, b := f.user(0, "nurse", "own"), f.user(1, "nurse")
		f.joinUser(2, "nurse", "4B", time.Minute, 2)
		leave := func(of hubkit.Target, want int) {
			f.t.Helper()
			n, err := f.hubs[2].LeaveAll(f.t.Context(), of)
			f.changed(fmt.Sprintf("leave all of %+v", of), want)(n, err)
		}
		leave(hubkit.ToUsers("nurse"), 2)
		leave(hubkit.ToUsers("nurse"), 0)
		a.isIn()
		b.isIn()
		f.memberOf("nurse", "4B")
		f.send(2, hubkit.ToGroups("4B", "own"), "nobody is there")
		f.send(2, hubkit.ToUsers("nurse"), "still the user's")
		a.got("still the user's")
		b.got("still the user's")
		f.joinUser(2, "nurse", "5A", time.Minute, 2) // another change brings nobody back
		f.broker.Kick(f.nodes[1].ID())               // nor does a reading
		settleFor(f.t, 5*time.Second)
		f.caughtUp()
		a.isIn("5A")
		b.isIn("5A")
		f.user(1, "nurse").isIn("4B", "5A")
		f.joinUser(2, "nurse", "4B", time.Minute, 2)
		a.isIn("4B", "5A")
		leave(hubkit.ToConnections(a.ID()), 1)
		settleFor(f.t, 2*time.Minute) // the end of a membership that a connection has left
		a.isIn()
		b.isIn()
	})
}

// A remote disconnect ends what a drain had closed and is only writing out: it is no connection that is not found.
func TestDisconnectEndsWhatADrainWritesOut(t *testing.T) {
	onStore(t, func(f *farm) {
		var clients []*client
		for range 5 {
			c := f.user(1, "nurse", "4B")
			c.sock.Block()
			for range 3 {
				if err := c.Send([]byte("four")); err != nil {
					f.t.Fatal(err)
				}
				settle()
			}
			clients = append(clients, c)
		}
		byID, spared, byUser, byAll := clients[0], clients[1], clients[2:4], clients[4]
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
		defer cancel()
		d := f.drain(ctx, 1, hubkit.DrainOptions{Over: time.Second})
		settleFor(f.t, 2*time.Second)
		disconnect := func(what string, of hubkit.Target, want int) {
			f.t.Helper()
			n, err := f.hubs[0].Disconnect(f.t.Context(), of, hubkit.Reason{Code: hubkit.ReasonRefused})
			f.changed(what, want)(n, err)
		}
		is := func(what string, c *client, over bool) {
			f.t.Helper()
			settle()
			select {
			case <-c.Done():
				if !over {
					f.t.Errorf("%s has ended", what)
				}
			default:
				if over {
					f.t.Errorf("%s has not ended", what)
				}
			}
		}
		disconnect("a group: they have left it", hubkit.ToGroups("4B"), 0)
		disconnect("an id", hubkit.ToConnections(byID.ID()), 1)
		is("the one named", byID, true)
		_, err := f.hubs[0].Disconnect(f.t.Context(), hubkit.ToConnections(byID.ID()), hubkit.Reason{})
		f.failedAs("the same id again", err, hubkit.ErrNotFound)
		_, err = f.hubs[0].Join(f.t.Context(), hubkit.ToConnections(spared.ID()), "5A")
		f.failedAs("a join of one that has left everything", err, hubkit.ErrNotFound)
		is("another one", byUser[0], false)
		disconnect("its user", hubkit.Target{Users: []string{"nurse"}, Except: []string{spared.ID(), byAll.ID()}}, 2)
		is("one of the user", byUser[0], true)
		is("another one of the user", byUser[1], true)
		disconnect("all", hubkit.Target{All: true, Except: []string{spared.ID()}}, 1)
		is("the last", byAll, true)
		is("who was left out", spared, false)
		spared.sock.Unblock()
		spared.got("four", "four", "four")
		<-d.done
		if d.err != nil || d.report.Flushed != 1 || len(d.report.Remained) != 4 {
			f.t.Errorf("the drain reports %+v, %v", d.report, d.err)
		}
		for _, r := range d.report.Remained {
			if r.Messages != 3 || r.Connection == spared.Connection {
				f.t.Errorf("remained %+v", r)
			}
		}
		if r := byID.ended(); r.Code != hubkit.ReasonGoingAway {
			f.t.Errorf("the reason is %v; the first one stays", r)
		}
	})
}
