package mutant

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// transportSubjects are transports that believe a broker like NATS more than it says: a flush that is answered tells
// nothing of a publish that was refused, of a name that is no subject, or of the other servers of a cluster.
func transportSubjects() []Mutant {
	return []Mutant{
		{
			Name: "refused-is-taken", Breaks: "isolate/kinds",
			Defect: "the permissions leave out users, and a frame that the broker refuses is reported as taken.",
			Seen:   "NATS: a permissions violation comes on another path, and the flush behind it succeeds",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					return sendAllBut(ctx, send, frames, func(channel string) bool { return strings.Contains(channel, ":u:") })
				}
			}),
		},
		{
			Name: "empty-tokens-are-nowhere", Breaks: "isolate/confusable",
			Defect: "a channel with nothing between two dots, or before or behind one, is taken and reaches nobody, and Limits does not say so.",
			Seen:   "NATS: a..b is no subject, and a server that is not pedantic takes a publish to it",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					return sendAllBut(ctx, send, frames, func(channel string) bool { return slices.Contains(strings.Split(channel, "."), "") })
				}
			}),
		},
		{
			Name: "confirmed-by-one-server", Breaks: "subscribe/barrier-remote",
			Defect: "the server that a node is connected to confirms a subscription, the others learn of it 20 ms later, and Clustered does not say so.",
			Also:   []string{"deliver/once", "order/per-publisher"},
			Seen:   "nats-io/nats-server#1142: no acknowledgement reaches further than the client's own server",
			carry: carried(func(c *carrier) {
				var mu sync.Mutex
				known := map[string]time.Time{} // by channel: when the other servers know it
				ask, hand := c.subscribe, c.frame
				c.subscribe = func(ctx context.Context, channels []string) []error {
					mu.Lock()
					for _, name := range channels {
						known[name] = time.Now().Add(20 * time.Millisecond)
					}
					mu.Unlock()
					return ask(ctx, channels)
				}
				c.frame = func(channel string, data []byte) {
					mu.Lock()
					early := time.Now().Before(known[channel])
					mu.Unlock()
					if !early || publishedBy(data) == c.node {
						hand(channel, data)
					}
				}
			}),
		},
	}
}

// sendAllBut sends the frames whose channel the broker does not refuse, and returns the results of all: those that were
// refused have none.
func sendAllBut(
	ctx context.Context, send func(context.Context, []transport.Frame) []error, frames []transport.Frame, refused func(channel string) bool,
) []error {
	var taken []transport.Frame
	var places []int
	for i, f := range frames {
		if !refused(f.Channel) {
			taken, places = append(taken, f), append(places, i)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	errs := send(ctx, taken)
	if errs == nil {
		return nil
	}
	results := make([]error, len(frames))
	for i, err := range errs {
		results[places[i]] = err
	}
	return results
}

// publishedBy returns the node that published a frame: eight bytes behind the version.
func publishedBy(frame []byte) transport.NodeID {
	return transport.NodeID(hex.EncodeToString(frame[1:9]))
}

// matchers are survivors that hand over what was published on other channels.
func matchers() []Mutant {
	return []Mutant{
		{
			Name: "subjects-match", Defect: "a subscription whose name is a wildcard hears what it matches, too; the address in the frame decides.",
			carry: func() func(*carrier) {
				var mu sync.Mutex
				patterns := map[string]bool{} // that somebody has subscribed to
				return func(c *carrier) {
					ask, send := c.subscribe, c.publish
					c.subscribe = func(ctx context.Context, channels []string) []error {
						mu.Lock()
						for _, name := range channels {
							if strings.ContainsAny(name, "*>") {
								patterns[name] = true
							}
						}
						mu.Unlock()
						return ask(ctx, channels)
					}
					c.publish = func(ctx context.Context, frames []transport.Frame) []error {
						all := slices.Clone(frames)
						mu.Lock()
						for _, f := range frames {
							for pattern := range patterns {
								if f.Channel != pattern && matches(pattern, f.Channel) {
									all = append(all, transport.Frame{Channel: pattern, Data: f.Data})
									c.lie()
								}
							}
						}
						mu.Unlock()
						errs := send(ctx, all)
						return errs[:min(len(errs), len(frames))]
					}
				}
			},
		},
	}
}

// matches is the rule of NATS, with a colon as a separator of tokens as well: '*' is any token, and '>' all that follow.
func matches(pattern, channel string) bool {
	split := func(name string) []string {
		return strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == ':' })
	}
	want, have := split(pattern), split(channel)
	for i, token := range want {
		switch {
		case token == ">" && i < len(have):
			return true
		case i >= len(have) || token != "*" && token != have[i]:
			return false
		}
	}
	return len(want) == len(have)
}
