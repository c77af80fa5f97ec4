package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane"
)

// Abilities beyond the three verbs. They are found by type assertion. What an ability promises is proven, and
// where a backplane does not have it, the property is not claimed.

// Ability is an interface of package backplane that a backplane may implement beside [backplane.Backplane].
type Ability string

// The abilities.
const (
	AbilityCluster Ability = "backplane.Cluster"
	AbilityHealth  Ability = "backplane.HealthReporter"
)

func allAbilities() []Ability { return []Ability{AbilityCluster, AbilityHealth} }

// of reports whether a backplane has the ability.
func (a Ability) of(bp backplane.Backplane) bool {
	has := false
	switch a {
	case AbilityCluster:
		_, has = bp.(backplane.Cluster)
	case AbilityHealth:
		_, has = bp.(backplane.HealthReporter)
	}
	return has
}

// Claims repeats which abilities the backplane has, so that none gets lost or turns up unnoticed: claims/honest fails where
// they are not the ones found.
func Claims(abilities ...Ability) Option {
	return func(s *settings) { s.claims = append([]Ability{}, abilities...) }
}

func claimProperties() []Property {
	return []Property{
		{
			ID:    "claims/honest",
			Says:  "every instance has the abilities that the test claims for it, and no others.",
			Why:   "what is found by a type assertion gets lost without an error, and with it all that proves it.",
			Often: "a wrapper that passes the three verbs on, a method whose signature changed.",
			Since: "v1", run: claimsHonest,
		},
		{
			ID:    "members/id",
			Says:  "each instance has an id of its own, new at every start, which is the Publisher of its messages.",
			Why:   "answers and members could not be matched with messages, and an instance would be taken for its predecessor.",
			Often: "an id made of the host's name, two ids of which each part uses one.",
			Since: "v1", Ability: AbilityCluster, about: []string{"origin"}, run: membersID,
		},
		{
			ID:    "members/live",
			Says:  "every open instance lists all open instances, itself included and marked.",
			Why:   "a roll call would forget somebody.",
			Often: "a list that is asked for once, newcomers that hear of the others only after a while.",
			Since: "v1", Ability: AbilityCluster, run: membersLive,
		},
		{
			ID:    "members/goodbye",
			Says:  "an instance that is closed leaves the lists of the others, which is no gap.",
			Why:   "every deployment would look like an outage.",
			Often: "no goodbye, so that it dies of silence later; a goodbye that is taken for a loss.",
			Since: "v1", Ability: AbilityCluster, about: []string{"noFalseAlarm", "must"}, run: membersGoodbye,
		},
		{
			ID:    "members/death",
			Says:  "the others are not up while an instance that is cut off is late, list it no more within the member timeout, and again when it is back.",
			Why:   "what waits for it would wait for ever.",
			Often: "a list without heartbeats, one that a dead instance is never added to again, health that looks at the own link only.",
			Needs: NeedLink | NeedTime, Since: "v1", Ability: AbilityCluster, about: []string{"must", "lossIsLoud"}, run: membersDeath,
		},
		{
			ID:    "members/missed-goodbye",
			Says:  "an instance that is closed while another one is cut off is gone from that one's list within the member timeout after its return.",
			Why:   "what comes back from an outage would wait for one that is not there, for ever.",
			Often: "a list that goodbyes alone shorten, time-outs that stand still during an outage and are not started again.",
			Needs: NeedLink | NeedTime, Since: "v1", Ability: AbilityCluster, run: membersMissedGoodbye,
		},
		{
			ID:   "ask/answers",
			Says: "a question reaches each member, behind a stuck handler too, and who did not answer is told beside what the others said.",
			Why:  "a count of who is online would be silently too small.",
			Often: "answers that wait behind handlers, a timeout that drops what came in time, silence left out of the list, " +
				"questions recognised by their content.",
			Since: "v1", Ability: AbilityCluster, run: askAnswers,
		},
	}
}

func claimsHonest(w *world) {
	claims := w.suite.claims
	if claims == nil {
		w.without("the test does not say which abilities it expects: give Claims", NotClaimed)
	}
	for _, n := range w.crew() {
		for _, a := range allAbilities() {
			switch claimed := slices.Contains(claims, a); {
			case claimed && !a.of(n.backplane()):
				w.fatalf("the test claims that %s is a %s, and it is none", n.name, a)
			case !claimed && a.of(n.backplane()):
				w.fatalf("%s is a %s, and the test does not claim it", n.name, a)
			}
		}
	}
}

