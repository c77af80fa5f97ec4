package mutant

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// races are mutants that work as long as one thing happens at a time.
func races() []Mutant {
	return []Mutant{
		{
			Name: "list-written-back", Breaks: "race/everything",
			Defect: "the end of a subscription writes back the instance's list as it was, without those made meanwhile.",
			world: each(func(n *Node) {
				l := &list{next: make(chan struct{})}
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					s, err := n.subscribeHealthy(ctx, to, h)
					if err == nil {
						pause(time.Millisecond) // the end of the one before has read the list
						l.add(s)
						pause(time.Millisecond) // and has written it back
					}
					return s, err
				}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					l.remove(s)
					return s.healthy.Close(ctx)
				}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if l.has(s) {
						s.handler(ctx, e)
					}
				}
			}),
		},
	}
}

// list is an instance's list of subscriptions. Each of its methods holds the lock when it should, and remove lets go of it
// in between.
type list struct {
	mu   sync.Mutex
	subs []*Sub
	next chan struct{} // closed and replaced with each subscription that is added
}

func (l *list) has(s *Sub) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.subs, s)
}

func (l *list) add(s *Sub) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = append(l.subs, s)
	close(l.next)
	l.next = make(chan struct{})
}

// remove is slow enough for another subscription to be made, so that the loss does not hang on the schedule.
func (l *list) remove(s *Sub) {
	l.mu.Lock()
	left := slices.DeleteFunc(slices.Clone(l.subs), func(o *Sub) bool { return o == s })
	added := l.next
	l.mu.Unlock()
	select {
	case <-added:
	case <-time.After(100 * time.Millisecond):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = left
}
