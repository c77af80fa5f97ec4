package conformance

import (
	"fmt"

	"github.com/gobackplane/backplane"
)

// What is lost although every link is healthy.

func lostProperties() []Property {
	const why = "no link event tells of it, so nothing but the numbers of messages can."
	return []Property{
		{
			ID:    "link/lost-middle",
			Says:  "messages that are lost on a healthy link are told by an exact count for each publisher, before its next message.",
			Why:   why,
			Often: "no numbers, one row of numbers for all publishers, numbers that count from the first message heard.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "lossIsLoud", "counts"}, run: linkLostMiddle,
		},
		{
			ID:    "link/lost-tail",
			Says:  "the loss of the last messages on a healthy link is told although nothing comes after them.",
			Why:   "the last message is the state that everybody looks at from then on.",
			Often: "a gap that waits for the next message to show it.",
			Needs: NeedLink | NeedTime, Since: "v1", about: []string{"must", "counts"}, run: linkLostTail,
		},
		{
			ID: "link/last-words",
			Says: "what the server of an instance had taken, and not passed on when the instance died, is told by a gap to all who did not hear it, on " +
				"every address.",
			Why:   "Publish had returned nil, and nobody is left who could say that it was lost.",
			Often: "a death that is seen in the list of members only, a gap only where something of the dead one was heard before.",
			Needs: NeedLink | NeedTime, Since: "v1", about: []string{"must"}, run: linkLastWords,
		},
		{
			ID:    "link/lost-first",
			Says:  "the loss of the first messages to a new subscription on a healthy link is told by an exact count, also of those who published before.",
			Why:   why + " And whoever has just subscribed knows no number yet.",
			Often: "counts that begin with the first message heard.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "lossIsLoud", "counts"}, run: linkLostFirst,
		},
	}
}

const noLoss = "nobody can lose a message on a healthy link: Inject gives no Lose"

func linkLostMiddle(w *world) {
	crew, room := w.crew(), group("room")
	misses, other := crew[0], crew[1]
	if !misses.canLose() {
		w.notExercised(noLoss)
	}
	s := misses.subscribe(room)
	other.subscribe(room) // it misses nothing, and must not be told that it did
	for round := range 3 {
		w.arrives(other.publish(room), []int{s.id})
		w.arrives(misses.publish(room), []int{s.id})
		loses := []struct {
			by          *instance
			lost, known int
		}{{other, 1 + 3*round, w.missed(s, other)}, {misses, 2, w.missed(s, misses)}}
		misses.lose()
		for _, l := range loses {
			for range l.lost {
				l.by.publish(room)
			}
		}
		misses.heal()
		for _, l := range loses {
			next := l.by.publish(room)
			w.await(w.describe(s.id, next), func() bool { return w.rec.subs[s.id].heard[next] > 0 })
			if told := w.missed(s, l.by) - l.known; told != l.lost {
				w.fail(fmt.Errorf("%s lost %d messages of %s, and the gaps before the next one count %d", misses.name, l.lost, l.by.name, told), true)
				return
			}
		}
	}
	if _, is := misses.backplane().(backplane.Cluster); is { // else the first message that it hears of a publisher may be its first
		w.losesTheFirst(misses, s, append(crew, w.newInstance(w.namespace())), room)
	}
}

// losesTheFirst loses the first messages of the last of all instances, which opens when the subscription is in force. Who
// lists a newcomer knows that it has missed nothing of it until then, and that what it misses from then on is a loss.
func (w *world) losesTheFirst(misses *instance, s *sub, all []*instance, room backplane.Address) {
	const lost = 2
	newcomer := all[len(all)-1]
	newcomer.open()
	w.together(all)
	misses.lose()
	for range lost {
		newcomer.publish(room)
	}
	misses.heal()
	next := newcomer.publish(room)
	w.await(w.describe(s.id, next), func() bool { return w.rec.subs[s.id].heard[next] > 0 })
	if told := w.missed(s, newcomer); told != lost {
		w.fail(fmt.Errorf("%s lost the first %d messages of %s, and the gaps before the next one count %d", misses.name, lost, newcomer.name, told), true)
	}
}

func linkLostTail(w *world) {
	crew, room := w.crew(), group("room")
	misses, publisher := crew[0], crew[1]
	if !misses.canLose() {
		w.notExercised(noLoss)
	}
	first, second := misses.subscribe(room), misses.subscribe(room)
	publisher.subscribe(room)
	w.arrives(publisher.publish(room), []int{first.id, second.id})
	misses.lose()
	last := publisher.publish(room)
	misses.heal()
	for _, s := range []*sub{first, second} {
		w.await(w.describe(s.id, last)+", or of its loss", func() bool { return w.rec.delivered(s.id, last) })
	}
}

const noPartition = "the broker's servers cannot be parted, or it is one server: Inject gives no Partition"

func linkLastWords(w *world) {
	crew := w.crew()
	dies, rest := crew[0], crew[1:]
	if !dies.canPart() {
		w.notExercised(noPartition)
	}
	known, fresh := group("room"), group("where it was never heard")
	subs := map[backplane.Address][]int{}
	for _, n := range rest {
		for _, room := range []backplane.Address{known, fresh} {
			subs[room] = append(subs[room], n.subscribe(room).id)
		}
	}
	w.arrives(dies.publish(known), subs[known])
	dies.part()
	last := map[backplane.Address]int{known: dies.publish(known), fresh: dies.publish(fresh)}
	dies.close() // its goodbye gets no further than they did
	dies.heal()
	w.aside(func() {
		for room, pub := range last {
			for _, s := range subs[room] {
				w.within(memberTimeout, func() bool { return w.rec.delivered(s, pub) })
				w.arrives(pub, []int{s})
			}
		}
	})
}

func linkLostFirst(w *world) {
	if !w.suite.baselines {
		w.without("a new subscription learns no numbers of others: the test does not give Baselines", NotClaimed)
	}
	crew, room := w.crew(), group("room")
	misses, publisher := crew[0], crew[1]
	if !misses.canLose() {
		w.notExercised(noLoss)
	}
	hears := publisher.subscribe(room)
	for round := range 3 {
		for range 1 + round {
			w.arrives(publisher.publish(room), []int{hears.id})
		}
		s := misses.subscribe(room)
		misses.lose()
		lost := 1 + round
		for range lost {
			publisher.publish(room)
		}
		misses.heal()
		next := publisher.publish(room)
		w.await(w.describe(s.id, next), func() bool { return w.rec.subs[s.id].heard[next] > 0 })
		if told := w.missed(s, publisher); told != lost {
			w.fail(fmt.Errorf("%s lost the first %d messages of %s to a new subscription, and the gaps before the next one count %d",
				misses.name, lost, publisher.name, told), true)
			return
		}
		s.close()
	}
}

// missed is how many messages of an instance a subscription was told to be missing.
func (w *world) missed(s *sub, by *instance) (told int) {
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	id := w.rec.h.Nodes[by.id].ID
	for i := range w.rec.h.Runs { // not every backplane tells its instances' ids
		if r := &w.rec.h.Runs[i]; id == "" && r.Pub >= 0 && w.rec.h.Pubs[r.Pub].Node == by.id {
			id = r.Publisher
		}
	}
	for i := range w.rec.h.Runs {
		if r := &w.rec.h.Runs[i]; r.Sub == s.id && r.Missed > 0 && r.Publisher == id {
			told += int(r.Missed) //nolint:gosec // far below
		}
	}
	return told
}
