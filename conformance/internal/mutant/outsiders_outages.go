package mutant

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// afterAnOutage are defects of what an outage leaves behind, by a maker of buses who had not seen the suite.
func afterAnOutage() []Mutant {
	return []Mutant{
		{
			Name: "given-up-once", Defect: "an address that was given up and subscribed again is not restored after an outage.", Breaks: "link/resubscribe",
			Seen: "tombstones in the list of what is to be restored, which the next subscribe does not take away",
			world: each(func(n *Node) {
				var mu sync.Mutex
				given := map[backplane.Address]bool{}
				n.unsubscribe = func(ctx context.Context, s *Sub) error {
					if len(n.beside(s)) == 0 {
						mu.Lock()
						given[s.to] = true
						mu.Unlock()
					}
					return s.healthy.Close(ctx)
				}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					s.handler(ctx, e)
					mu.Lock()
					defer mu.Unlock()
					if g, ok := e.(*backplane.Gap); ok && g.Cause == backplane.GapLink && given[s.to] {
						s.deaf.Store(true)
					}
				}
			}),
		},
		{
			Name:   "retry-joins-the-failed",
			Defect: "a Subscribe after one that failed while the link was down finds the address in the table, and asks nobody.",
			Breaks: "link/subscribe-down", Seen: "an entry that is made before the broker is asked, and left when its context ends",
			world: each(func(n *Node) {
				var mu sync.Mutex
				failed := map[backplane.Address]bool{}
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					asked := ctx.Err() == nil
					s, err := n.subscribeHealthy(ctx, to, h)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						s.deaf.Store(failed[to])
						delete(failed, to)
					case asked && ctx.Err() != nil && to.Validate() == nil:
						failed[to] = true
					}
					return s, err
				}
			}),
		},
		{
			Name: "late-answer-for-the-next", Defect: "the answer of a publish that was given up is taken for that of the next one, and so on.",
			Breaks: "publish/confirmed", Seen: "redis/redis-py#2624: a canceled command leaves its reply on the connection",
			world: each(answersLate),
		},
		{
			Name: "ghost", Defect: "a member that leaves while an instance is cut off stays in the list of that instance.", Breaks: "members/missed-goodbye",
			Seen:  "presence that is taken from goodbyes, whose time-outs stand still during an outage",
			world: keepsGhosts,
		},
		{
			Name:   "first-heard-is-the-first",
			Defect: "the numbers of a publisher count from the first message of it that is heard: those lost before it are not told.",
			Breaks: "link/lost-middle", Seen: "a baseline that is set by the first message, also on a subscription that is older than its publisher",
			world: each(func(n *Node) {
				var mu sync.Mutex
				type stream struct {
					s *Sub
					p backplane.NodeID
				}
				heard := map[stream]bool{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					mu.Lock()
					unknown := false
					switch e := e.(type) {
					case *backplane.Message:
						heard[stream{s, e.Publisher}] = true
					case *backplane.Gap:
						unknown = e.Cause == backplane.GapNumbers && e.Publisher != "" && !heard[stream{s, e.Publisher}]
					}
					mu.Unlock()
					if !unknown {
						s.handler(ctx, e)
					}
				}
			}),
		},
	}
}

// answersLate makes the instance take the answer of a publish that was given up for that of the next one, until its link is
// made anew.
func answersLate(n *Node) {
	var mu sync.Mutex
	behind := false // each answer is that of the publish before
	last := make(chan struct{})
	close(last)
	n.Node.OnHealth(func(h backplane.Health) {
		mu.Lock()
		defer mu.Unlock()
		behind = behind && h.State != backplane.Down // a new connection is in step
	})
	n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
		mu.Lock()
		if !behind || ctx.Err() != nil || to.Validate() != nil || len(payload) > n.MaxPayload() {
			mu.Unlock()
			ended := ctx.Err() != nil
			err := n.Node.Publish(ctx, to, payload)
			if err != nil && !ended && ctx.Err() != nil { // also where a heartbeat was in its way
				mu.Lock()
				behind = true
				mu.Unlock()
			}
			return err
		}
		before, done := last, make(chan struct{})
		last = done
		mu.Unlock()
		sent := slices.Clone(payload)
		go func() {
			defer close(done)
			pause(time.Millisecond) // to the broker
			<-before
			_ = n.Node.Publish(context.WithoutCancel(ctx), to, sent) // the next one is told
		}()
		return nil
	}
}

// keepsGhosts makes an instance list those for ever whose goodbye it missed.
func keepsGhosts(*World) func(*Node) {
	var mu sync.Mutex
	down := map[*Node]func() bool{}
	ghosts := map[*Node][]backplane.Member{}
	return func(n *Node) {
		mu.Lock()
		down[n] = n.whileCut()
		mu.Unlock()
		n.close = func(ctx context.Context) error {
			mu.Lock()
			for o, cut := range down {
				if o == n || o.Namespace() != n.Namespace() || !cut() {
					continue
				}
				for _, m := range o.Node.Members() {
					if m.ID == n.Node.ID() {
						ghosts[o] = append(ghosts[o], m)
					}
				}
			}
			delete(down, n)
			mu.Unlock()
			return n.Node.Close(ctx)
		}
		n.members = func() []backplane.Member {
			listed := n.Node.Members()
			mu.Lock()
			defer mu.Unlock()
			for _, g := range ghosts[n] {
				if !slices.ContainsFunc(listed, func(m backplane.Member) bool { return m.ID == g.ID }) {
					listed = append(listed, g)
				}
			}
			slices.SortFunc(listed, func(a, b backplane.Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
			return listed
		}
	}
}
