package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// onStore runs a test over nodes that know one another, with memberships of users.
func onStore(t *testing.T, test func(*farm)) {
	t.Helper()
	onNodes(t, hubkit.Options{Name: "ward", UserGroups: true}, func(f *farm) {
		settleFor(f.t, settling)
		test(f)
	})
}

// joinUser makes a user a member from instance i, and checks how many connections that put in.
func (f *farm) joinUser(i int, user, group string, ttl time.Duration, want int) {
	f.t.Helper()
	n, err := f.hubs[i].JoinUser(f.t.Context(), user, group, ttl)
	f.changed("join user "+user, want)(n, err)
}

func (f *farm) leaveUser(i int, user, group string, want int) {
	f.t.Helper()
	n, err := f.hubs[i].LeaveUser(f.t.Context(), user, group)
	f.changed("leave user "+user, want)(n, err)
}

// memberOf checks what a user is a member of, as every instance says.
func (f *farm) memberOf(user string, groups ...string) {
	f.t.Helper()
	for _, h := range f.hubs {
		got, err := h.UserGroups(f.t.Context(), user)
		if err != nil {
			f.t.Error(err)
		}
		var names []string
		for _, g := range got {
			names = append(names, g.Group)
		}
		if fmt.Sprint(names) != fmt.Sprint(groups) {
			f.t.Errorf("%s is a member of %q, want %q", user, names, groups)
		}
	}
}

// A user is in a group with the connections of now and with those to come, wherever they are.
func TestUserGroupsCoverPresentAndFuture(t *testing.T) {
	onStore(t, func(f *farm) {
		here, there, own := f.user(0, "nurse"), f.user(1, "nurse"), f.user(1, "nurse", "4B")
		other, anonymous := f.user(1, "doctor"), f.member(0)
		f.joinUser(2, "nurse", "4B", 0, 2)
		f.joinUser(0, "nurse", "4B", time.Hour, 0)
		f.joinUser(0, "nurse", "ward 5", time.Hour, 3)
		f.send(2, hubkit.ToGroups("4B", "ward 5"), "one")
		settle()
		later := f.user(2, "nurse")
		f.send(0, hubkit.ToGroups("4B"), "two") // the first message after Connect
		for _, c := range []*client{here, there, own} {
			c.got("one", "two")
		}
		later.got("two")
		other.got()
		anonymous.got()
		f.memberOf("nurse", "4B", "ward 5")
		f.memberOf("doctor")
		if got := later.Groups(); fmt.Sprint(got) != "[4B ward 5]" {
			f.t.Errorf("the later connection is in %q", got)
		}

		f.leaveUser(1, "nurse", "4B", 4) // also the one that joined by itself
		f.leaveUser(1, "nurse", "4B", 0)
		f.send(2, hubkit.ToGroups("4B"), "three")
		last := f.user(1, "nurse")
		f.send(2, hubkit.ToGroups("4B"), "four")
		settle()
		f.send(2, hubkit.ToGroups("ward 5"), "five")
		for _, c := range []*client{here, there, own} {
			c.got("one", "two", "five")
		}
		later.got("two", "five")
		last.got("five")
		f.memberOf("nurse", "ward 5")
		f.leaveUser(0, "nurse", "ward 5", 5)
		f.memberOf("nurse")
	})
}

// A membership does not die with the instance that made it, nor with all of them.
func TestUserGroupsSurviveInstances(t *testing.T) {
	onStore(t, func(f *farm) {
		f.joinUser(0, "nurse", "4B", 0, 0)
		f.broker.Cut(f.nodes[0].ID()) // without goodbye
		f.user(1, "nurse")
		f.send(1, hubkit.ToGroups("4B"), "one")
		settle()
		if got := f.conns[0].Payloads(); len(got) != 1 {
			f.t.Errorf("a connection elsewhere got %q", got)
		}
		for i := range 2 {
			if err := f.hubs[i+1].Close(f.t.Context()); err != nil {
				f.t.Error(err)
			}
			if err := f.nodes[i+1].Close(f.t.Context()); err != nil {
				f.t.Error(err)
			}
		}
		n, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		f.nodes = append(f.nodes, n)
		h, err := hubkit.New(n, hubkit.Options{Name: "ward", UserGroups: true})
		if err != nil {
			f.t.Fatal(err)
		}
		f.hubs = append(f.hubs, h)
		c := f.user(instances, "nurse")
		f.send(instances, hubkit.ToGroups("4B"), "two")
		c.got("two")
		f.broker.Heal(f.nodes[0].ID())
		settleFor(f.t, settling)
	})
}

