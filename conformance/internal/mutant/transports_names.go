package mutant

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// transportNames are transports that carry less than they say: names, sizes, bytes.
func transportNames() []Mutant {
	return []Mutant{
		{
			Name: "channels-fold", Defect: "the broker's channel names ignore case, and Limits does not say so.", Breaks: "isolate/confusable",
			Seen:  "PostgreSQL folds the name of LISTEN and NOTIFY unless it is quoted",
			carry: carried(func(c *carrier) { c.respelled(strings.ToLower) }),
		},
		{
			Name: "channels-cut", Defect: "the broker cuts channel names at 100 bytes, and Limits does not say so.", Breaks: "limits/address",
			Seen: "PostgreSQL cuts identifiers at 63 bytes",
			carry: carried(func(c *carrier) {
				c.respelled(func(channel string) string { return channel[:min(100, len(channel))] })
			}),
		},
		{
			Name: "channels-are-subjects", Defect: "what a subject may not hold becomes an underscore, and Limits does not say so.", Breaks: "names/inert",
			Seen: "usual for NATS subjects",
			carry: carried(func(c *carrier) {
				c.respelled(func(channel string) string {
					return strings.NewReplacer(" ", "_", "*", "_", ">", "_", "\r", "_", "\n", "_", "\t", "_").Replace(channel)
				})
			}),
		},
		{
			Name: "limit-lie", Defect: "the broker refuses frames above 512 KiB, and Limits does not say so.", Breaks: "limits/payload",
			Seen: "NATS: maximum payload violation at 1 MiB unless the server is set up otherwise",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					for _, f := range frames {
						if len(f.Data) > 512<<10 {
							return all(len(frames), fmt.Errorf("%w: maximum payload violation", transport.ErrTooLarge))
						}
					}
					return send(ctx, frames)
				}
			}),
		},
		{
			Name: "short-read", Defect: "frames are cut at 64 KiB, the size of one read.", Breaks: "payload/intact",
			Seen: "a Read taken for a ReadFull",
			carry: carried(func(c *carrier) {
				hand := c.frame
				c.frame = func(channel string, data []byte) { hand(channel, data[:min(len(data), 64<<10)]) }
			}),
		},
		{
			Name: "drops-large-frames", Defect: "frames of more than 64 KiB are taken and not sent.", Breaks: "limits/payload",
			Seen: "a datagram that does not fit; Redis's client-output-buffer-limit",
			carry: carried(func(c *carrier) {
				hand := c.frame
				c.frame = func(channel string, data []byte) {
					if len(data) <= 64<<10 {
						hand(channel, data)
					}
				}
			}),
		},
		{
			Name: "reads-into-one-buffer", Defect: "a frame's data is overwritten by the next frame.", Breaks: "payload/kept",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "bufio.Reader.ReadSlice, bytes of a pooled buffer",
			carry: carried(func(c *carrier) {
				var mu sync.Mutex
				var buffer []byte
				hand := c.frame
				c.frame = func(channel string, data []byte) {
					mu.Lock()
					defer mu.Unlock()
					buffer = overwritten(buffer, data)
					hand(channel, buffer[:len(data):len(data)])
				}
			}),
		},
		{
			Name: "keeps-data", Defect: "Publish returns while its frames are still to be written, and the engine reuses them.", Breaks: "payload/intact",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "asynchronous producers that keep the caller's slice",
			carry: carried(func(c *carrier) {
				var sending sync.WaitGroup
				send, closeAll := c.publish, c.close
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					kept := append([]transport.Frame{}, frames...)
					sending.Go(func() {
						pause(time.Millisecond)
						for i := range kept {
							kept[i].Data = asItIsNow(kept[i].Data)
						}
						send(context.WithoutCancel(ctx), kept)
					})
					return nil
				}
				c.close = func() error {
					sending.Wait()
					return closeAll()
				}
			}),
		},
	}
}

// takenBy remembers which node was the first with something.
type takenBy struct {
	mu    sync.Mutex
	nodes map[string]transport.NodeID // guarded by mu
}

// first reports whether the node is the first with it.
func (t *takenBy) first(what string, node transport.NodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes == nil {
		t.nodes = map[string]transport.NodeID{}
	}
	if _, taken := t.nodes[what]; !taken {
		t.nodes[what] = node
	}
	return t.nodes[what] == node
}
