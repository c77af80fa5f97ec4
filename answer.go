package backplane

import (
	"context"
	"errors"
	"fmt"
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

// Answer registers the function that answers questions for a service on this node, until stop is called. Each question
// runs on a goroutine of its own, at most 256 at once; more are answered with ErrUnavailable. A second registration of
// a service replaces the first. The function may use this node, but Close waits for it.
func (n *Node) Answer(service string, f AnswerFunc) (stop func()) {
	t := &n.questions
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers[service] = &f
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.answers[service] == &f {
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

// serve runs the function that answers a service here, on a goroutine of its own, and then done.
func (n *Node) serve(from NodeID, service string, request []byte, limit time.Duration, done func(context.Context, Answer)) error {
	t := &n.questions
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case t.serving >= servedMost:
		return errBusy
	}
	t.serving++
	f := t.answers[service]
	n.running.Go(func() {
		defer func() {
			t.mu.Lock()
			t.serving--
			t.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(n.handlers, limit)
		defer cancel()
		a := Answer{Node: n.id}
		if f == nil {
			a.Err = fmt.Errorf("%w: nobody answers %q on node %s", ErrUnsupported, service, n.id)
		} else {
			a.Payload, a.Err = (*f)(ctx, from, request)
		}
		n.stats.questionsServed.Add(1)
		done(ctx, a)
	})
	return nil
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
		status, payload = answerError, []byte("the answer is larger than MaxPayload")
	}
	c := n.newCall(ctx, 1)
	c.one = item{call: c, payload: answerBody(id, status, payload), typ: wire.Answer}
	if err := c.run(n, inboxAddress(nodeID(to)), &c.one); err != nil && !n.closed() {
		n.log.Warn("an answer could not be sent", "node", string(nodeID(to)), "err", err)
	}
}

func answerBody(id uint64, status byte, payload []byte) []byte {
	b := append(make([]byte, 0, len(payload)+12), answerVersion)
	b = appendUint64(b, id)
	b = append(b, status)
	return append(b, payload...)
}
