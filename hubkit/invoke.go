package hubkit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gobackplane/backplane"
)

// Invoker is what a [Conn] implements beside Write and Close where its client can be asked, see [Hub.Invoke]. The client's
// answer comes back through [Connection.Reply], from whatever reads the socket.
type Invoker interface {
	// Invoke writes a question to the client, with the id that its answer must carry. It is called like Write and never at the
	// same time, in the order in which questions and messages entered the outbox; the context is Write's, and an error closes the
	// connection like an error of Write. The request may be kept and must not be changed.
	Invoke(ctx context.Context, id string, request []byte) error
}

// MaxInvocations is how many invocations of one connection may be open at a time.
const MaxInvocations = 64

const (
	invokeDefault  = time.Minute // bounds an invocation whose context has no deadline
	invokeLongest  = time.Hour   // bounds every one
	maxClientError = 1024        // bytes of a client's error
	forgetTime     = 10 * time.Second
)

// ClientError is what a client answered in place of a result. It is wrapped in an [*Error]; get it by errors.As.
type ClientError struct {
	Text string // valid UTF-8, at most 1,024 bytes
}

// Error returns what the client said.
func (e *ClientError) Error() string { return "the client answered with an error: " + e.Text }

// newClientError makes one of any text.
func newClientError(text string) *ClientError {
	return &ClientError{Text: strings.ToValidUTF8(text[:min(len(text), maxClientError)], "")}
}

// invocation is a question to a client of this instance. While it is open it is in its connection's table; who takes it out
// calls reply.
type invocation struct {
	id    string
	reply func(payload []byte, err error) // does not block
	timer *time.Timer
	next  *invocation // in outbox.unasked
}

// finish replies.
func (i *invocation) finish(payload []byte, err error) {
	i.timer.Stop()
	i.reply(payload, err)
}

// Invoke asks a client, on whatever instance it is connected, and returns its answer. The request goes through the connection's
// outbox and is written by [Invoker.Invoke]; the client's server gives the answer to [Connection.Reply]. It ends at once when the
// client disconnects ([ErrDisconnected]), and as soon as its instance is known dead. Without a deadline it takes at most a minute,
// and an hour with one.
//
// The causes are those of [Hub.Join] for one connection: ErrNotFound, ErrNodeLost, ErrUnavailable, ErrTimeout, where the last may mean
// that the client was asked; ErrBusy, where [MaxInvocations] of the connection are open or its full outbox dropped the request;
// ErrUnsupported, where its Conn is no Invoker; [ErrDisconnected]; a [*ClientError], where the client answered with an error; and
// ErrTooLarge for a request or an answer of another instance. The largest request is the node's MaxPayload less 256 bytes.
//
// A client must not be invoked by what reads its own socket: nobody would read the answer.
func (h *Hub) Invoke(ctx context.Context, connectionID string, request []byte) ([]byte, error) {
	if err := h.enter(); err != nil {
		return nil, h.fail("invoke", err)
	}
	defer h.leave()
	answer, err := h.invoke(ctx, connectionID, request)
	if err = h.orClosed(err); err != nil {
		return nil, h.fail("invoke", err)
	}
	return answer, nil
}

func (h *Hub) invoke(ctx context.Context, connection string, request []byte) ([]byte, error) {
	home, ok := homeOf(connection)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %.64q is no connection id", ErrInvalidTarget, connection)
	case home != h.home && h.cluster == nil:
		return nil, errNoCluster
	}
	limit := invokeLongest
	if _, ok := ctx.Deadline(); !ok {
		limit = invokeDefault
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	deadline, _ := ctx.Deadline()
	q := invokeQuestion{connection: connection, id: newInvocationID(), limit: time.Until(deadline), request: request}
	if home == h.home {
		return h.invokeLocal(ctx, &q)
	}
	s := h.askNode(ctx, home, q.encode(askInvoke))
	if errors.Is(ctx.Err(), context.Canceled) { // the home ends it by itself at the deadline only
		h.spawn(func() {
			ctx, cancel := context.WithTimeout(h.closing, forgetTime)
			defer cancel()
			_ = h.askNode(ctx, home, q.encode(askForget)) // it is a courtesy
		})
	}
	if s.nobody {
		return nil, fmt.Errorf("%w: node %s has no such hub any more", ErrNotFound, home)
	}
	return s.answer, s.err
}

// newInvocationID makes an id that no other invocation has.
func newInvocationID() string {
	var random [idRandom]byte
	_, _ = rand.Read(random[:]) // never fails: see crypto/rand
	return idText.EncodeToString(random[:])
}