func membersID(w *world) {
	crew, room := w.crew(), group("room")
	for range 3 { // after one another
		n := w.newInstance(w.namespace())
		n.open()
		crew = append(crew, n)
		n.subscribe(room)
		n.publish(room)
		w.settle()
		n.close()
	}
	seen := map[backplane.NodeID]*instance{}
	for _, n := range crew {
		id := n.cluster().ID()
		if other := seen[id]; other != nil || id == "" {
			w.fatalf("%s has the id %q, as has another instance", n.name, id)
		}
		seen[id] = n
	}
	crew[0].subscribe(room)
	crew[1].publish(room)
}

// together waits until all instances list one another.
func (w *world) together(all []*instance) {
	for _, n := range all {
		w.eventually(n.name+" to list all open instances and nobody else", func() bool { return n.knows(all) })
	}
}

func membersLive(w *world) {
	crew := w.crew()
	w.together(crew)
	for range 2 {
		n := w.newInstance(w.namespace())
		n.open()
		crew = append(crew, n)
		w.together(crew)
	}
	for _, n := range crew {
		n.listsInOrder()
	}
}

func membersGoodbye(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	for range 3 {
		n := w.newInstance(w.namespace())
		n.open()
		n.subscribe(room)
		w.together(append(slices.Clone(crew), n))
		n.publish(room)
		n.close()
		w.together(crew)
		crew[0].publish(room)
	}
}

func askAnswers(w *world) {
	crew := w.crew()
	w.together(crew)
	asker, shy := crew[0], crew[len(crew)-1]
	id := map[backplane.NodeID]*instance{}
	for _, n := range crew {
		id[n.cluster().ID()] = n
		stop := n.answers("over", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return nil, nil })
		stop()
		n.answers("echo", func(_ context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s heard %s from %s", n.name, request, from), nil
		})
		n.answers("shy", func(ctx context.Context, _ backplane.NodeID, request []byte) ([]byte, error) {
			if n == shy {
				<-ctx.Done()
			}
			return request, nil
		})
		n.answers("fails", func(context.Context, backplane.NodeID, []byte) ([]byte, error) {
			return nil, errors.New(n.name + " will not")
		})
	}
	said := func(by, from *instance, request string) string {
		return fmt.Sprintf("%s heard %s from %s", by.name, request, from.cluster().ID())
	}
	for round := range 3 {
		if round > 0 { // a stuck handler is in nobody's way
			s, release := w.stalled(crew[1], group("room"))
			defer release()
			asker.publish(group("room"))
			w.await(crew[1].name+" to enter its handler", func() bool { return len(w.rec.running[s.id]) > 0 })
		}
		for _, from := range crew {
			request := fmt.Sprintf("%s/%d", from.name, round)
			for _, a := range w.asks(from, "echo", request, w.suite.patience) {
				if a.Err != nil || string(a.Payload) != said(id[a.Node], from, request) {
					w.fatalf("%s asked all, and of %s it heard %q, %v", from.name, id[a.Node].name, a.Payload, a.Err)
				}
			}
			w.asksEach(from, id, request, said)
		}
	}
	w.asksTheSame(asker, crew, id)
	ctx, cancel := context.WithTimeout(w.ctx, shortAsk) // right after the start it may wait for somebody whom it does not know yet
	defer cancel()
	if _, err := asker.ask(ctx, "0123456789abcdef", "echo", nil); !errors.Is(err, backplane.ErrUnavailable) {
		w.check()
		w.fatalf("%s asked a node that there is not, and got %v, not ErrUnavailable", asker.name, err)
	}
	w.asksInTurn(asker, shy, id)
	w.asksAfterLate(asker, shy, id)
	for _, service := range []string{"nobody's", "over"} {
		for _, a := range w.asks(asker, service, "?", w.suite.patience) {
			if !errors.Is(a.Err, backplane.ErrUnsupported) {
				w.fatalf("nobody answers a service (any more), and of %s it is told %v, not ErrUnsupported", id[a.Node].name, a.Err)
			}
		}
	}
	for _, a := range w.asks(asker, "fails", "?", w.suite.patience) {
		if a.Err == nil || !strings.Contains(a.Err.Error(), id[a.Node].name+" will not") {
			w.fatalf("the answer of %s is an error, and its text did not come: %v", id[a.Node].name, a.Err)
		}
	}
}

