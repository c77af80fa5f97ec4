package backplane

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

const (
	questionVersion = 1
	answerVersion   = 1

	// servedMost is how many questions a node answers at once; more are refused at once, so that the asker knows.
	servedMost = 256
	// deferredMost is how many answers of deferring functions may be owed at once, beside.
	deferredMost = 16384
	// longestQuestion bounds how long an answering function may run, and how long an asker without a deadline waits.
	longestQuestion = time.Minute
	// maxService is the longest name of a service, and of an error's text, in bytes.
	maxService = 256
	// heardMost is how many questions are remembered, twice, so that one that comes again is not answered again.
	heardMost = 1024
)

// What an answer says.
const (
	answerOK          = 0
	answerError       = 1 // the function returned an error; its text is the payload
	answerUnsupported = 2 // nobody answers that service
	answerBusy        = 3 // too many questions at once
	answerTooLarge    = 4 // the answer is larger than MaxPayload; its text is the payload
)

// remoteError is an error that another node's AnswerFunc returned.
type remoteError string

func (e remoteError) Error() string { return string(e) }

// errorText is the text of an error as it travels.
func errorText[T string | []byte](text T) string {
	return strings.ToValidUTF8(string(text[:min(len(text), maxService)]), "")
}

// questionTable holds the questions under way and the functions that answer.
type questionTable struct {
	mu       sync.Mutex // guards what follows
	newest   uint64
	open     map[uint64]*question
	answers  map[string]*answerer
	serving  int // questions whose function runs
	deferred int // questions of deferring functions whose answer has not been sent
	closed   bool
	heard    [2]map[questionID]struct{} // questions heard lately; the second is the older half
}

// questionID names a question among those of all nodes.
type questionID struct {
	from wire.Publisher
	id   uint64
}

// question is one Ask or AskAll that waits.
type question struct {
	waits   map[wire.Publisher]bool // who has not answered yet; guarded by questionTable.mu, as is all below
	answers []Answer
	done    chan struct{} // closed when nobody is waited for
}

func (t *questionTable) init() {
	t.open = map[uint64]*question{}
	t.answers = map[string]*answerer{}
	t.heard[0] = map[questionID]struct{}{}
}

// close lets no answering function start any more.
func (t *questionTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// Ask sends a request to one node and returns its answer. It ends as soon as the node is known not to answer: ErrNodeLeft,
// ErrNodeLost, ErrBusy; when ctx ends, or without a deadline after a minute: ErrTimeout; and with ErrUnavailable alone where
// the question could not be sent. All of these match ErrUnavailable too. A node that is not a member is ErrNodeLost, but for
// one that said goodbye; while this node is [Node.Settling] it is asked nevertheless. An error that the answering function
// returned comes back as text.
func (n *Node) Ask(ctx context.Context, node NodeID, service string, request []byte) ([]byte, error) {
	answer, err := n.askOne(ctx, node, service, request)
	if err == nil {
		err = answer.Err
	}
	if err != nil {
		return nil, n.error("ask", Address{}, err)
	}
	return answer.Payload, nil
}

func (n *Node) askOne(ctx context.Context, node NodeID, service string, request []byte) (Answer, error) {
	if err := n.checkQuestion(ctx, service, request); err != nil {
		return Answer{}, err
	}
	ctx, cancel := questionContext(ctx)
	defer cancel()
	n.stats.questionsAsked.Add(1)
	if node == n.id {
		return n.ownAnswer(ctx, n.askSelf(ctx, service, request))
	}
	p, err := n.members.find(node)
	if err != nil {
		return Answer{}, err
	}
	answers, err := n.askOthers(ctx, inboxAddress(node), []wire.Publisher{p}, service, request, func() {})
	if err != nil {
		return Answer{}, err
	}
	return answers[0], nil
}

// AskAll asks every member, this node included, and returns one answer for each, sorted by node. The error is not nil
// only if the question could not be sent or this node was closed; a node that left, died, or did not answer before ctx
// ended (without a deadline, within a minute) has an Answer whose Err wraps ErrUnavailable, and with it ErrNodeLeft, ErrNodeLost or
// ErrTimeout. While this node is [Node.Settling] there may be nodes that it does not know yet.
func (n *Node) AskAll(ctx context.Context, service string, request []byte) ([]Answer, error) {
	answers, err := n.askAll(ctx, service, request)
	if err != nil {
		return nil, n.error("ask", Address{}, err)
	}
	return answers, nil
}

func (n *Node) askAll(ctx context.Context, service string, request []byte) ([]Answer, error) {
	if err := n.checkQuestion(ctx, service, request); err != nil {
		return nil, err
	}
	ctx, cancel := questionContext(ctx)
	defer cancel()
	n.stats.questionsAsked.Add(1)
	var answers []Answer
	var mine <-chan Answer
	askSelf := func() { mine = n.askSelf(ctx, service, request) }
	if others := n.members.others(); len(others) > 0 {
		var err error
		if answers, err = n.askOthers(ctx, membersAddress, others, service, request, askSelf); err != nil {
			return nil, err
		}
	} else {
		askSelf()
	}
	own, err := n.ownAnswer(ctx, mine)
	if err != nil {
		return nil, err
	}
	answers = append(answers, own)
	slices.SortFunc(answers, func(a, b Answer) int { return cmp.Compare(a.Node, b.Node) })
	return answers, nil
}

// questionContext bounds a question that has no deadline.
func questionContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, longestQuestion)
}

