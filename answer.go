package backplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// repeated reports whether a question was heard before: one of unknown fate is sent again. mu is held.
func (t *questionTable) repeated(q questionID) bool {
	for _, heard := range t.heard {
		if _, ok := heard[q]; ok {
			return true
		}
	}
	if len(t.heard[0]) >= heardMost {
		t.heard[1], t.heard[0] = t.heard[0], make(map[questionID]struct{}, heardMost)
	}
	t.heard[0][q] = struct{}{}
	return false
}

// answerer answers the questions for a service, at once or later.
type answerer struct {
	now   AnswerFunc
	later DeferredAnswerFunc // where now is nil
}

// Answer registers the function that answers questions for a service on this node, until stop is called. Each question
// runs on a goroutine of its own, at most 256 at once; more are answered with ErrBusy. A second registration of
// a service replaces the first. The function may use this node, but Close waits for it.
func (n *Node) Answer(service string, f AnswerFunc) (stop func()) {
	return n.questions.register(service, &answerer{now: f})
}

// AnswerDeferred is [Node.Answer] for answers that take their time, because they wait for a person, say: a question counts
// among the 256 only until f has returned. At most 16,384 answers may be owed, sent ones not counted; more questions are answered
// with ErrBusy.
func (n *Node) AnswerDeferred(service string, f DeferredAnswerFunc) (stop func()) {
	return n.questions.register(service, &answerer{later: f})
}

func (t *questionTable) register(service string, a *answerer) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers[service] = a
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.answers[service] == a {
			delete(t.answers, service)
		}
	}
}

// questionHeard starts the answering of a question.
func (n *Node) questionHeard(p wire.Publisher, body []byte) error {
	if p == n.publisher {
		return nil // AskAll answers for its own node itself
	}
	if len(body) == 0 || body[0] != questionVersion {
		return fmt.Errorf("%w of a question", wire.ErrVersion)
	}
	id, rest, err := uint64At(body[1:])
	if err != nil {
		return err
	}
	ms, rest, err := uint64At(rest)
	if err != nil {
		return err
	}
	service, request, err := bytesAt(rest)
	if err != nil || len(service) > maxService {
		return fmt.Errorf("%w: a question's service", wire.ErrBroken)
	}
	limit := min(time.Duration(min(ms, 1<<40))*time.Millisecond, longestQuestion)
	t := &n.questions
	t.mu.Lock()
	repeated := t.repeated(questionID{p, id})
	t.mu.Unlock()
	if repeated {
		return nil
	}
	err = n.serve(nodeID(p), string(service), request, limit, func(ctx context.Context, a Answer) { n.sendAnswer(ctx, p, id, a) })
	if errors.Is(err, errBusy) {
		n.sendOwn(inboxAddress(nodeID(p)), wire.Answer, answerBody(id, answerBusy, nil))
	}
	return nil // a node that closes says goodbye to the asker
}

// serve runs the function that answers a service here, on a goroutine of its own, and then, or when it has its answer, done.
func (n *Node) serve(from NodeID, service string, request []byte, limit time.Duration, done func(context.Context, Answer)) error {
	t := &n.questions
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.answers[service]
	deferring := a != nil && a.now == nil
	switch {
	case t.closed:
		return ErrClosed
	case t.serving >= servedMost, deferring && t.deferred >= deferredMost:
		return errBusy
	}
	t.serving++
	if deferring {
		t.deferred++
	}
	n.running.Go(func() {
		defer func() {
			t.mu.Lock()
			t.serving--
			t.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(n.handlers, limit)
		defer cancel()
		if deferring {
			var once sync.Once
			a.later(ctx, from, request, func(payload []byte, err error) {
				once.Do(func() { n.sendDeferred(done, Answer{Node: n.id, Payload: payload, Err: err}) })
			})
			return
		}
		answer := Answer{Node: n.id}
		if a == nil {
			answer.Err = fmt.Errorf("%w: nobody answers %q on node %s", ErrUnsupported, service, n.id)
		} else {
			answer.Payload, answer.Err = a.now(ctx, from, request)
		}
		n.stats.questionsServed.Add(1)
		done(ctx, answer)
	})
	return nil
}

// sendDeferred sends the answer of a deferring function, on a goroutine of its own: who has the answer does not wait for the
// broker.
func (n *Node) sendDeferred(done func(context.Context, Answer), a Answer) {
	t := &n.questions
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed { // the asker hears the goodbye
		return
	}
	n.running.Go(func() {
		defer func() {
			t.mu.Lock()
			t.deferred--
			t.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(n.handlers, longestQuestion)
		defer cancel()
		n.stats.questionsServed.Add(1)
		done(ctx, a)
	})
}

// sendAnswer sends an answer to who asked.
func (n *Node) sendAnswer(ctx context.Context, to wire.Publisher, id uint64, a Answer) {
	status, payload := byte(answerOK), a.Payload
	switch {
	case errors.Is(a.Err, ErrUnsupported):
		status, payload = answerUnsupported, nil
	case a.Err != nil:
		status, payload = answerError, []byte(errorText(a.Err.Error()))
	case len(payload) > n.o.MaxPayload:
		status, payload = answerTooLarge, []byte("the answer is larger than MaxPayload")
	}
	if err := n.send(ctx, inboxAddress(nodeID(to)), wire.Answer, answerBody(id, status, payload)); err != nil && !n.closed() {
		n.log.Warn("an answer could not be sent", "node", string(nodeID(to)), "err", err)
	}
}

func answerBody(id uint64, status byte, payload []byte) []byte {
	b := append(make([]byte, 0, len(payload)+12), answerVersion)
	b = appendUint64(b, id)
	b = append(b, status)
	return append(b, payload...)
}
