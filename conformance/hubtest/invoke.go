package hubtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// The chapter of asking clients.
func invokeProperties() []Property {
	return []Property{
		{
			ID: "invoke/answers", Contract: "H2", Since: "v1", Needs: AbilityInvoke,
			Says:  "a client, asked from any instance, gets the request, and who asks gets its answer, both as they were.",
			Why:   "a server could not ask the one who knows.",
			Often: "an answer that only the client's own instance can take.",
			run:   invokeAnswers,
		},
		{
			ID: "invoke/client-error", Contract: "H2", Since: "v1", Needs: AbilityInvoke,
			Says:  "a client's error comes back as an error with the client's text, from any instance.",
			Why:   "a refusal would be taken for an answer.",
			Often: "an error that is put into the payload.",
			run:   invokeClientError,
		},
		{
			ID: "invoke/wrong-client", Contract: "H2", Since: "v1", Needs: AbilityInvoke,
			Says:  "an answer from another client than the one asked is refused, and the right one can still answer, once.",
			Why:   "one client could answer for another.",
			Often: "a table of questions without whom they were put to.",
			run:   invokeWrongClient,
		},
		{
			ID: "invoke/unknown", Contract: "H2", Since: "v1", Needs: AbilityInvoke,
			Says:  "asking a connection that has ended is ErrNotFound at once, from any instance, and asking what is no connection's id ErrInvalidTarget.",
			Why:   "who asks would wait for nobody.",
			Often: "a question that is sent into an empty channel.",
			run:   invokeUnknown,
		},
		{
			ID: "invoke/parallel", Contract: "H2", Since: "v1", Needs: AbilityInvoke,
			Says:  "many questions at once, of several instances to several clients and answered in any order, each get their own answer.",
			Why:   "one patient's answer would be filed under another.",
			Often: "answers that are matched by their order.",
			run:   invokeParallel,
		},
		{
			ID: "invoke/ids", Contract: "H2", Since: "v1", Needs: AbilityInvoke,
			Says:  "questions of different instances to one client have different ids.",
			Why:   "the client's one answer would belong to two questions.",
			Often: "a counter for each instance.",
			run:   invokeIDs,
		},
		{
			ID: "invoke/disconnect", Contract: "H2", Since: "v1", Needs: AbilityInvoke,
			Says:  "a question ends at once with ErrDisconnected when its client leaves or is disconnected.",
			Why:   "who asks would wait for its whole time for somebody who has gone.",
			Often: "a wait for the answer alone.",
			run:   invokeDisconnect,
		},
		{
			ID: "invoke/cancel", Contract: "H2", Since: "v1", Needs: AbilityInvoke,
			Says:  "a question ends with its context, and an answer that comes later reaches nobody and is no answer to the next question.",
			Why:   "the next question would get the last one's answer.",
			Often: "an answer slot that is used again.",
			run:   invokeCancel,
		},
	}
}

// invoked is what became of a question.
type invoked struct {
	answer string
	err    error
}

// invoke asks a client.
func (s *seat) invoke(ctx context.Context, id, request string) (r invoked) {
	names := s.w.names([]string{id})
	r.err = s.w.callWith(ctx, s, names, fmt.Sprintf("Invoke(%s, %s)", names[0], shown(request)), func(ctx context.Context) (string, error) {
		answer, err := s.hub(ward).raw.Invoke(ctx, id, []byte(request))
		r.answer = string(answer)
		return shown(r.answer) + " ", err
	})
	return r
}

// asks begins an invocation; the function returned waits for what becomes of it.
func (s *seat) asks(c *client, request string) (outcome func() invoked) {
	var r invoked
	finish := s.w.begin(func() {
		ctx, cancel := s.w.patient()
		defer cancel()
		r = s.invoke(ctx, c.id(), request)
	})
	return func() invoked {
		finish()
		return r
	}
}

// answered checks that a question got an answer.
func (w *world) answered(what string, r invoked, want string) {
	w.check()
	if r.err != nil || r.answer != want {
		w.fatalf("%s got %s (%w), and it should be %s", what, shown(r.answer), orNone(r.err), shown(want))
	}
}

var errNone = errors.New("no error")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// question waits for the n-th question to a client.
func (c *client) question(n int) (q question) {
	c.w.await([]*client{c}, fmt.Sprintf("question %d to %s", n+1, c.name), func() bool { return len(c.asked) > n })
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.asked[n]
}

// reply answers a question.
func (c *client) reply(id, answer string) error {
	return c.w.call(c.hub.seat, []string{c.name}, fmt.Sprintf("%s answers %s", c.name, shown(answer)), func(context.Context) (string, error) {
		return "", c.conn.Reply(id, []byte(answer), nil)
	})
}

func invokeAnswers(w *world) {
	all := w.crew()
	c := all[1].answering(func(request string) (string, error) { return "you said " + request, nil })
	large := strings.Repeat("x\x00\xff", 40_000)
	for _, s := range all {
		for _, request := range []string{"hi", "", large} {
			ctx, cancel := w.patient()
			w.answered(s.name+"'s question", s.invoke(ctx, c.id(), request), "you said "+request)
			cancel()
		}
	}
	c.isOpen()
}

