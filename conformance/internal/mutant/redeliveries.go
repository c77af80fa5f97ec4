package mutant

import (
	"context"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// redeliveries are mutants that deliver as a queue with acknowledgements does, and as a directory of users does.
func redeliveries() []Mutant {
	const ackWait = 2 * time.Second
	return []Mutant{
		{
			Name: "acknowledged-too-late", Breaks: "model/random", Full: true,
			Defect: "a message whose handler took longer than two seconds is delivered again.",
			Seen:   "AckWait of NATS JetStream, the visibility timeout of SQS",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					start := time.Now()
					s.handler(ctx, e)
					if _, ok := message(e); ok && time.Since(start) > ackWait && ctx.Err() == nil && s.isOpen() {
						s.handler(ctx, e)
					}
				}
			}),
		},
		{
			Name: "users-are-looked-up", Breaks: "order/interleaved",
			Defect: "a message to a user waits for a look-up on a goroutine of its own, and every second one takes a millisecond longer.",
			Seen:   "a directory of who is connected where, asked for each message",
			world:  each(lookUpUsers),
		},
	}
}

// isOpen reports whether a subscription has not been closed yet.
func (s *Sub) isOpen() bool {
	return len(s.n.world.openSubs(func(o *Sub) bool { return o == s })) > 0
}

// lookUpUsers keeps all promises for messages to users but their order: runs of a handler do not overlap, and Close waits.
func lookUpUsers(n *Node) {
	type inHandler struct{}
	type queue struct {
		turn  chan struct{}
		heard int
	}
	var mu sync.Mutex
	queues := map[*Sub]*queue{}
	of := func(s *Sub) *queue {
		mu.Lock()
		defer mu.Unlock()
		if queues[s] == nil {
			queues[s] = &queue{turn: make(chan struct{}, 1)}
		}
		return queues[s]
	}
	run := func(ctx context.Context, s *Sub, e backplane.Event) {
		turn := of(s).turn
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-turn }()
		if ctx.Err() == nil && s.isOpen() {
			s.handler(context.WithValue(ctx, inHandler{}, s), e)
		}
	}
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		if s.to.Kind() != backplane.KindUser {
			s.handler(ctx, e)
			return
		}
		q := of(s)
		q.heard++
		if _, ok := message(e); ok && q.heard%2 == 1 {
			go func() {
				pause(time.Millisecond)
				run(ctx, s, e)
			}()
			return
		}
		run(ctx, s, e)
	}
	n.unsubscribe = func(ctx context.Context, s *Sub) error {
		err := s.healthy.Close(ctx)
		if err == nil && s.to.Kind() == backplane.KindUser && ctx.Value(inHandler{}) == nil {
			turn := of(s).turn
			select {
			case turn <- struct{}{}:
				<-turn
			case <-ctx.Done():
				return refused("unsubscribe", s.to, ctx.Err())
			}
		}
		return err //nolint:wrapcheck // the healthy instance's word, as it is
	}
}

// reentries are mutants that err where two handlers meet.
func reentries() []Mutant {
	return []Mutant{
		{
			Name: "waits-for-another-handler", Breaks: "handler/reentrant",
			Defect: "a handler that closes another subscription waits for a run of that one's handler.",
			Seen:   "a Close that knows its own handler only, so that two that close each other wait for ever",
			world: each(func(n *Node) {
				type running struct{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					s.handler(context.WithValue(ctx, running{}, s), e)
				}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					if ctx.Value(running{}) == s {
						return s.healthy.Close(ctx)
					}
					return s.healthy.Close(valueless{ctx})
				}
			}),
		},
	}
}

// valueless is a context without the values, so that nobody sees what it derives from.
type valueless struct{ context.Context } //nolint:containedctx // it is one

func (valueless) Value(any) any { return nil }
