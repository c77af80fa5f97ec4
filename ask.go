package backplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

const (
	questionVersion = 1
	answerVersion   = 1

	// servedMost is how many questions a node answers at once; more are refused at once, so that the asker knows.
	servedMost = 256
	// longestQuestion bounds how long an answering function may run where the asker has no deadline.
	longestQuestion = time.Minute
	// maxService is the longest name of a service, and of an error's text, in bytes.
	maxService = 256
)

// What an answer says.
const (
	answerOK          = 0
	answerError       = 1 // the function returned an error; its text is the payload
	answerUnsupported = 2 // nobody answers that service
	answerBusy        = 3 // too many questions at once
)

// errRemote is an error that another node's AnswerFunc returned.
type errRemote string

func (e errRemote) Error() string { return string(e) }

// questionTable holds the questions under way and the functions that answer.
type questionTable struct {
	mu      sync.Mutex // guards what follows
	newest  uint64
	open    map[uint64]*question
	answers map[string]*AnswerFunc
	serving int
}

// question is one Ask or AskAll that waits.
type question struct {
	waits   map[wire.Publisher]bool // who has not answered yet; guarded by questionTable.mu, as is all below
	answers []Answer
	done    chan struct{} // closed when nobody is waited for
}

func (t *questionTable) init() {
	t.open = map[uint64]*question{}
	t.answers = map[string]*AnswerFunc{}
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

// Ask sends a request to one node and returns its answer. It ends with ErrUnavailable when the node is not a member, has
// left, or is declared dead, and when ctx ends. An error that the answering function returned comes back as text.
func (n *Node) Ask(ctx context.Context, node NodeID, service string, request []byte) ([]byte, error) {
	if err := n.checkQuestion(ctx, service, request); err != nil {
		return nil, n.error("ask", Address{}, err)
	}
	if node == n.id {
		a := n.serve(ctx, n.id, service, request)
		if a.Err != nil {
			return nil, n.error("ask", Address{}, a.Err)
		}
		return a.Payload, nil
	}
	p, ok := n.members.find(node)
	if !ok {
		return nil, n.error("ask", Address{}, fmt.Errorf("%w: node %s is not a member", ErrUnavailable, node))
	}
	answers, err := n.ask(ctx, inboxAddress(node), []wire.Publisher{p}, service, request)
	if err == nil {
		err = answers[0].Err
	}
	if err != nil {
		return nil, n.error("ask", Address{}, err)
	}
	return answers[0].Payload, nil
}

// AskAll asks every member, this node included, and returns one answer for each, sorted by node. The error is not nil
// only if the question could not be sent; a node that left, died, or did not answer before ctx ended has an Answer
// whose Err wraps ErrUnavailable.
func (n *Node) AskAll(ctx context.Context, service string, request []byte) ([]Answer, error) {
	if err := n.checkQuestion(ctx, service, request); err != nil {
		return nil, n.error("ask", Address{}, err)
	}
	var answers []Answer
	if others := n.members.others(); len(others) > 0 {
		var err error
		if answers, err = n.ask(ctx, membersAddress, others, service, request); err != nil {
			return nil, n.error("ask", Address{}, err)
		}
	}
	answers = append(answers, n.serve(ctx, n.id, service, request))
	slices.SortFunc(answers, func(a, b Answer) int { return cmp.Compare(a.Node, b.Node) })
	return answers, nil
}

func (n *Node) checkQuestion(ctx context.Context, service string, request []byte) error {
	switch {
	case n.closed():
		return ErrClosed
	case service == "" || len(service) > maxService:
		return badOption("a service's name is 1 to %d bytes", maxService)
	case len(request) > n.o.MaxPayload:
		return fmt.Errorf("%w: %d bytes, MaxPayload is %d", ErrTooLarge, len(request), n.o.MaxPayload)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	return nil
}

// ask sends a question and collects the answers of the given nodes.
func (n *Node) ask(ctx context.Context, to Address, of []wire.Publisher, service string, request []byte) ([]Answer, error) {
	t := &n.questions
	q := &question{waits: make(map[wire.Publisher]bool, len(of)), done: make(chan struct{})}
	for _, p := range of {
		q.waits[p] = true
	}
	t.mu.Lock()
	t.newest++
	id := t.newest
	t.open[id] = q
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.open, id)
		t.mu.Unlock()
	}()
	n.stats.questionsAsked.Add(1)

	left := longestQuestion
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	body := append(make([]byte, 0, len(request)+len(service)+24), questionVersion)
	body = appendUint64(body, id)
	body = appendUint64(body, uint64(max(left/time.Millisecond, 1))) //nolint:gosec // positive
	body = appendBytes(body, service)
	body = append(body, request...)
	c := n.newCall(ctx, 1)
	c.one = item{call: c, payload: body, typ: wire.Ask}
	if err := c.run(n, to, &c.one); err != nil && !errors.Is(err, ErrUncertain) {
		return nil, err
	}
	select {
	case <-q.done:
	case <-ctx.Done():
	case <-n.ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range q.waits {
		err := fmt.Errorf("%w: no answer in time", ErrUnavailable)
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: no answer: %w", ErrUnavailable, context.Cause(ctx))
		}
		q.answers = append(q.answers, Answer{Node: nodeID(p), Err: err})
	}
	clear(q.waits)
	return q.answers, nil
}

