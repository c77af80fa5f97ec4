package hubtest

import (
	"context"
	"fmt"
	"time"
)

// The chapter of memberships of users.
func userProperties() []Property {
	return []Property{
		{
			ID: "user/future", Contract: "H2", Since: "v1", Slow: true, Needs: AbilityUserGroups,
			Says:  "a user who was made a member of a group is in it with all present and future connections, on every instance, and with nobody else's.",
			Why:   "a tab that is opened later would stay silent.",
			Often: "a join of the connections of that moment.",
			run:   userFuture,
		},
		{
			ID: "user/leave", Contract: "H3", Since: "v1", Slow: true, Needs: AbilityUserGroups,
			Says:  "when a user's membership was ended, nothing more of the group reaches a connection of the user, present or future.",
			Why:   "who was taken out of a team would come back with the next tab.",
			Often: "a record that is kept, or connections that are forgotten.",
			run:   userLeave,
		},
		{
			ID: "user/time", Contract: "H2", Since: "v1", Slow: true, Needs: AbilityUserGroups,
			Says:  "a user's membership ends by its time, for present and future connections.",
			Why:   "a shift would never end.",
			Often: "a time that only the record knows.",
			run:   userTime,
		},
		{
			ID: "user/survives", Contract: "H6", Since: "v1", Slow: true, Needs: AbilityUserGroups,
			Says:  "a user's membership survives the death of the instance that made it.",
			Why:   "a crash would forget who is in which team.",
			Often: "memberships in the memory of an instance.",
			run:   userSurvives,
		},
	}
}

// joinUser makes the user u a member of the team, which must succeed and change as many connections as said.
func (s *seat) joinUser(ttl time.Duration, want int) {
	s.changeUser(fmt.Sprintf("JoinUser(u, team, %v)", ttl), want, func(ctx context.Context, u UserGroups) (int, error) {
		return u.JoinUser(ctx, "u", "team", ttl)
	})
}

func (s *seat) leaveUser(want int) {
	s.changeUser("LeaveUser(u, team)", want, func(ctx context.Context, u UserGroups) (int, error) {
		return u.LeaveUser(ctx, "u", "team")
	})
}

func (s *seat) changeUser(what string, want int, f func(context.Context, UserGroups) (int, error)) {
	u, can := s.hub(ward).raw.(UserGroups)
	if !can {
		s.w.without(AbilityUserGroups)
	}
	n := 0
	err := s.w.call(s, nil, what, func(ctx context.Context) (string, error) {
		var err error
		n, err = f(ctx, u)
		return fmt.Sprintf("%d changed ", n), err
	})
	s.w.check()
	if err != nil || n != want {
		s.w.fatalf("%s: %s changed %d connections, and it should be %d: %w", s.name, what, n, want, orNone(err))
	}
}

func userFuture(w *world) {
	all := w.settled()
	a, b, other := all[0].user("u"), all[1].user("u"), all[1].user("v")
	all[2].joinUser(0, 2)
	all[2].joinUser(0, 0)
	all[0].send(groups("team"), "one")
	w.fence()
	later, elsewhere := all[1].user("u"), all[2].user("u")
	all[0].send(groups("team"), "two")
	w.fence()
	a.got("one", "two")
	b.got("one", "two")
	later.got("two")
	elsewhere.got("two")
	other.got()
}

func userLeave(w *world) {
	all := w.settled()
	a, b := all[0].user("u"), all[1].user("u")
	all[2].joinUser(0, 2)
	all[0].send(groups("team"), "one")
	w.fence()
	all[1].leaveUser(2)
	later := all[2].user("u")
	for _, s := range all {
		s.send(groups("team"), "late")
	}
	w.fence()
	a.got("one")
	b.got("one")
	later.got()
}

func userTime(w *world) {
	all := w.settled()
	const short = 1500 * time.Millisecond
	a, control := all[1].user("u"), all[1].member("team")
	all[0].joinUser(short, 1)
	w.eventually("the membership to end", func() bool {
		c, err := all[0].hub(ward).raw.Count(w.ctx, Target{Groups: []string{"team"}, Except: []string{control.id()}})
		return err == nil && c.Connections == 0
	})
	later := all[2].user("u")
	all[0].send(groups("team"), "late")
	w.fence()
	a.got()
	later.got()
	control.got("late")
	a.isOpen()
}

func userSurvives(w *world) {
	all := w.settled()
	all[2].joinUser(0, 0)
	all[2].kill()
	w.buried(all[2], all[0], all[1])
	c := all[1].user("u")
	all[0].send(groups("team"), "still")
	w.fence()
	c.got("still")
}
