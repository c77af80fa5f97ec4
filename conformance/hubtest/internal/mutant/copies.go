package mutant

import (
	"context"
	"sync"
	"time"

	"github.com/gobackplane/backplane/conformance/hubtest"
)

func copies() []Mutant {
	return []Mutant{
		{
			Name: "copy-for-each-target", Breaks: "once/several-ways",
			Defect: "a member of two groups gets two copies",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				err := error(nil)
				for _, part := range parts(to) {
					err = h.wholeHub.Send(ctx, part, payload)
				}
				return err
			}),
		},
		{
			Name: "union-in-part", Breaks: "once/several-ways",
			Defect: "where a send names groups, the users that it names get nothing",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if len(to.Groups) > 0 {
					to.Users = nil
				}
				return h.wholeHub.Send(ctx, to, payload)
			}),
		},
		{
			Name: "copy-by-membership", Breaks: "once/moving",
			Defect: "who is in the second group too is left out of the first one's copy, by a look at the members that is a moment old",
			hub: sending(func(h *hub, ctx context.Context, to hubtest.Target, payload []byte) error {
				if len(to.Groups) != 2 {
					return h.wholeHub.Send(ctx, to, payload)
				}
				first, second := to, to
				first.Groups, second.Groups = to.Groups[:1], to.Groups[1:]
				first = h.but(first, func(c *connection) bool { return c.groups[to.Groups[1]] })
				<-time.After(time.Microsecond)
				if err := h.wholeHub.Send(ctx, first, payload); err != nil {
					return err
				}
				return h.wholeHub.Send(ctx, second, payload)
			}),
		},
		{
			Name: "joins-counted", Breaks: "once/joined-twice",
			Defect: "who joined twice has to leave twice",
			hub: func(h *hub) {
				var mu sync.Mutex
				joined := map[string]int{}
				h.operate = func(ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
					if len(of.Connections) != 1 {
						return h.healthy(ctx, op, of, with)
					}
					mu.Lock()
					defer mu.Unlock()
					key := of.Connections[0] + with
					switch op {
					case join:
						joined[key]++
					case leave:
						if joined[key]++; joined[key] == 2 {
							return 1, nil
						}
					}
					return h.healthy(ctx, op, of, with)
				}
			},
		},
	}
}

// parts takes a target apart.
func parts(to hubtest.Target) []hubtest.Target {
	var all []hubtest.Target
	if to.All {
		all = append(all, hubtest.Target{All: true, Except: to.Except})
	}
	for _, g := range to.Groups {
		all = append(all, hubtest.Target{Groups: []string{g}, Except: to.Except})
	}
	for _, u := range to.Users {
		all = append(all, hubtest.Target{Users: []string{u}, Except: to.Except})
	}
	for _, id := range to.Connections {
		all = append(all, hubtest.Target{Connections: []string{id}, Except: to.Except})
	}
	return all
}