// answered records an answer to a question under way. mu is held.
func (q *question) answered(p wire.Publisher, a Answer) {
	if !q.waits[p] {
		return // late, twice, or from somebody who was not asked
	}
	delete(q.waits, p)
	q.answers = append(q.answers, a)
	if len(q.waits) == 0 {
		close(q.done)
	}
}

// memberGone answers for a node that cannot any more.
func (t *questionTable) memberGone(p wire.Publisher, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range t.open {
		q.answered(p, Answer{Node: nodeID(p), Err: why})
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
	limit := min(time.Duration(min(ms, 1<<40))*time.Millisecond, longestQuestion) //nolint:gosec // bounded
	t := &n.questions
	t.mu.Lock()
	busy := t.serving >= servedMost
	if !busy {
		t.serving++
	}
	t.mu.Unlock()
	if busy {
		n.sendOwn(inboxAddress(nodeID(p)), wire.Answer, answerBody(id, answerBusy, nil))
		return nil
	}
	n.work.Go(func() {
		defer func() {
			t.mu.Lock()
			t.serving--
			t.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(n.handlers, limit)
		defer cancel()
		a := n.serve(ctx, nodeID(p), string(service), request)
		n.stats.questionsServed.Add(1)
		status, payload := byte(answerOK), a.Payload
		switch {
		case errors.Is(a.Err, ErrUnsupported):
			status, payload = answerUnsupported, nil
		case a.Err != nil:
			text := a.Err.Error()
			status, payload = answerError, []byte(text[:min(len(text), maxService)])
		case len(payload) > n.o.MaxPayload:
			status, payload = answerError, []byte("the answer is larger than MaxPayload")
		}
		c := n.newCall(ctx, 1)
		c.one = item{call: c, payload: answerBody(id, status, payload), typ: wire.Answer}
		if err := c.run(n, inboxAddress(nodeID(p)), &c.one); err != nil {
			n.log.Warn("an answer could not be sent", "node", string(nodeID(p)), "err", err)
		}
	})
	return nil
}

// serve runs the function that answers a service here.
func (n *Node) serve(ctx context.Context, from NodeID, service string, request []byte) Answer {
	t := &n.questions
	t.mu.Lock()
	f := t.answers[service]
	t.mu.Unlock()
	if f == nil {
		return Answer{Node: n.id, Err: fmt.Errorf("%w: nobody answers %q on node %s", ErrUnsupported, service, n.id)}
	}
	payload, err := (*f)(ctx, from, request)
	return Answer{Node: n.id, Payload: payload, Err: err}
}

func answerBody(id uint64, status byte, payload []byte) []byte {
	b := append(make([]byte, 0, len(payload)+12), answerVersion)
	b = appendUint64(b, id)
	b = append(b, status)
	return append(b, payload...)
}

// answerHeard hands an answer to the question that waits for it.
func (n *Node) answerHeard(p wire.Publisher, body []byte) error {
	if len(body) == 0 || body[0] != answerVersion {
		return fmt.Errorf("%w of an answer", wire.ErrVersion)
	}
	id, rest, err := uint64At(body[1:])
	if err != nil || len(rest) == 0 {
		return fmt.Errorf("%w: an answer", wire.ErrBroken)
	}
	node := nodeID(p)
	a := Answer{Node: node}
	switch rest[0] {
	case answerOK:
		a.Payload = rest[1:]
	case answerUnsupported:
		a.Err = fmt.Errorf("%w: nobody answers that service on node %s", ErrUnsupported, node)
	case answerBusy:
		a.Err = fmt.Errorf("%w: node %s answers too many questions at once", ErrUnavailable, node)
	default:
		a.Err = errRemote(rest[1:])
	}
	t := &n.questions
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.open[id]; q != nil {
		q.answered(p, a)
	}
	return nil
}