// questionTime is how long the one who is asked may take.
func questionTime(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return min(time.Until(deadline), longestQuestion)
}

// askSelf has this node's own function answer, on a goroutine of its own like any other question.
func (n *Node) askSelf(ctx context.Context, service string, request []byte) <-chan Answer {
	c := make(chan Answer, 1)
	request = bytes.Clone(request) // the function may still run when the asker has given up
	if err := n.serve(n.id, service, request, questionTime(ctx), func(_ context.Context, a Answer) { c <- a }); err != nil {
		c <- Answer{Node: n.id, Err: err}
	}
	return c
}

// ownAnswer waits for the answer of this node itself.
func (n *Node) ownAnswer(ctx context.Context, c <-chan Answer) (Answer, error) {
	select {
	case a := <-c:
		return a, nil
	case <-ctx.Done():
		select {
		case a := <-c:
			return a, nil
		default:
			return Answer{Node: n.id, Err: noAnswer(ctx)}, nil
		}
	case <-n.ctx.Done():
		return Answer{}, ErrClosed
	}
}

func noAnswer(ctx context.Context) error {
	return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrTimeout, context.Cause(ctx))
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

// askOthers sends a question and collects the answers of the given nodes. It calls sent when the question is on its way: an error
// before that means that nobody was asked.
func (n *Node) askOthers(
	ctx context.Context, to Address, of []wire.Publisher, service string, request []byte, sent func(),
) ([]Answer, error) {
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
	for _, p := range of { // who went before the question was noted is not told about any more
		if err := n.members.standing(p); err != nil {
			t.memberGone(p, err)
		}
	}

	body := append(make([]byte, 0, len(request)+len(service)+24), questionVersion)
	body = appendUint64(body, id)
	body = appendUint64(body, uint64(max(questionTime(ctx)/time.Millisecond, 1)))
	body = appendBytes(body, service)
	body = append(body, request...)
	if err := n.send(ctx, to, wire.Ask, body); err != nil && !errors.Is(err, ErrUncertain) {
		return nil, err
	}
	sent()
	select {
	case <-q.done:
	case <-ctx.Done():
	case <-n.ctx.Done():
		return nil, ErrClosed
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range q.waits {
		q.answers = append(q.answers, Answer{Node: nodeID(p), Err: noAnswer(ctx)})
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

// waitedFor lists the nodes that have not answered yet.
func (t *questionTable) waitedFor() []wire.Publisher {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []wire.Publisher
	for _, q := range t.open {
		for p := range q.waits {
			list = append(list, p)
		}
	}
	return list
}

// answerUnknown answers for those that were asked although they were not known as members, where this is not settling any
// more: whoever lives has been heard by now.
func (n *Node) answerUnknown() {
	for _, p := range n.questions.waitedFor() {
		if err := n.members.standing(p); err != nil {
			n.questions.memberGone(p, err)
		}
	}
}

var errBusy = fmt.Errorf("%w: %w", ErrUnavailable, ErrBusy)

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
		a.Err = fmt.Errorf("%w: node %s", errBusy, node)
	case answerTooLarge:
		a.Err = fmt.Errorf("%w: the answer of node %s", ErrTooLarge, node)
	default:
		a.Err = remoteError(errorText(rest[1:]))
	}
	t := &n.questions
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.open[id]; q != nil {
		q.answered(p, a)
	}
	return nil
}
