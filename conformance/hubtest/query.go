package hubtest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/gobackplane/backplane/hubkit"
)

// The chapter of H6: who is there.
func queryProperties() []Property {
	return []Property{
		{
			ID: "query/count", Contract: "H6", Since: "v1", Slow: true,
			Says:  "Count and Exists tell, from any instance, whom a target means on all of them: each connection once, and none of the except-list.",
			Why:   "a nurse would be offline for half of the farm.",
			Often: "a count of the own instance; a sum over groups.",
			run:   queryCount,
		},
		{
			ID: "query/list", Contract: "H6", Since: "v1", Slow: true,
			Says:  "the pages of a listing hold each connection of a target once, with its user and instance, whatever a page's size and whoever is asked.",
			Why:   "a list of who is in a room would show people twice, or not.",
			Often: "a page of each instance; a page that begins with the last one of the page before.",
			run:   queryList,
		},
		{
			ID: "query/list-stable", Contract: "H6", Since: "v1", Slow: true,
			Says:  "a connection that is there from the first page to the last is on one of them, whoever comes and goes meanwhile.",
			Why:   "somebody who never left would be missing from the list.",
			Often: "pages by position.",
			run:   queryListStable,
		},
		{
			ID: "query/token", Contract: "H6", Since: "v1", Slow: true,
			Says:  "a page token of another listing or another hub, or one that nobody made, is ErrInvalidToken.",
			Why:   "a client would be shown a part of somebody else's list.",
			Often: "a token that is a place and nothing else.",
			run:   queryToken,
		},
		{
			ID: "query/unknown-instance", Contract: "H6", Since: "v1", Slow: true, Needs: AbilityCut,
			Says:  "an instance that has just been opened and cannot know all others says that its answers are partial.",
			Why:   "after each deployment a user would seem to be offline.",
			Often: "a list of members that is believed as it is.",
			run:   queryUnknownInstance,
		},
		{
			ID: "query/after-outage", Contract: "H6", Since: "v1", Slow: true, Needs: AbilityCut,
			Says:  "an instance that comes out of an outage of its own does not take for gone whom it cannot reach yet: its answers say what they miss.",
			Why:   "who is cut off would see everybody leave.",
			Often: "members that are declared dead while nobody could be heard.",
			run:   queryAfterOutage,
		},
	}
}

func queryCount(w *world) {
	all := w.settled()
	a, b, c := all[0].user("u", "4B", "g"), all[1].user("u", "4B"), all[1].user("v", "4B")
	anybody, left := all[2].member(), all[2].user("u", "4B")
	left.gone()
	for _, s := range all {
		for _, q := range []struct {
			of   Target
			want int
		}{
			{everybody(), 4},
			{everybody().but(a, anybody), 2},
			{groups("4B"), 3},
			{groups("4B", "g"), 3},
			{groups("4B").but(b), 2},
			{users("u"), 2},
			{users("v").but(c), 0},
			{to(b), 1},
			{to(b, a, b), 2},
			{Target{Users: []string{"v"}, Groups: []string{"g"}, Connections: []string{a.id(), c.id()}}, 2},
			{groups("nobody"), 0},
			{users("U"), 0},
			{Target{}, 0},
		} {
			s.count(q.of, q.want)
			s.exists(q.of, q.want > 0)
		}
		s.exists(to(left), false)
	}
}

// page asks for one page.
func (s *seat) page(of Target, limit int, token string) (p Page, err error) {
	what := fmt.Sprintf("List(%s, %d, %s)", s.w.target(of), limit, short(token))
	err = s.w.call(s, s.w.keys(of), what, func(ctx context.Context) (string, error) {
		p, err = s.hub(ward).raw.List(ctx, of, limit, token)
		return fmt.Sprintf("%d connections ", len(p.Connections)), err
	})
	s.w.check()
	return p, err
}

// list reads a listing to its end, asking one instance after the other. Where a page is partial and says so, it begins anew.
func (w *world) list(all []*seat, of Target, limit int) (list []Info) {
	w.eventually("a whole listing", func() (whole bool) {
		list, whole = w.tryList(all, of, limit)
		return whole
	})
	return list
}

func (w *world) tryList(all []*seat, of Target, limit int) (list []Info, whole bool) {
	token := ""
	for pages := 0; ; pages++ {
		s := all[pages%len(all)]
		p, err := s.page(of, limit, token)
		switch {
		case err != nil:
			w.fatalf("%s: List(%s) failed: %w", s.name, w.target(of), err)
		case len(p.Missing) > 0 || p.Settling:
			return nil, false
		case len(p.Connections) > limit:
			w.fatalf("%s: a page of %d holds %d connections", s.name, limit, len(p.Connections))
		case pages > 1000:
			w.fatalf("the listing has no end")
		}
		list = append(list, p.Connections...)
		if token = p.Next; token == "" {
			return list, true
		}
	}
}

func queryList(w *world) {
	all := w.settled()
	const n = 12
	want := map[string]Info{}
	var some []*client
	for i := range n {
		s := all[i*i%crew] // uneven
		user := fmt.Sprintf("u%d", i%4)
		c := s.user(user, "4B")
		want[c.id()] = Info{ID: c.id(), User: user, Instance: s.name}
		some = append(some, c)
	}
	all[0].member("4C")
	for _, of := range []Target{
		groups("4B"), users("u0", "u1", "u2", "u3"), {Groups: []string{"4B"}, Users: []string{"u1"}, Connections: to(some[:3]...).Connections},
	} {
		for _, limit := range []int{1, 5, n - 1, n, 2 * n} {
			list := w.list(all, of, limit)
			got := map[string]Info{}
			for _, info := range list {
				got[info.ID] = info
			}
			if len(list) != n || !maps.Equal(got, want) {
				w.fatalf("List(%s) with pages of %d has %d entries, %d different ones, and it should be %d: %v",
					w.target(of), limit, len(list), len(got), n, w.infos(list))
			}
		}
	}
}