// A membership ends when its time is over: for the connections that it put in, wherever they are, and for those to come.
func TestUserGroupsEnd(t *testing.T) {
	onStore(t, func(f *farm) {
		here, there, own := f.user(0, "nurse"), f.user(1, "nurse"), f.user(1, "nurse")
		f.joinUser(0, "nurse", "short", 10*time.Second, 3)
		f.joinUser(0, "nurse", "long", 20*time.Second, 3)
		f.joinUser(2, "nurse", "longer", 10*time.Second, 3)
		if err := own.Join(f.t.Context(), "short"); err != nil { // it is in by the membership, and now by itself
			f.t.Fatal(err)
		}
		settleFor(f.t, 5*time.Second)
		later := f.user(2, "nurse")
		f.joinUser(1, "nurse", "longer", 15*time.Second, 0) // a new time
		settleFor(f.t, 4*time.Second)
		f.send(2, hubkit.ToGroups("short", "long", "longer"), "9 s")
		settleFor(f.t, 2*time.Second)
		f.memberOf("nurse", "long", "longer")
		if got, err := f.hubs[0].UserGroups(f.t.Context(), "nurse"); err != nil || got[0].Left > 9*time.Second || got[0].Left < 8900*time.Millisecond {
			f.t.Errorf("long lasts %v longer, %v; want 9s", got, err)
		}
		f.send(2, hubkit.ToGroups("short"), "11 s, short")
		settle()
		f.send(2, hubkit.ToGroups("longer"), "11 s, longer")
		for _, c := range []*client{here, there, later} {
			c.got("9 s", "11 s, longer")
		}
		own.got("9 s", "11 s, short", "11 s, longer")
		settleFor(f.t, 20*time.Second)
		f.send(2, hubkit.ToGroups("short", "long", "longer"), "31 s")
		here.settled(2)
		own.settled(4)
		f.memberOf("nurse")
		if s := f.hubs[0].Stats(); s.Groups != 0 {
			f.t.Errorf("%d groups are left", s.Groups)
		}
		f.user(0, "nurse").settled(0)
		f.joinUser(0, "nurse", "again", 10*time.Second, 5) // what ends memberships works a second time
		settleFor(f.t, 11*time.Second)
		f.send(2, hubkit.ToGroups("again"), "over")
		here.settled(2)
	})
}

// A connection may leave by itself, and is put in again when the user is.
func TestUserGroupsAndLeaving(t *testing.T) {
	onStore(t, func(f *farm) {
		c := f.user(0, "nurse")
		f.joinUser(1, "nurse", "4B", 0, 1)
		if err := c.Leave(f.t.Context(), "4B"); err != nil {
			f.t.Fatal(err)
		}
		f.joinUser(1, "nurse", "5A", 0, 1) // another change is no reason to come back
		f.send(1, hubkit.ToGroups("4B"), "one")
		c.got()
		f.joinUser(1, "nurse", "4B", 0, 1)
		f.send(1, hubkit.ToGroups("4B"), "two")
		c.got("two")
	})
}

// A connect that has read the groups before they change is in the right ones when both calls have returned.
func TestUserGroupsRaceConnect(t *testing.T) {
	for _, join := range []bool{true, false} {
		onStore(t, func(f *farm) {
			if !join {
				f.joinUser(0, "nurse", "4B", 0, 0)
			}
			f.member(1) // what the hub itself subscribes is in force
			keep := f.user(1, "nurse")
			f.broker.Delay(f.nodes[1].ID(), time.Second) // the answer of the store comes a second after it was made
			sock := conntest.New()
			f.conns = append(f.conns, sock)
			connected := make(chan error, 1)
			go func() {
				_, err := f.hubs[1].Connect(f.t.Context(), sock, hubkit.ConnectOptions{User: "nurse"})
				connected <- err
			}()
			settle()
			if join {
				f.joinUser(0, "nurse", "4B", 0, 2)
			} else {
				f.leaveUser(0, "nurse", "4B", 2)
			}
			if err := <-connected; err != nil {
				f.t.Fatal(err)
			}
			f.broker.Heal(f.nodes[1].ID())
			f.send(0, hubkit.ToGroups("4B"), "x")
			settle()
			want := 0
			if join {
				want = 1
			}
			if got := sock.Payloads(); len(got) != want {
				f.t.Errorf("join %v: the new connection got %q", join, got)
			}
			keep.settled(want)
		})
	}
}

