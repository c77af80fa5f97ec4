package mutant

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// tables are mutants that err in what an instance remembers of messages and gaps.
func tables() []Mutant {
	return []Mutant{
		{
			Name: "one-copy-for-all-addresses", Breaks: "isolate/address",
			Defect: "a payload that its publisher has sent to another address lately is heard on the first one only.",
			Seen:   "hubs that give a client one copy of what is sent to several of its groups",
			world:  each(func(n *Node) { n.deliver = n.oneCopy() }),
		},
		{
			Name: "message-used-again", Breaks: "payload/kept",
			Defect: "a subscription has one Message that it fills anew for each event; the payloads are left alone.",
			Seen:   "sync.Pool around events",
			world: each(func(n *Node) {
				var mu sync.Mutex
				ours := map[*Sub]*backplane.Message{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					m, ok := message(e)
					if !ok {
						s.handler(ctx, e)
						return
					}
					mu.Lock()
					if ours[s] == nil {
						ours[s] = &backplane.Message{}
					}
					our := ours[s]
					mu.Unlock()
					refill(our, m)
					s.handler(ctx, our)
				}
			}),
		},
		{
			Name: "gap-told-already", Breaks: "link/gap-complete",
			Defect: "an outage that began before the gap of the last one was handled is not told: one gap waits already.",
			world: each(func(n *Node) {
				var mu sync.Mutex
				told := map[*Sub]time.Time{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if g, ok := e.(*backplane.Gap); ok && g.Cause == backplane.GapLink {
						mu.Lock()
						already := g.Since.Before(told[s])
						if !already {
							told[s] = time.Now()
						}
						mu.Unlock()
						if already {
							return
						}
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// oneCopy drops payloads that were heard on another address.
func (n *Node) oneCopy() func(context.Context, *Sub, backplane.Event) {
	const lately = 256
	type copied struct {
		publisher backplane.NodeID
		sum       [sha256.Size]byte
	}
	var mu sync.Mutex
	first := map[copied]backplane.Address{}
	var ring []copied
	return func(ctx context.Context, s *Sub, e backplane.Event) {
		if m, ok := message(e); ok && len(m.Payload) > 0 {
			c := copied{m.Publisher, sha256.Sum256(m.Payload)}
			mu.Lock()
			a, known := first[c]
			if !known {
				a = m.Address
				first[c], ring = a, append(ring, c)
				if len(ring) > lately {
					delete(first, ring[0])
					ring = ring[1:]
				}
			}
			mu.Unlock()
			if a != m.Address {
				return
			}
		}
		s.handler(ctx, e)
	}
}

// refill makes one message another one. The race detector is kept out of it, as in asItIsNow.
//
//go:norace
func refill(m, with *backplane.Message) {
	m.Address, m.Publisher, m.Payload = with.Address, with.Publisher, with.Payload
}

// runs are mutants that err in what belongs to one run of a handler, or to one call.
func runs() []Mutant {
	return []Mutant{
		{
			Name: "sent-after-the-handler", Breaks: "handler/reentrant",
			Defect: "what a handler publishes is reported as taken, and is sent when the handler has returned.",
			Seen:   "an outbox for each run, so that handlers cannot deadlock",
			world:  each(func(n *Node) { n.sendAfterRuns() }),
		},
		{
			Name: "context-of-the-run", Breaks: "ctx/scope",
			Defect: "a handler's context ends when the handler returns.",
			Seen:   "net/http's request contexts",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "canceled-keeps-its-slot", Breaks: "ctx/canceled",
			Defect: "a publish whose context has ended never gives back its slot of the 32 that there are.",
			Seen:   "a semaphore that is released on one of two ways out",
			world: each(func(n *Node) {
				slots := make(chan struct{}, 32)
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					select {
					case slots <- struct{}{}:
					case <-ctx.Done():
						return refused("publish", to, errors.Join(backplane.ErrUnavailable, ctx.Err()))
					}
					err := n.Node.Publish(ctx, to, payload)
					if err != nil && ctx.Err() != nil {
						return err //nolint:wrapcheck // the healthy instance's word, as it is
					}
					<-slots
					return err //nolint:wrapcheck // the healthy instance's word, as it is
				}
			}),
		},
		{
			Name: "rides-along", Breaks: "link/subscribe-down",
			Defect: "while a Subscribe waits for the broker, another one to its address returns nil at once.",
			Seen:   "if refs++; refs > 1 { return nil }",
			world:  each(func(n *Node) { n.rideAlong() }),
		},
	}
}

// sendAfterRuns puts off what handlers publish.
func (n *Node) sendAfterRuns() {
	type put struct {
		to      backplane.Address
		payload []byte
	}
	type run struct {
		mu      sync.Mutex
		over    bool
		waiting []put
	}
	type key struct{}
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		r := &run{}
		s.handler(context.WithValue(ctx, key{}, r), e)
		r.mu.Lock()
		r.over = true
		waiting := r.waiting
		r.mu.Unlock()
		for _, p := range waiting {
			_ = n.Node.Publish(context.WithoutCancel(ctx), p.to, p.payload) // the defect: nobody is told
		}
	}
	n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
		r, inside := ctx.Value(key{}).(*run)
		if !inside || ctx.Err() != nil || to.Validate() != nil || len(payload) > 64<<10 {
			return n.Node.Publish(ctx, to, payload)
		}
		r.mu.Lock()
		if !r.over {
			r.waiting = append(r.waiting, put{to, slices.Clone(payload)})
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		return n.Node.Publish(ctx, to, payload)
	}
}

// rideAlong takes the request of one Subscribe for the confirmation of another.
func (n *Node) rideAlong() {
	const sent = time.Millisecond // after which a request is surely on its way
	type rider struct {
		ready  chan struct{} // closed when the broker has answered
		behind *Sub          // nil if it said no
	}
	var mu sync.Mutex
	asked := map[backplane.Address]time.Time{}
	riders := map[*Sub]*rider{}
	n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
		mu.Lock()
		since, underWay := asked[to]
		if !underWay {
			asked[to] = time.Now()
		}
		mu.Unlock()
		switch {
		case !underWay:
			defer func() {
				mu.Lock()
				delete(asked, to)
				mu.Unlock()
			}()
			return n.subscribeHealthy(ctx, to, h)
		case ctx.Err() != nil, time.Since(since) < sent:
			return n.subscribeHealthy(ctx, to, h)
		}
		s, r := &Sub{n: n, to: to, handler: h, born: time.Now()}, &rider{ready: make(chan struct{})}
		mu.Lock()
		riders[s] = r
		mu.Unlock()
		go func() {
			defer close(r.ready)
			behind, err := n.subscribeHealthy(context.WithoutCancel(ctx), to, func(ctx context.Context, e backplane.Event) {
				if !s.deaf.Load() {
					h(ctx, e)
				}
			})
			if err == nil {
				r.behind = behind
			}
		}()
		return s, nil
	}
	n.unsubscribe = func(ctx context.Context, s *Sub) error {
		mu.Lock()
		r := riders[s]
		mu.Unlock()
		if r == nil {
			return s.healthy.Close(ctx) //nolint:wrapcheck // the healthy instance's word, as it is
		}
		s.deaf.Store(true)
		leave := func(ctx context.Context) error {
			<-r.ready
			if r.behind == nil {
				return nil
			}
			return r.behind.healthy.Close(ctx) //nolint:wrapcheck // the healthy instance's word, as it is
		}
		select {
		case <-r.ready:
			return leave(ctx)
		default:
			go func() { _ = leave(context.WithoutCancel(ctx)) }()
			return nil
		}
	}
}

// registers are mutants that err in who is told what.
func registers() []Mutant {
	return []Mutant{
		{
			Name: "stop-by-place", Breaks: "link/state",
			Defect: "stopping one who is told of health takes whoever has moved to its place in the list.",
			Seen:   "an index that is kept while the slice in front of it shrinks",
			world:  each(func(n *Node) { n.onHealth = n.stopByPlace }),
		},
		{
			Name: "late-answer-to-the-next", Breaks: "ask/answers",
			Defect: "an answer that comes after the asker's deadline is taken for one to its next question for that service.",
			Seen:   "a channel for each service that is not drained",
			world:  lateAnswers,
		},
	}
}

// stopByPlace returns a function that stops what is at the place that f had.
func (n *Node) stopByPlace(f func(backplane.Health)) (stop func()) {
	w := n.world
	w.mu.Lock()
	defer w.mu.Unlock()
	place := len(n.watching)
	n.watching = append(n.watching, n.Node.OnHealth(f))
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if place < len(n.watching) {
			n.watching[place]()
			n.watching = slices.Delete(n.watching, place, place+1)
		}
	}
}

// lateAnswers keeps answers that come too late for the next question.
func lateAnswers(*World) func(*Node) {
	type slot struct {
		asker    backplane.NodeID
		service  string
		answerer backplane.NodeID
	}
	var mu sync.Mutex
	late := map[slot][]byte{}
	return func(n *Node) {
		n.answer = func(service string, f backplane.AnswerFunc) (stop func()) {
			return n.Node.Answer(service, func(ctx context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
				payload, err := f(ctx, from, request)
				if err == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
					mu.Lock()
					late[slot{from, service, n.Node.ID()}] = payload
					mu.Unlock()
				}
				return payload, err
			})
		}
		n.askAll = func(ctx context.Context, service string, request []byte) ([]backplane.Answer, error) {
			waiting := map[backplane.NodeID][]byte{}
			mu.Lock()
			for s, payload := range late {
				if s.asker == n.Node.ID() && s.service == service {
					waiting[s.answerer] = payload
					delete(late, s)
				}
			}
			mu.Unlock()
			answers, err := n.Node.AskAll(ctx, service, request)
			for i, a := range answers {
				if payload, waits := waiting[a.Node]; waits {
					answers[i].Payload, answers[i].Err = payload, nil
				}
			}
			return answers, err //nolint:wrapcheck // the healthy instance's word, as it is
		}
	}
}
