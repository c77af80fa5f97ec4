package hubtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// The chapter of instances that die or leave.
func deathProperties() []Property {
	return []Property{
		{
			ID: "death/pending", Contract: "H6", Since: "v1", Slow: true, Needs: AbilityKill,
			Says: "when an instance dies without a goodbye, operations and questions that wait for it end with ErrNodeLost as soon as it is known, " +
				"and answers from all name it until then.",
			Why:   "whoever waits for the dead would wait for the whole of their time.",
			Often: "a wait that only an answer or the own deadline ends.",
			run:   deathPending,
		},
		{
			ID: "death/no-ghosts", Contract: "H6", Since: "v1", Slow: true, Needs: AbilityKill,
			Says:  "the connections of an instance that died leave every answer, which is whole again; what is sent and done elsewhere goes on.",
			Why:   "people would be online who have not been there for days.",
			Often: "entries in the broker that only their own instance removes.",
			run:   deathNoGhosts,
		},
		{
			ID: "death/goodbye", Contract: "H2", Since: "v1", Slow: true,
			Says:  "when an instance is closed its connections are told so and are gone at once: ErrNotFound, and in no answer.",
			Why:   "every deployment would look like an outage.",
			Often: "no goodbye, so that the instance dies of silence later.",
			run:   deathGoodbye,
		},
	}
}

func deathPending(w *world) {
	all := w.settled()
	victim := all[2]
	c, other := victim.user("u", "4B"), all[1].member("4B")
	asked := map[string]func() invoked{}
	if w.suite.has(AbilityInvoke) {
		asked["n1's question"], asked["n2's question"] = all[0].asks(c, "?"), all[1].asks(c, "?")
		c.question(1) // both are there, and are never answered
	}
	hangs := victim.fault().Hang != nil
	if hangs { // then what follows waits for it when it dies
		victim.hang()
	} else {
		victim.kill()
	}
	ends := map[string]func() error{}
	for _, op := range operations() {
		var err error
		finish := w.begin(func() {
			ctx, cancel := w.patient()
			defer cancel()
			_, err = all[0].operate(ctx, op, c.target(), "g")
		})
		ends[op] = func() error { finish(); return err }
	}
	var counted Count
	var listed Page
	count := w.begin(func() { counted = w.counts(all[1], groups("4B")) })
	list := w.begin(func() { listed, _ = all[1].page(groups("4B"), 10, "") })
	if hangs {
		victim.kill()
	}
	for what, end := range asked {
		w.mustFail(what+" to "+c.name+", whose instance died", end().err, backplane.ErrNodeLost)
	}
	for op, end := range ends {
		w.mustFail("n1: "+op+" of "+c.name+", whose instance died", end(), backplane.ErrNodeLost)
	}
	count()
	list()
	for what, got := range map[string]struct {
		n int
		Coverage
	}{"Count": {counted.Connections, counted.Coverage}, "List": {len(listed.Connections), listed.Coverage}} {
		if got.n != 1 || !slices.Contains(got.Missing, victim.name) {
			w.fatalf("n2: %s while n3 was dying has %d connections and misses %v, and it should be 1 and n3", what, got.n, got.Missing)
		}
	}
	other.isOpen()
}

// brief is a context's time in which who does not hang answers, and nobody is declared dead.
const brief = 1500 * time.Millisecond

// counts is Count without a judgement.
func (w *world) counts(s *seat, of Target) (c Count) {
	_ = w.call(s, w.keys(of), fmt.Sprintf("Count(%s)", w.target(of)), func(ctx context.Context) (string, error) {
		var err error
		c, err = s.hub(ward).raw.Count(ctx, of)
		return fmt.Sprintf("%d, missing %v ", c.Connections, c.Missing), err
	})
	w.check()
	return c
}

// buried waits until instances know that another one is dead.
func (w *world) buried(dead *seat, seats ...*seat) {
	for _, s := range seats {
		w.eventually(s.name+" knows that "+dead.name+" is dead", func() bool {
			c, err := s.hub(ward).raw.Count(w.ctx, everybody())
			return err == nil && !slices.Contains(c.Missing, dead.name) && !c.Settling
		})
	}
}

func deathNoGhosts(w *world) {
	all := w.settled()
	alive, dead := all[1].user("u", "4B"), all[2].user("u", "4B", "only")
	all[0].count(groups("4B"), 2)
	all[2].kill()
	w.buried(all[2], all[0], all[1])
	for _, s := range all[:2] {
		s.count(groups("4B"), 1)
		s.count(users("u"), 1)
		s.count(everybody(), 1)
		s.count(groups("only"), 0)
		s.exists(groups("only"), false)
		list := w.list([]*seat{s}, groups("4B"), 10)
		if len(list) != 1 || list[0].ID != alive.id() {
			w.fatalf("%s lists %v, and it should be %s alone", s.name, w.infos(list), alive.name)
		}
		for _, op := range operations() {
			s.refused(op, dead.target(), "g", backplane.ErrNodeLost)
		}
		s.change(join, users("u"), s.name, 1)
		s.send(groups(s.name), s.name)
	}
	w.fence()
	alive.got("n1", "n2")
}

func deathGoodbye(w *world) {
	all := w.settled()
	stays, c := all[1].user("u", "4B"), all[2].user("u", "4B")
	all[2].close()
	c.ended(ReasonGoingAway, "")
	for _, s := range all[:2] {
		for _, op := range operations() {
			s.refused(op, c.target(), "g", hubkit.ErrNotFound)
		}
		s.count(groups("4B"), 1)
		s.count(everybody(), 1)
		s.exists(to(c), false)
	}
	h := all[2].hub(ward)
	w.mustFail("Connect to a closed hub", w.connect(w.newClient(h, ""), ConnectOptions{}), backplane.ErrClosed)
	w.mustFail("Send on a closed hub", h.trySend(everybody(), "x"), backplane.ErrClosed)
	for _, op := range operations() {
		all[2].refused(op, stays.target(), "g", backplane.ErrClosed)
	}
	stays.isOpen()
}