// invokeLocal asks a client of this instance.
func (h *Hub) invokeLocal(ctx context.Context, q *invokeQuestion) ([]byte, error) {
	type result struct {
		payload []byte
		err     error
	}
	c := h.connections.get([]byte(q.connection))
	if c == nil {
		return nil, ErrNotFound
	}
	answered := make(chan result, 1)
	h.invokeHere(c, q, func(payload []byte, err error) { answered <- result{payload, err} })
	select {
	case r := <-answered:
		return r.payload, r.err
	case <-ctx.Done():
		c.endInvocation(q.id, nil, fmt.Errorf("%w: %w", backplane.ErrTimeout, context.Cause(ctx)))
		r := <-answered // by whoever ended it
		return r.payload, r.err
	}
}

// invokeHere asks a client of this instance, for whoever. reply is called once, maybe before it has returned.
func (h *Hub) invokeHere(c *Connection, q *invokeQuestion, reply func([]byte, error)) {
	i := &invocation{id: q.id, reply: reply}
	if err := c.open(i, q.limit); err != nil {
		reply(nil, err)
		return
	}
	h.stats.invocations.Add(1)
	var t tally
	c.enqueue(&message{payload: bytes.Clone(q.request), question: i}, 0, &t)
	h.count(&t)
	if t.delivered == 0 && t.gone+t.slow == 0 { // the outbox is full, and what is new is dropped
		c.endInvocation(q.id, nil, backplane.ErrBusy)
	}
}

// open puts an invocation into the connection's table. Nothing of it happens before that.
func (c *Connection) open(i *invocation, limit time.Duration) error {
	if _, can := c.conn.(Invoker); !can {
		return fmt.Errorf("%w: the client cannot be asked", backplane.ErrUnsupported)
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	switch {
	case c.closed != nil:
		return ErrNotFound
	case len(c.invocations) >= MaxInvocations || c.invocations[i.id] != nil:
		return backplane.ErrBusy
	case c.invocations == nil:
		c.invocations = make(map[string]*invocation)
	}
	c.invocations[i.id] = i
	i.timer = time.AfterFunc(limit, func() { c.endInvocation(i.id, nil, backplane.ErrTimeout) })
	return nil
}

// endInvocation ends an open invocation, once; false if there is none.
func (c *Connection) endInvocation(id string, payload []byte, err error) bool {
	c.out.mu.Lock()
	i := c.invocations[id]
	delete(c.invocations, id)
	c.out.mu.Unlock()
	if i == nil {
		return false
	}
	i.finish(payload, err)
	return true
}

// endInvocations ends all when the connection has closed.
func (c *Connection) endInvocations() {
	c.out.mu.Lock()
	open := c.invocations
	c.invocations = nil
	c.out.mu.Unlock()
	for _, i := range open {
		i.finish(nil, ErrDisconnected)
	}
}

// Reply gives the client's answer to the invocation that carried the id: a payload, or in err what went wrong, whose text goes
// to who asked as a [*ClientError]. The server's reader calls it; it never blocks. The payload may be reused when it has
// returned. An answer that comes twice, too late, or from another connection than the one that was asked reaches nobody and gets
// [ErrNotInvoked]; a client that sends such is no reason to close the connection: it may have answered just too late.
func (c *Connection) Reply(id string, payload []byte, err error) error {
	answer := append([]byte{}, payload...)
	if err != nil {
		answer, err = nil, newClientError(err.Error())
	}
	if !c.endInvocation(id, answer, err) {
		return c.hub.fail("reply", ErrNotInvoked)
	}
	return nil
}

// answerInvoke asks a client of this instance for another one.
func (h *Hub) answerInvoke(b []byte, reply func([]byte, error)) {
	q, err := decodeInvoke(b)
	if err != nil {
		reply(newAnswer(statusOf(err)), nil)
		return
	}
	c := h.connections.get([]byte(q.connection))
	if c == nil {
		reply(newAnswer(statusNotFound), nil)
		return
	}
	h.invokeHere(c, &q, func(payload []byte, err error) {
		if said, ok := errors.AsType[*ClientError](err); ok {
			reply(append(newAnswer(statusClientError), said.Text...), nil)
			return
		}
		reply(append(newAnswer(statusOf(err)), payload...), nil)
	})
}

// answerForget ends an invocation whose asker does not wait any more.
func (h *Hub) answerForget(b []byte) ([]byte, error) {
	q, err := decodeInvoke(b)
	if err != nil {
		return nil, err
	}
	if c := h.connections.get([]byte(q.connection)); c != nil {
		c.endInvocation(q.id, nil, backplane.ErrTimeout)
	}
	return newAnswer(statusOK), nil
}