// infos tells a listing by the clients' names.
func (w *world) infos(list []Info) (text []string) {
	for _, info := range list {
		text = append(text, fmt.Sprintf("%s(%s on %s)", w.names([]string{info.ID})[0], info.User, info.Instance))
	}
	return text
}

func queryListStable(w *world) {
	all := w.settled()
	const n = 12
	there := map[string]*client{}
	for i := range n {
		c := all[i%crew].member("4B")
		there[c.id()] = c
	}
	seen := map[string]bool{}
	token := ""
	for i := 0; ; i++ {
		p, err := all[i%crew].page(groups("4B"), 2, token)
		if err != nil {
			w.fatalf("List failed: %w", err)
		}
		for _, info := range p.Connections {
			if seen[info.ID] {
				w.fatalf("%s was listed twice", w.names([]string{info.ID})[0])
			}
			seen[info.ID] = true
			if c := there[info.ID]; c != nil { // who was listed leaves
				c.gone()
				delete(there, info.ID)
			}
		}
		if token = p.Next; token == "" {
			break
		}
		if i < n {
			all[i%crew].member("4B")
		}
	}
	for _, c := range there {
		w.failf([]*client{c}, "%s was there from the first page to the last, and was not listed", c.name)
	}
}

func queryToken(w *world) {
	all := w.settled()
	for _, s := range all {
		s.user("u", "4B", "4C")
		s.hub("kitchen").connect(ConnectOptions{}, "4B")
	}
	p, err := all[0].page(groups("4B"), 1, "")
	if err != nil || p.Next == "" {
		w.fatalf("a page of one has no next one, and there are three connections: %w", orNone(err))
	}
	for _, of := range []Target{groups("4C"), users("u"), everybody(), groups("4B", "4C"), groups("4B").but(w.clients[0])} {
		_, err = all[1].page(of, 1, p.Next)
		w.mustFail(fmt.Sprintf("List(%s) with the token of another listing", w.target(of)), err, hubkit.ErrInvalidToken)
	}
	var other Page
	err = w.call(all[1], nil, "List(group 4B) of the hub kitchen", func(ctx context.Context) (string, error) {
		other, err = all[1].hub("kitchen").raw.List(ctx, groups("4B"), 1, p.Next)
		return fmt.Sprint(len(other.Connections), " connections "), err
	})
	w.mustFail("List of another hub with the token", err, hubkit.ErrInvalidToken)
	half := p.Next[:len(p.Next)/2]
	for _, token := range []string{"x", half, p.Next + "A", slices.Repeat([]string{p.Next}, 2)[0] + half} {
		_, err = all[1].page(groups("4B"), 1, token)
		w.mustFail("List with the token "+short(token), err, hubkit.ErrInvalidToken)
	}
	if _, err = all[2].page(groups("4B"), 1, p.Next); err != nil {
		w.fatalf("List with its own token, on another instance, failed: %w", err)
	}
}

func queryUnknownInstance(w *world) {
	all := w.settled()
	all[1].user("u", "4B")
	all[1].hang()
	late := w.open("", 1)[0]
	var c Count
	err := w.call(late, nil, "Count(user u)", func(ctx context.Context) (string, error) {
		var err error
		c, err = late.hub(ward).raw.Count(ctx, users("u"))
		return fmt.Sprintf("%d, missing %v, settling: %v ", c.Connections, c.Missing, c.Settling), err
	})
	w.check()
	if err != nil {
		w.fatalf("%s: Count failed: %w", late.name, err)
	}
	if c.Connections == 0 && len(c.Missing) == 0 && !c.Settling {
		w.fatalf("%s has just been opened, counts nobody and says that it misses nobody, though n2 has a connection", late.name)
	}
	all[1].heal()
	w.settle(late)
	late.count(users("u"), 1)
}

func queryAfterOutage(w *world) {
	all := w.settled()
	all[1].user("u", "4B")
	all[0].sever()
	h := all[0].hub(ward)
	w.eventually("n1 notices that its link is down", func() bool { return h.trySend(groups("4B"), "lost") != nil })
	all[1].hang()
	all[0].heal()
	w.eventually("n1 can ask again", func() bool {
		ctx, cancel := context.WithTimeout(w.ctx, brief)
		defer cancel()
		var c Count
		err := w.callWith(ctx, all[0], nil, "Count(user u)", func(ctx context.Context) (string, error) {
			var err error
			c, err = h.raw.Count(ctx, users("u"))
			return fmt.Sprintf("%d, missing %v, settling: %v ", c.Connections, c.Missing, c.Settling), err
		})
		if err == nil && c.Connections == 0 && len(c.Missing) == 0 && !c.Settling {
			w.fatalf("n1 comes out of an outage, counts nobody and says that it misses nobody, though n2 has a connection")
		}
		return err == nil
	})
	all[1].heal()
	w.settle(all...)
	all[0].count(users("u"), 1)
}
