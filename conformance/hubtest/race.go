package hubtest

import (
	"errors"
	"strconv"
	"sync"

	"github.com/gobackplane/backplane/hubkit"
)

// The chapter of H4: what happens at once.
func raceProperties() []Property {
	return []Property{
		{
			ID: "race/join-disconnect", Contract: "H4", Since: "v1", Slow: true,
			Says:  "a join that races the end of its connection, from any instance, leaves no membership behind.",
			Why:   "a room would have members that nobody can remove.",
			Often: "a join that looks whether the connection is there before it waits for the broker, and not after.",
			run:   raceJoinDisconnect,
		},
		{
			ID: "race/crowd", Contract: "H4", Since: "v1", Slow: true,
			Says:  "connections that come, join, leave and go on all instances at once, while all send, end up where their last call put them.",
			Why:   "the busiest moment would be the one with wrong lists.",
			Often: "tables that are read and written back without a lock.",
			run:   raceCrowd,
		},
	}
}

func raceJoinDisconnect(w *world) {
	all := w.settled()
	const rounds = 20
	for i := range rounds {
		c := all[i%crew].user("u")
		w.each(2*crew, func(k int) {
			from := all[k%crew]
			ctx, cancel := w.patient()
			defer cancel()
			var err error
			switch {
			case k < crew:
				_, err = from.operate(ctx, join, c.target(), "room")
			case k%crew == i%crew:
				c.gone()
			default:
				_, err = from.operate(ctx, disconnect, c.target(), "bye")
			}
			if err != nil && !errors.Is(err, hubkit.ErrNotFound) {
				w.failf([]*client{c}, "%s: an operation on a connection that is ending failed: %w", from.name, err)
			}
		})
	}
	for _, s := range all {
		s.count(groups("room"), 0)
		s.count(users("u"), 0)
		s.count(everybody(), 0)
		s.exists(groups("room"), false)
	}
	late := all[0].member("room")
	all[1].send(groups("room"), "x")
	w.fence()
	late.got("x")
}

func raceCrowd(w *world) {
	all := w.settled()
	const each = 4
	var mu sync.Mutex
	var stay []*client
	w.each(each*crew, func(i int) {
		s := all[i%crew]
		mine := "u" + strconv.Itoa(i)
		for round := range 5 {
			c := s.user(mine, "lobby", mine)
			s.send(groups("lobby"), mine)
			s.send(users(mine), mine)
			c.join("quiet")
			if round%2 == 0 {
				all[(i+1)%crew].change(leave, c.target(), "lobby", 1)
			} else {
				c.leave("lobby")
			}
			all[(i+2)%crew].change(join, c.target(), "final", 1)
			if round < 4 {
				c.gone()
				continue
			}
			c.leave("quiet")
			mu.Lock()
			stay = append(stay, c)
			mu.Unlock()
		}
	})
	w.fence()
	all[0].send(groups("final"), "end")
	all[1].send(groups("lobby", "quiet"), "nobody")
	w.fence()
	for _, c := range stay {
		c.has("end", 1)
		c.has("nobody", 0)
	}
	for _, s := range all {
		s.count(everybody(), each*crew)
		s.count(groups("final"), each*crew)
		s.count(groups("lobby", "quiet"), 0)
	}
}