// Changes of one user from several instances at once are all made.
func TestUserGroupsLoseNoChange(t *testing.T) {
	onStore(t, func(f *farm) {
		c := f.user(1, "nurse")
		f.joinUser(0, "nurse", "gone", 0, 1)
		var work sync.WaitGroup
		for i, h := range f.hubs {
			work.Go(func() {
				for k := range 10 {
					if _, err := h.JoinUser(f.t.Context(), "nurse", fmt.Sprintf("%d-%d", i, k), 0); err != nil {
						f.t.Error(err)
					}
				}
			})
		}
		work.Go(func() {
			if _, err := f.hubs[2].LeaveUser(f.t.Context(), "nurse", "gone"); err != nil {
				f.t.Error(err)
			}
		})
		work.Wait()
		if got := c.Groups(); len(got) != 30 {
			f.t.Errorf("the connection is in %q", got)
		}
		if got, err := f.hubs[0].UserGroups(f.t.Context(), "nurse"); err != nil || len(got) != 30 {
			f.t.Errorf("the user is in %d groups, %v", len(got), err)
		}
	})
}

// Whoever cannot be asked is named; the membership is recorded, and is in force there when it is back.
func TestUserGroupsPartial(t *testing.T) {
	onStore(t, func(f *farm) {
		c := f.user(1, "nurse")
		f.broker.Cut(f.nodes[1].ID())
		settleFor(f.t, time.Second)
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
		defer cancel()
		_, err := f.hubs[0].JoinUser(ctx, "nurse", "4B", 0)
		partial, ok := errors.AsType[*hubkit.PartialError](err)
		if !ok || len(partial.Missing) != 1 || partial.Missing[0].Node != f.nodes[1].ID() {
			f.t.Errorf("JoinUser with an instance cut off: %v", err)
		}
		if got, err := f.hubs[0].UserGroups(f.t.Context(), "nurse"); err != nil || len(got) != 1 {
			f.t.Errorf("recorded is %v, %v", got, err)
		}
		if _, err = f.hubs[1].JoinUser(f.t.Context(), "nurse", "5A", 0); !errors.Is(err, backplane.ErrUnavailable) {
			f.t.Errorf("JoinUser of the instance that is cut off: %v, want ErrUnavailable", err)
		}
		f.broker.Heal(f.nodes[1].ID())
		settleFor(f.t, 2*settling)
		f.joinUser(0, "nurse", "4B", 0, 0)
		f.send(0, hubkit.ToGroups("4B"), "x")
		c.got("x")
	})
}

// A connect whose groups cannot be read fails whole.
func TestUserGroupsFailConnect(t *testing.T) {
	onStore(t, func(f *farm) {
		f.joinUser(0, "nurse", "4B", 0, 0)
		for what, deny := range map[string]func(inmem.Request) bool{
			"the store":   func(r inmem.Request) bool { return r.Op == inmem.OpStore },
			"a group":     func(r inmem.Request) bool { return r.Op == inmem.OpSubscribe && strings.Contains(r.Channel, "4B") },
			"the user's":  func(r inmem.Request) bool { return r.Op == inmem.OpSubscribe && strings.Contains(r.Channel, "nurse") },
			"the hub's":   func(r inmem.Request) bool { return r.Op == inmem.OpSubscribe },
			"everything ": func(r inmem.Request) bool { return r.Op != inmem.OpConnect && r.Op != inmem.OpPublish },
		} {
			settleFor(f.t, time.Second) // nothing is subscribed any more
			f.broker.Deny(deny)
			_, err := f.hubs[0].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{User: "nurse"})
			if !errors.Is(err, backplane.ErrDenied) {
				f.t.Errorf("%s is denied: %v", what, err)
			}
			if s := f.hubs[0].Stats(); s.Connections != 0 || s.Groups != 0 || s.Users != 0 {
				f.t.Errorf("%s: left behind: %+v", what, s)
			}
			f.broker.Deny(nil)
		}
		c := f.user(0, "nurse")
		f.send(1, hubkit.ToGroups("4B"), "x")
		c.got("x")
	})
}

