package mutant

import (
	"context"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// silences are mutants that do not bear that nothing happens.
func silences() []Mutant {
	// afterAnHour does something with the first event of a subscription that heard nothing for an hour.
	afterAnHour := func(do func(ctx context.Context, s *Sub, e backplane.Event)) func(*World) func(*Node) {
		return each(func(n *Node) {
			var mu sync.Mutex
			last := map[*Sub]time.Time{}
			n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
				mu.Lock()
				before, heard := last[s]
				if !heard {
					before = s.born
				}
				last[s] = time.Now()
				mu.Unlock()
				if time.Since(before) > time.Hour {
					do(ctx, s, e)
					return
				}
				s.handler(ctx, e)
			}
		})
	}
	return []Mutant{
		{
			Name: "forgotten-connection", Defect: "the first message after an hour of silence goes to a connection that is gone.", Breaks: "clock/idle",
			Seen:  "firewalls that forget idle flows",
			world: afterAnHour(func(context.Context, *Sub, backplane.Event) {}),
		},
		{
			Name: "numbers-expire", Defect: "after an hour of silence the next message comes with a gap, since its number is unknown.", Breaks: "clock/idle",
			world: afterAnHour(func(ctx context.Context, s *Sub, e backplane.Event) {
				s.handler(ctx, &backplane.Gap{Address: s.to, Cause: backplane.GapNumbers})
				s.handler(ctx, e)
			}),
		},
	}
}
