package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gobackplane/backplane"
)

// What errors say.

func errorProperties() []Property {
	return []Property{
		{
			ID:    "errors/documented",
			Says:  "errors are a *backplane.Error that names operation and address, wraps a documented one, and never shows a payload.",
			Why:   "programs decide by the kind of an error, and people search logs for the address.",
			Often: "an error of the client library passed on, a chain cut by formatting, a dump of the frame.",
			Since: "v1", about: []string{"errors"}, run: errorsDocumented,
		},
		{
			ID:    "errors/definite",
			Says:  "a definite error means that nobody hears the message; only ErrUncertain may mean either.",
			Why:   "a program sends again what was surely not sent, and an alert would come twice.",
			Often: "a deadline that passes while the message is on the wire, told as unavailable; a number that is used up by what was never sent.",
			Needs: NeedLink, Since: "v1", about: []string{"mustNot", "errors", "must", "counts"}, run: errorsDefinite,
		},
		{
			ID:    "publish/confirmed",
			Says:  "when Publish has returned nil the broker has the message: cutting the publisher off at once loses nothing.",
			Why:   "the program tells its user that the alert is out.",
			Often: "nil from a write into a buffer of the client or of the kernel, a late answer taken for that of the next publish.",
			Needs: NeedLink, Since: "v1", about: []string{"must", "lossIsLoud", "taken"}, run: publishConfirmed,
		},
	}
}

// withSecret is a size at which payloads hold the word that must not turn up in an error.
const withSecret = headerLen + 2*len(secret)

// explains fails if an error of a verb does not say what was called with which address.
func (w *world) explains(err error, op string, to backplane.Address, want class) {
	w.check()
	var e *backplane.Error
	o := classify(err)
	named := to.Validate() != nil || strings.Contains(o.Text, to.Name()) // what is no address may be quoted or cut
	switch {
	case want != "" && o.Class != want:
		w.fatalf("%s %v returned %v, and should be: %s", op, to, err, want)
	case err == nil:
	case !errors.As(err, &e):
		w.fatalf("%s %v returned %w, which is no *backplane.Error", op, to, err)
	case e.Op != op || e.Address != to:
		w.fatalf("%s %v returned %w, an Error of operation %q and address %v", op, to, err, e.Op, e.Address)
	case !strings.Contains(o.Text, op) || !named:
		w.fatalf("%s %v returned %w, whose text does not name them", op, to, err)
	}
}

func errorsDocumented(w *world) {
	crew, room := w.crew(), group("ward:4B")
	n := crew[0]
	n.subscribe(room)
	ctx, cancel := w.patient()
	defer cancel()
	over, end := context.WithCancel(w.ctx)
	end()
	try := func(ctx context.Context, to backplane.Address, size int, publish, subscribe class) {
		_, err := n.tryPublish(ctx, to, size)
		w.explains(err, "publish", to, publish)
		s, err := n.trySubscribe(ctx, to, nil)
		w.explains(err, "subscribe", to, subscribe)
		if err == nil {
			s.close()
		}
	}
	for _, bad := range []backplane.Address{{}, group(""), group("a\xffb"), group(strings.Repeat("x", 1025))} {
		try(ctx, bad, withSecret, badAddress, badAddress)
	}
	try(ctx, room, w.suite.largest()+1, tooLarge, ok)
	try(over, room, withSecret, "", "")
	if cut, _ := n.can(); cut {
		w.outage(n, func() {
			for range 3 {
				soon, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
				try(soon, room, withSecret, "", "")
				try(soon, group("new"), withSecret, "", "")
				cancel()
			}
		})
		n.publishAgain(room)
	} else {
		w.leavesOut(noFault("Cut"))
	}
	n.close()
	try(ctx, room, withSecret, closed, closed)
}

func errorsDefinite(w *world) {
	crew, room := w.crew(), group("room")
	n := crew[0]
	w.needCut(n)
	for _, other := range crew {
		other.subscribe(room)
	}
	_, hang := n.can()
	for _, fault := range []struct {
		name string
		can  bool
		do   func()
	}{
		{"Cut", true, n.cut}, {"Deafen", n.canDeafen(), n.deafen}, {"Mute", n.canMute(), n.mute}, {"Hang", hang, n.hang},
	} {
		if !fault.can {
			w.leavesOut(noFault(fault.name))
			continue
		}
		for _, patient := range []time.Duration{50 * time.Millisecond, 250 * time.Millisecond} {
			n.publishAgain(room)
			fault.do()
			const calls = 4
			w.each(calls, func(int) {
				ctx, cancel := context.WithTimeout(w.ctx, patient)
				defer cancel()
				_, _ = n.tryPublish(ctx, room, headerLen) // what it returns is for the rules
			})
			n.heal()
		}
	}
	n.publishAgain(room)
}

func publishConfirmed(w *world) {
	crew, room := w.crew(), group("room")
	publisher, others := crew[0], crew[1:]
	w.needCut(publisher)
	var subs []int
	for _, n := range others {
		subs = append(subs, n.subscribe(room).id)
	}
	_, hang := publisher.can()
	if !hang {
		w.leavesOut(noFault("Hang"))
	}
	for round := range 1 + w.count(5) { // each outage costs a reconnect
		if round%2 == 1 && hang { // an answer that nobody waits for any more may still come, and is not that of the next one
			publisher.publishAgain(room) // its link is well
			publisher.hang()
			ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
			_, _ = publisher.tryPublish(ctx, room, headerLen) // it is given up, and the record has it
			cancel()
			publisher.heal()
		}
		pub := publisher.publishAgain(room)
		publisher.cut()
		for k, s := range subs { // the message itself: the others have no reason for a gap
			what := fmt.Sprintf("%s to hear a message whose publisher was cut off after Publish had returned nil", others[k].name)
			w.await(what, func() bool { return w.rec.subs[s].heard[pub] > 0 })
		}
		publisher.heal()
	}
	publisher.publishAgain(room)
}