var errBeds = errors.New("out of beds")

func invokeClientError(w *world) {
	all := w.crew()
	c := all[1].answering(func(string) (string, error) { return "dropped", errBeds })
	for _, s := range all {
		ctx, cancel := w.patient()
		r := s.invoke(ctx, c.id(), "?")
		cancel()
		w.check()
		if r.err == nil || !strings.Contains(r.err.Error(), errBeds.Error()) || r.answer != "" {
			w.failf([]*client{c}, "%s's question got %s and %w, and the client answered with the error %q",
				s.name, shown(r.answer), orNone(r.err), errBeds.Error())
		}
	}
}

func invokeWrongClient(w *world) {
	all := w.crew()
	c := all[1].member()
	others := []*client{all[1].member(), all[0].member()}
	for i, from := range all {
		pending := from.asks(c, "?")
		q := c.question(i)
		for _, other := range others {
			w.mustFail(other.name+" answering "+c.name+"'s question", other.reply(q.id, "wrong"), hubkit.ErrNotInvoked)
		}
		if err := c.reply(q.id, "right"); err != nil {
			w.failf([]*client{c}, "%s's own answer was refused: %w", c.name, err)
		}
		w.answered(from.name+"'s question", pending(), "right")
		w.mustFail(c.name+" answering twice", c.reply(q.id, "again"), hubkit.ErrNotInvoked)
	}
}

func invokeUnknown(w *world) {
	all := w.crew()
	c, thrown := all[1].member(), all[1].member()
	c.gone()
	all[0].change(disconnect, thrown.target(), "bye", 1)
	for _, s := range all {
		for id, want := range map[string]error{
			c.id(): hubkit.ErrNotFound, thrown.id(): hubkit.ErrNotFound, "": hubkit.ErrInvalidTarget, "nobody's": hubkit.ErrInvalidTarget,
		} {
			ctx, cancel := w.patient()
			w.mustFail(s.name+"'s question to "+w.names([]string{id})[0], s.invoke(ctx, id, "?").err, want)
			cancel()
		}
	}
}

func invokeParallel(w *world) {
	all := w.crew()
	const each = 5
	clients := []*client{all[0].member(), all[1].member()}
	pending := map[*client][]func() invoked{}
	for i := range each * crew {
		for _, c := range clients {
			pending[c] = append(pending[c], all[i%crew].asks(c, strconv.Itoa(i)))
		}
	}
	for _, c := range clients {
		c.question(each*crew - 1)
		w.mu.Lock()
		asked := slices.Clone(c.asked)
		w.mu.Unlock()
		for _, q := range slices.Backward(asked) { // the newest first
			if err := c.reply(q.id, c.name+" "+q.request); err != nil {
				w.failf([]*client{c}, "%s's answer was refused: %w", c.name, err)
			}
		}
		for i, outcome := range pending[c] {
			w.answered(fmt.Sprintf("question %d to %s", i, c.name), outcome(), c.name+" "+strconv.Itoa(i))
		}
	}
}

func invokeIDs(w *world) {
	all := w.crew()
	const each = 8
	c := all[1].member()
	ids := map[string]bool{}
	var pending []func() invoked
	for range each {
		for _, s := range all {
			pending = append(pending, s.asks(c, "?"))
		}
	}
	for i := range each * crew {
		q := c.question(i)
		if ids[q.id] {
			w.failf([]*client{c}, "two open questions to %s have the id %q", c.name, q.id)
		}
		ids[q.id] = true
	}
	c.gone()
	for _, outcome := range pending {
		outcome()
	}
}

func invokeDisconnect(w *world) {
	all := w.crew()
	for _, from := range all {
		for what, end := range map[string]func(*client){
			"left": (*client).gone, "was disconnected": func(c *client) { all[2].change(disconnect, c.target(), "bye", 1) },
		} {
			c := all[1].member()
			pending := from.asks(c, "?")
			c.question(0)
			end(c)
			w.mustFail(fmt.Sprintf("%s's question to %s, which %s", from.name, c.name, what), pending().err, hubkit.ErrDisconnected)
		}
	}
}

func invokeCancel(w *world) {
	all := w.crew()
	for _, from := range all {
		c := all[1].member()
		ctx, cancel := w.patient()
		var r invoked
		finish := w.begin(func() { r = from.invoke(ctx, c.id(), "first") })
		first := c.question(0)
		cancel()
		finish()
		if r.err == nil || !errors.Is(r.err, backplane.ErrTimeout) {
			w.mustFail(from.name+"'s question whose context has ended", r.err, backplane.ErrTimeout)
		}
		w.fence()
		pending := from.asks(c, "second")
		second := c.question(1)
		if err := c.reply(first.id, "late"); err != nil && !errors.Is(err, hubkit.ErrNotInvoked) {
			w.failf([]*client{c}, "a late answer ended with %w", err)
		}
		if err := c.reply(second.id, "in time"); err != nil {
			w.failf([]*client{c}, "%s's answer was refused: %w", c.name, err)
		}
		w.answered(from.name+"'s second question", pending(), "in time")
	}
}