// asksTheSame asks again and again what is answered with how often it was asked.
func (w *world) asksTheSame(asker *instance, crew []*instance, id map[backplane.NodeID]*instance) {
	for _, n := range crew {
		var asked atomic.Int64
		n.answers("count", func(context.Context, backplane.NodeID, []byte) ([]byte, error) {
			return strconv.AppendInt(nil, asked.Add(1), 10), nil
		})
	}
	for round := 1; round <= 3; round++ {
		for _, a := range w.asks(asker, "count", "?", w.suite.patience) {
			if a.Err != nil || string(a.Payload) != strconv.Itoa(round) {
				w.fatalf("%s asked all how often they were asked, for time %d, and %s said %q, %v", asker.name, round, id[a.Node].name, a.Payload, a.Err)
			}
		}
	}
}

// shortAsk is time enough for an answer where the machine is not busy.
const shortAsk = 300 * time.Millisecond

// asksInTurn puts a question to all members that one of them, who is shy, does not answer. On a busy machine others are late,
// too; so they are given more time before they are blamed for it.
func (w *world) asksInTurn(asker, shy *instance, id map[backplane.NodeID]*instance) {
	for most, within := w.suite.patience/4, shortAsk; ; within *= 2 { //nolint:mnd // a share that leaves time for the rest
		last, late := within >= most, false
		for _, a := range w.asks(asker, "shy", "?", min(within, most)) {
			silent := id[a.Node] == shy
			switch missed := errors.Is(a.Err, backplane.ErrUnavailable); {
			case missed && !silent && !last:
				late = true
			case missed != silent, !silent && string(a.Payload) != "?":
				w.fatalf("%s does not answer, and of %s it is told %q, %v", shy.name, id[a.Node].name, a.Payload, a.Err)
			}
		}
		if !late {
			return
		}
	}
}

// asksAfterLate asks again after an answer that came too late, which belongs to no other question.
func (w *world) asksAfterLate(asker, slow *instance, id map[backplane.NodeID]*instance) {
	const onTheWay = 10 * time.Millisecond
	answered := make(chan struct{})
	answers := sync.OnceFunc(func() { close(answered) })
	for _, n := range id {
		n.answers("slow", func(ctx context.Context, _ backplane.NodeID, request []byte) ([]byte, error) {
			if n == slow && string(request) == "first" {
				defer answers()
				<-ctx.Done() // its asker's deadline has passed
				rest(w.ctx, onTheWay)
			}
			return request, nil
		})
	}
	w.asks(asker, "slow", "first", shortAsk)
	defer w.while("a question whose deadline has passed to be answered")()
	ctx, cancel := w.patient()
	defer cancel()
	select {
	case <-answered:
	case <-ctx.Done():
		w.check()
		w.fatalf("%s was asked %v ago with a deadline of %v, and the context of its answer has not ended", slow.name, w.suite.patience, shortAsk)
	}
	rest(w.ctx, onTheWay)
	for _, a := range w.asks(asker, "slow", "second", w.suite.patience) {
		if a.Err != nil || string(a.Payload) != "second" {
			w.fatalf("%s asked a second question, and of %s it is told %q, %v", asker.name, id[a.Node].name, a.Payload, a.Err)
		}
	}
}

// asks puts a question to all members, and checks that there is one answer for each of them.
func (w *world) asks(from *instance, service, request string, within time.Duration) []backplane.Answer {
	ctx, cancel := context.WithTimeout(w.ctx, within)
	defer cancel()
	answers, err := from.askAll(ctx, service, []byte(request))
	if err != nil {
		w.check()
		w.fatalf("AskAll of %s failed: %w", from.name, err)
	}
	var nodes []backplane.NodeID
	for _, a := range answers {
		nodes = append(nodes, a.Node)
	}
	want := from.ids()
	slices.Sort(want)
	if !slices.Equal(nodes, want) {
		w.fatalf("%s asked %v, and was told what %v said", from.name, want, nodes)
	}
	return answers
}

// asksEach asks each member on its own.
func (w *world) asksEach(
	from *instance, id map[backplane.NodeID]*instance, request string, said func(by, from *instance, request string) string,
) {
	ctx, cancel := w.patient()
	defer cancel()
	for node, n := range id {
		answer, err := from.ask(ctx, node, "echo", []byte(request))
		if err != nil || string(answer) != said(n, from, request) {
			w.check()
			w.fatalf("%s asked %s, and heard %q, %v", from.name, n.name, answer, err)
		}
	}
}
