package mutant

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// invoking makes a defect of how a hub asks clients.
func invoking(f func(h *hub, ctx context.Context, connection string, request []byte) ([]byte, error)) func(*hub) {
	return func(h *hub) {
		h.invoke = func(ctx context.Context, connection string, request []byte) ([]byte, error) {
			return f(h, ctx, connection, request)
		}
	}
}

func asking() []Mutant {
	return []Mutant{
		{
			Name: "invoke-here-only", Breaks: "invoke/answers",
			Defect: "only clients of the own instance can be asked",
			hub: invoking(func(h *hub, ctx context.Context, connection string, request []byte) ([]byte, error) {
				if !h.node.world.isOf(h.node, connection) {
					return nil, backplane.ErrUnsupported
				}
				return h.wholeHub.Invoke(ctx, connection, request)
			}),
		},
		{
			Name: "answer-cut", Breaks: "invoke/answers",
			Defect: "answers of other instances are cut at 64 KiB",
			hub: invoking(func(h *hub, ctx context.Context, connection string, request []byte) ([]byte, error) {
				answer, err := h.wholeHub.Invoke(ctx, connection, request)
				return answer[:min(len(answer), 64<<10)], err
			}),
		},
		{
			Name: "client-error-as-answer", Breaks: "invoke/client-error",
			Defect: "a client's error is taken for its answer",
			hub: invoking(func(h *hub, ctx context.Context, connection string, request []byte) ([]byte, error) {
				answer, err := h.wholeHub.Invoke(ctx, connection, request)
				if said, ok := errors.AsType[*hubkit.ClientError](err); ok {
					return []byte(said.Text), nil
				}
				return answer, err
			}),
		},
		{
			Name: "anybody-answers", Breaks: "invoke/wrong-client",
			Defect: "an answer is taken from any client that knows the question",
			hub: recording(func(h *hub, c *connection, question string, answer []byte, err error) error {
				if asked := h.node.world.asked(question); asked != nil {
					c = asked
				}
				return c.Connection.Reply(question, answer, err)
			}),
		},
		{
			Name: "unknown-as-timeout", Breaks: "invoke/unknown",
			Defect: "a question to who is gone is told as if there had been no answer in time",
			hub: invoking(func(h *hub, ctx context.Context, connection string, request []byte) ([]byte, error) {
				answer, err := h.wholeHub.Invoke(ctx, connection, request)
				if errors.Is(err, hubkit.ErrNotFound) {
					err = backplane.ErrTimeout
				}
				return answer, err
			}),
		},
		{
			Name: "answers-in-order", Breaks: "invoke/parallel",
			Defect: "an answer belongs to the oldest open question of its client",
			hub: recording(func(h *hub, c *connection, question string, answer []byte, err error) error {
				if oldest, ok := h.node.world.pop(c); ok {
					question = oldest
				}
				return c.Connection.Reply(question, answer, err)
			}),
		},
		{
			Name: "question-ids-repeat", Breaks: "invoke/ids",
			Defect: "questions are numbered modulo 8",
			hub: writing(func(_ *hub, w *writer) {
				n := 0
				w.ask = func(ctx context.Context, _ string, request []byte) error {
					n++
					return w.Client.Ask(ctx, string(rune('a'+n%8)), request)
				}
			}),
		},
		{
			Name: "disconnect-as-timeout", Breaks: "invoke/disconnect",
			Defect: "a question whose client has left is told as if there had been no answer in time",
			hub: invoking(func(h *hub, ctx context.Context, connection string, request []byte) ([]byte, error) {
				answer, err := h.wholeHub.Invoke(ctx, connection, request)
				if errors.Is(err, hubkit.ErrDisconnected) {
					err = backplane.ErrTimeout
				}
				return answer, err
			}),
		},
		{
			Name: "late-answer-taken", Breaks: "invoke/cancel",
			Defect: "an answer that nobody waits for any more is the answer to the client's newest question",
			hub: recording(func(h *hub, c *connection, question string, answer []byte, err error) error {
				refused := c.Connection.Reply(question, answer, err)
				if newest := h.node.world.newest(c); refused != nil && newest != "" {
					return c.Connection.Reply(newest, answer, err)
				}
				return refused
			}),
		},
	}
}

// recording makes a defect of how answers are taken, which knows the questions.
func recording(reply func(h *hub, c *connection, question string, answer []byte, err error) error) func(*hub) {
	return func(h *hub) {
		h.replies = func(c *connection, question string, answer []byte, err error) error {
			return reply(h, c, question, answer, err)
		}
		writing(func(h *hub, w *writer) {
			w.ask = func(ctx context.Context, question string, request []byte) error {
				h.node.world.ask(w, question)
				return w.Client.Ask(ctx, question, request)
			}
		})(h)
	}
}

// questions are those that were put to the clients of a world.
type questions struct {
	mu  sync.Mutex
	all []put // guarded by mu; in their order
}

// put is a question that was put to a client.
type put struct {
	id string
	to *writer
}

// ask notes a question.
func (w *world) ask(to *writer, id string) {
	w.questions.mu.Lock()
	defer w.questions.mu.Unlock()
	w.questions.all = append(w.questions.all, put{id, to})
}

// asked returns the connection that was asked a question.
func (w *world) asked(id string) *connection {
	w.questions.mu.Lock()
	defer w.questions.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, q := range w.questions.all {
		for _, c := range w.conns {
			if q.id == id && c.client == q.to {
				return c
			}
		}
	}
	return nil
}

// pop takes out a client's oldest question.
func (w *world) pop(c *connection) (id string, ok bool) {
	w.questions.mu.Lock()
	defer w.questions.mu.Unlock()
	i := slices.IndexFunc(w.questions.all, func(q put) bool { return q.to == c.client })
	if i < 0 {
		return "", false
	}
	id = w.questions.all[i].id
	w.questions.all = slices.Delete(w.questions.all, i, i+1)
	return id, true
}

// newest returns a client's newest question.
func (w *world) newest(c *connection) string {
	w.questions.mu.Lock()
	defer w.questions.mu.Unlock()
	for _, q := range slices.Backward(w.questions.all) {
		if q.to == c.client {
			return q.id
		}
	}
	return ""
}
