package hubtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gobackplane/backplane/hubkit"
)

// resumeChapter is the Contract of the properties about clients that come back.
const resumeChapter = "resume"

// revoked is a group that no longer holds when a client comes back.
const revoked = "revoked"

// The chapter of clients that come back.
func resumeProperties() []Property {
	return []Property{
		{
			ID: "resume/restored", Contract: resumeChapter, Since: "v1", Needs: AbilityResume,
			Says:  "a client that comes back with its token, anywhere, is in its groups when Connect returns, and told first that it may have missed some.",
			Why:   "after a moment in a tunnel a client would be connected and hear nothing.",
			Often: "groups that are joined after the connection is there.",
			run:   resumeRestored,
		},
		{
			ID: "resume/ghost", Contract: resumeChapter, Since: "v1", Needs: AbilityResume,
			Says:  "when a client comes back, its old connection is closed wherever it still hangs, and gets nothing more.",
			Why:   "the user would be listed twice, and an answer would go to a socket that is dead.",
			Often: "old connections that are left to their time-out.",
			run:   resumeGhost,
		},
		{
			ID: "resume/hook", Contract: resumeChapter, Since: "v1", Needs: AbilityResume,
			Says:  "a hook is asked which groups of a client that comes back still hold, with its user, and those alone are restored.",
			Why:   "rights that were taken away would come back with the client.",
			Often: "groups that are believed because they are signed.",
			run:   resumeHook,
		},
		{
			ID: "resume/refused", Contract: resumeChapter, Since: "v1", Needs: AbilityResume,
			Says:  "a token that was changed, or made by nobody, or is another hub's, namespace's or user's, is ErrResume, and nothing is left behind.",
			Why:   "anybody could listen to any room.",
			Often: "a signature that is not looked at, or covers only a part.",
			run:   resumeRefused,
		},
		{
			ID: "resume/twice", Contract: resumeChapter, Since: "v1", Needs: AbilityResume, Slow: true,
			Says:  "of a token that is presented twice, after one another or at once, on different instances, the newer connection stays and the others end.",
			Why:   "a token that was copied would listen along for ever.",
			Often: "a check on each instance alone.",
			run:   resumeTwice,
		},
		{
			ID: "resume/ended", Contract: resumeChapter, Since: "v1", Needs: AbilityResume,
			Says:  "the token of a client that the server has disconnected is refused on every instance.",
			Why:   "who was thrown out would be back in a second.",
			Often: "a token that knows nothing of its connection.",
			run:   resumeEnded,
		},
		{
			ID: "resume/death", Contract: resumeChapter, Since: "v1", Needs: AbilityResume, Slow: true,
			Says:  "a client whose instance died without a goodbye comes back on another one at once, with its groups.",
			Why:   "a crash would cost everybody their rooms.",
			Often: "groups that only the old instance knows.",
			run:   resumeDeath,
		},
		{
			ID: "resume/expired", Contract: resumeChapter, Since: "v1", Needs: AbilityFreeTime,
			Says:  "a token is refused when its time is over, and a client that stays connected gets a new one before.",
			Why:   "a token that was lost would be good for ever.",
			Often: "a time that nobody looks at.",
			run:   resumeExpired,
		},
	}
}

// restores is the hook: all groups still hold but one.
func (s *seat) restores(user string, groups []string) []string {
	s.w.note(nil, "%s: the restore hook is asked about the user %s in %v", s.name, user, groups)
	s.w.update(func() { s.w.restored = append(s.w.restored, restoring{user, slices.Clone(groups)}) })
	return slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return g == revoked })
}

// restoring is a call of the restore hook.
type restoring struct {
	user   string
	groups []string
}

// resumers opens the usual instances, whose clients can come back.
func (w *world) resumers() []*seat {
	all := w.crew()
	if _, can := all[0].hub(ward).raw.(Resumer); !can {
		w.without(AbilityResume)
	}
	return all
}

// token waits for the newest token: of a client that has just joined, the one that says so.
func (c *client) token(atLeast int) string {
	c.w.await([]*client{c}, fmt.Sprintf("token %d of %s", atLeast, c.name), func() bool { return len(c.tokens) >= atLeast })
	const moment = 500 * time.Millisecond // a newer one may be under way; any will do, but the newest is told apart more easily
	for n := -1; ; {
		c.w.mu.Lock()
		last := len(c.tokens)
		token := c.tokens[last-1]
		c.w.mu.Unlock()
		if n == last {
			return token
		}
		n = last
		c.w.within(moment, func() bool { return len(c.tokens) > last })
		c.w.check()
	}
}

// back connects a client that comes back.
func (s *seat) back(token string, groups ...string) *client {
	c := s.connect(ConnectOptions{Token: token})
	for _, g := range groups { // for the timeline
		c.w.update(func() { c.keys = append(c.keys, groupKey(g)) })
	}
	return c
}

// unwelcome checks that a token is refused and that nothing is left behind.
func (s *seat) unwelcome(what, token string) {
	h := s.hub(ward)
	c := s.w.newClient(h, "")
	s.w.mustFail(s.name+": Connect with "+what, s.w.connect(c, ConnectOptions{Token: token}), hubkit.ErrResume)
	if len(c.deliveries()) > 0 {
		s.w.failf([]*client{c}, "%s was refused, and was written to", c.name)
	}
}

func resumeRestored(w *world) {
	all := w.resumers()
	for i, s := range all {
		name := "room " + s.name
		old := all[0].user("u"+s.name, name, "4B")
		token := old.token(1)
		if i > 0 {
			old.gone() // else it hangs
		}
		c := s.back(token, name, "4B")
		for _, from := range all {
			from.send(groups(name), "group")
			from.send(users("u"+s.name), "user")
		}
		w.fence()
		for _, payload := range []string{"group", "user"} {
			c.hasSince(payload, crew)
		}
		if heard := c.deliveries(); heard[0].Gap == "" {
			w.failf([]*client{c}, "%s came back, and the first it is told is %s and not that something may be missing", c.name, heard[0].text())
		}
		old.got()
	}
}