func TestUserGroupsRefuse(t *testing.T) {
	onStore(t, func(f *farm) {
		ctx, h := f.t.Context(), f.hubs[0]
		join := func(user, group string, ttl time.Duration) error {
			_, err := h.JoinUser(ctx, user, group, ttl)
			return err
		}
		leave := func(user, group string) error { _, err := h.LeaveUser(ctx, user, group); return err }
		list := func(user string) error { _, err := h.UserGroups(ctx, user); return err }
		long := strings.Repeat("n", backplane.MaxName)
		for range 2 {
			for i := range hubkit.MaxUserGroups {
				if err := join("busy", fmt.Sprintf("%03d", i)+long[3:], 0); err != nil { // the longest names there are
					f.t.Fatal(err)
				}
			}
		}
		for what, row := range map[string]struct{ got, want error }{
			"no user":          {join("", "g", 0), backplane.ErrInvalidAddress},
			"no group":         {join("u", "", 0), backplane.ErrInvalidAddress},
			"a long user":      {leave(long+"n", "g"), backplane.ErrInvalidAddress},
			"no UTF-8":         {leave("u", "\xff"), backplane.ErrInvalidAddress},
			"no user to list":  {list(""), backplane.ErrInvalidAddress},
			"a negative time":  {join("u", "g", -1), backplane.ErrInvalidOption},
			"a time too short": {join("u", "g", time.Microsecond), backplane.ErrInvalidOption},
			"a time too long":  {join("u", "g", hubkit.MaxUserTTL+1), backplane.ErrInvalidOption},
			"one too many":     {join("busy", "more", 0), hubkit.ErrTooManyGroups},
			"one instead":      {errors.Join(leave("busy", "000"+long[3:]), join("busy", "more", 0)), nil},
			"the longest name": {join(long, long, hubkit.MaxUserTTL), nil},
		} {
			if what != "one instead" && !errors.Is(row.got, row.want) || row.want == nil && row.got != nil {
				f.t.Errorf("%s: %v, want %v", what, row.got, row.want)
			}
		}
		without, err := hubkit.New(f.nodes[0], hubkit.Options{Name: "without"})
		if err != nil {
			f.t.Fatal(err)
		}
		f.hubs = append(f.hubs, without)
		h = without
		for what, err := range map[string]error{"join": join("u", "g", 0), "leave": leave("u", "g"), "list": list("u")} {
			if !errors.Is(err, backplane.ErrUnsupported) {
				f.t.Errorf("%s without UserGroups: %v, want ErrUnsupported", what, err)
			}
		}
		if err := h.Close(ctx); err != nil {
			f.t.Error(err)
		}
	})
	if _, err := hubkit.New(seat{newBus(), "0123456789abcdef"}, hubkit.Options{Name: "ward", UserGroups: true}); !errors.Is(err, backplane.ErrUnsupported) {
		t.Errorf("New over a backplane without a store: %v, want ErrUnsupported", err)
	}
}

// An instance whose hub does not know of users' memberships says so.
func TestUserGroupsInAMixedFleet(t *testing.T) {
	onStore(t, func(f *farm) {
		old, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		f.nodes = append(f.nodes, old)
		h, err := hubkit.New(old, hubkit.Options{Name: "ward"})
		if err != nil {
			f.t.Fatal(err)
		}
		f.hubs = append(f.hubs, h)
		settleFor(f.t, settling)
		c := f.user(1, "nurse")
		n, err := f.hubs[0].JoinUser(f.t.Context(), "nurse", "4B", 0)
		partial, ok := errors.AsType[*hubkit.PartialError](err)
		if !ok || len(partial.Missing) != 1 || partial.Missing[0].Node != old.ID() || !errors.Is(err, backplane.ErrUnsupported) || n != 1 {
			f.t.Errorf("%d changed, %v", n, err)
		}
		f.send(0, hubkit.ToGroups("4B"), "x")
		c.got("x")
	})
}
