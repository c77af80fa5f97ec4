package mutant

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// transportFates are transports that do not tell what became of a frame.
func transportFates() []Mutant {
	return []Mutant{
		{
			Name: "written-is-taken", Defect: "what was written to a connection that has just died is reported as taken.", Breaks: "link/publish-down",
			Seen: "a write that the kernel takes says nothing of the other end; nats.go: Publish returns when the message is buffered",
			carry: carried(func(c *carrier) {
				send, leave, fail := c.publish, c.disconnect, c.down
				var mu sync.Mutex
				dying, given := false, 0 // the connection is dead and nobody has noticed; how often it was given up
				set := func(to bool) int {
					mu.Lock()
					defer mu.Unlock()
					dying = to
					return given
				}
				c.down = func(cause error) {
					was := set(true)
					go func() {
						pause(20 * time.Millisecond) // until the reader notices
						if set(false) == was {
							fail(cause)
						}
					}()
				}
				c.disconnect = func() {
					mu.Lock()
					given++
					mu.Unlock()
					leave()
				}
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					mu.Lock()
					written := dying
					mu.Unlock()
					if written {
						return nil
					}
					return send(ctx, frames)
				}
			}),
		},
	}
}

// transportGuesses are transports that tell what they cannot know.
func transportGuesses() []Mutant {
	return []Mutant{
		{
			Name: "definite-for-uncertain", Defect: "a frame whose answer was lost is reported as not taken.", Breaks: "link/publish-down",
			Seen: "go-redis: a pipeline's read error looks like its dial error",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					if send(ctx, frames) == nil {
						return nil
					}
					return all(len(frames), transport.ErrUnavailable)
				}
			}),
		},
		{
			Name: "last-attempt-counts", Defect: "the transport tries again by itself, and what it reports is the last attempt.", Breaks: "link/no-repeat",
			Seen: "go-redis's MaxRetries: an error that looks definite may follow an attempt that was heard",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					errs := send(ctx, frames)
					for attempts := 1; attempts < 4 && errs != nil && ctx.Err() == nil; attempts++ {
						pause(8 * time.Millisecond)
						errs = send(ctx, frames)
					}
					return errs
				}
			}),
		},
		{
			Name: "fire-and-forget", Defect: "Publish returns when frames are queued; the queue dies with the transport.", Breaks: "close/alone",
			Seen: "nats.go: Close without Flush or Drain loses what is buffered",
			carry: carried(func(c *carrier) {
				var mu sync.Mutex
				var queue [][]transport.Frame
				sending, closed := false, false
				send, closeAll := c.publish, c.close
				run := func() {
					for {
						pause(time.Millisecond)
						mu.Lock()
						if len(queue) == 0 || closed {
							sending = false
							mu.Unlock()
							return
						}
						next := queue[0]
						queue = queue[1:]
						mu.Unlock()
						send(context.Background(), next)
					}
				}
				c.publish = func(_ context.Context, frames []transport.Frame) []error {
					kept := make([]transport.Frame, len(frames))
					for i, f := range frames {
						kept[i] = transport.Frame{Channel: f.Channel, Data: bytes.Clone(f.Data)}
					}
					mu.Lock()
					defer mu.Unlock()
					queue = append(queue, kept)
					if !sending {
						sending = true
						go run()
					}
					return nil
				}
				c.close = func() error {
					mu.Lock()
					closed = true
					mu.Unlock()
					return closeAll()
				}
			}),
		},
		{
			Name: "changes-data", Defect: "Publish wipes the frames that it has sent, also those that the engine will send again.", Breaks: "link/publish-down",
			Seen: "buffers that go back to a pool, encryption in place",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					errs := send(ctx, frames)
					for i := range frames {
						clear(frames[i].Data)
					}
					return errs
				}
			}),
		},
	}
}