func resumeGhost(w *world) {
	all := w.resumers()
	for _, s := range all {
		old := all[1].user("u", "4B")
		token := old.token(1)
		if s == all[2] {
			old.block()
		}
		c := s.back(token, "4B")
		all[0].send(groups("4B"), s.name)
		w.fence()
		old.got()
		old.ended(ReasonReplaced, "")
		c.hasSince(s.name, 1)
		all[0].refused(join, old.target(), "g", errNotFound)
		c.gone()
	}
}

func resumeHook(w *world) {
	all := w.resumers()
	old := all[0].user("u", "4B", revoked)
	token := old.token(1)
	c := all[1].back(token, "4B", revoked)
	w.mu.Lock()
	calls := slices.Clone(w.restored)
	w.mu.Unlock()
	if len(calls) != 1 || calls[0].user != "u" || !slices.Equal(slices.Sorted(slices.Values(calls[0].groups)), []string{"4B", revoked}) {
		w.failf([]*client{c}, "the hook was asked %v, and it should be once, about the user u in 4B and %s", calls, revoked)
	}
	all[2].send(groups("4B"), "kept")
	all[2].send(groups(revoked), "lost")
	w.fence()
	c.hasSince("kept", 1)
	c.hasSince("lost", 0)
}

func resumeRefused(w *world) {
	all := w.resumers()
	c := all[0].user("u", "4B")
	token := c.token(1)
	changed := func(i int) string {
		b := []byte(token)
		if b[i]++; b[i] > 'z' || b[i] == 'Z'+1 || b[i] == '9'+1 {
			b[i] = 'A'
		}
		return string(b)
	}
	for i := 0; i < len(token); i += max(1, len(token)/16) {
		all[i%crew].unwelcome(fmt.Sprintf("a token whose byte %d was changed", i), changed(i))
	}
	all[1].unwelcome("half a token", token[:len(token)/2])
	all[1].unwelcome("a token and more", token+token)
	all[1].unwelcome("a token made by nobody", strings.Repeat("A", len(token)))
	all[1].unwelcome("another hub's token", all[0].hub("kitchen").connect(ConnectOptions{User: "u"}, "4B").token(1))
	all[1].unwelcome("another namespace's token", w.open("-x", 1)[0].user("u", "4B").token(1))
	h := all[1].hub(ward)
	w.mustFail("n2: Connect of the user v with a token of u", w.connect(w.newClient(h, "v"), ConnectOptions{User: "v", Token: token}), hubkit.ErrResume)
	all[2].send(groups("4B"), "still")
	w.fence()
	c.got("still") // it was not touched
	c.isOpen()
}

func resumeTwice(w *world) {
	all := w.settled()
	if _, can := all[0].hub(ward).raw.(Resumer); !can {
		w.without(AbilityResume)
	}
	old := all[0].user("u", "4B")
	token := old.token(1)
	older := all[1].back(token, "4B")
	newer := all[2].back(token, "4B")
	all[0].send(groups("4B"), "x")
	w.fence()
	older.hasSince("x", 0)
	newer.hasSince("x", 1)
	older.ended(ReasonReplaced, "")

	again := newer.token(1)
	h := []*hub{all[0].hub(ward), all[1].hub(ward), all[2].hub(ward)}
	rivals := make([]*client, crew)
	for i := range rivals {
		rivals[i] = w.newClient(h[i], "u")
	}
	w.each(crew, func(i int) {
		if err := w.connect(rivals[i], ConnectOptions{Token: again}); err != nil {
			w.mustFail(all[i].name+": Connect with a token that others present too", err, hubkit.ErrResume)
		}
	})
	w.eventually("the rivals to have settled it", func() bool {
		open := 0
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range rivals {
			if c.conn != nil && c.closed == nil {
				open++
			}
		}
		return open <= 1
	})
	w.fence()
	all[1].count(users("u"), 1)
}

func resumeEnded(w *world) {
	all := w.resumers()
	for _, from := range all {
		c := all[1].user("u", "4B")
		token := c.token(1)
		from.change(disconnect, c.target(), "bye", 1)
		for _, s := range all {
			s.unwelcome("the token of a client that was disconnected", token)
		}
	}
}

func resumeDeath(w *world) {
	all := w.settled()
	if _, can := all[0].hub(ward).raw.(Resumer); !can {
		w.without(AbilityResume)
	}
	old := all[2].user("u", "4B")
	token := old.token(1)
	all[2].kill()
	c := all[0].back(token, "4B")
	all[1].send(groups("4B"), "on")
	w.fence()
	c.hasSince("on", 1)
	w.buried(all[2], all[0], all[1])
	all[1].count(users("u"), 1)
}

func resumeExpired(w *world) {
	if !w.suite.bubble {
		w.without(AbilityFreeTime)
	}
	all := w.resumers()
	lifetime := all[0].hub(ward).raw.(Resumer).TokenLifetime() //nolint:forcetypeassert // resumers has looked
	left, stays := all[0].user("u", "4B"), all[0].user("v", "4B")
	token, first := left.token(1), stays.token(1)
	left.gone()
	w.within(2*lifetime, func() bool { return false })
	all[1].unwelcome("a token whose time is over", token)
	all[1].unwelcome("the first token of a client that has had newer ones", first)
	c := all[2].back(stays.token(2), "4B")
	all[0].send(groups("4B"), "x")
	w.fence()
	c.hasSince("x", 1)
}
