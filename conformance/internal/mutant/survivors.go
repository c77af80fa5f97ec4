package mutant

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// Survivors are transports that break a rule of package transport in a way that the engine makes up for: no promise is
// broken, and the suite must find nothing. Breaks is empty.
func Survivors() []Mutant {
	all := slices.Concat(repeaters(), matchers(), summers(), deserters(), loiterers())
	for i := range all {
		all[i].lied = &atomic.Int64{}
	}
	return all
}

// Lies tells how often the defect of one of Survivors has shown, in all worlds made from it.
func (m Mutant) Lies() int64 { return m.lied.Load() }

// repeaters are survivors that send or hand over other than they should.
func repeaters() []Mutant {
	return []Mutant{
		{
			Name: "delivers-twice", Defect: "each frame is handed over twice; numbers drop the repeat.",
			carry: carried(func(c *carrier) {
				hand := c.frame
				c.frame = func(channel string, data []byte) {
					hand(channel, data)
					hand(channel, data)
					c.lie()
				}
			}),
		},
		{
			Name: "reversed-batch", Defect: "the frames of a batch are sent in reverse; a channel has one under way at most.",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					turned := make([]transport.Frame, len(frames))
					for i, f := range frames {
						turned[len(frames)-1-i] = f
					}
					if len(frames) > 1 {
						c.lie()
					}
					return send(ctx, turned)
				}
			}),
		},
	}
}

// summers are survivors that give one result for all frames of a batch, as pipelines of client libraries do.
func summers() []Mutant {
	return []Mutant{
		{
			Name: "one-result-for-all", Defect: "now and then the results of a batch are one; the engine takes all for uncertain, and sends them again.",
			carry: carried(func(c *carrier) {
				var batches atomic.Int64
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					errs := send(ctx, frames)
					if len(frames) < 2 || batches.Add(1)%3 != 0 {
						return errs
					}
					c.lie()
					return append(errs, nil)[:1]
				}
			}),
		},
	}
}

// deserters are survivors whose links end other than they should.
func deserters() []Mutant {
	return []Mutant{
		{
			Name: "no-down", Defect: "a link that fails is not reported; probes notice.",
			carry: carried(func(c *carrier) { c.down = func(error) { c.lie() } }),
		},
		{
			Name: "down-twice", Defect: "the end of a connection is reported again while it is being made anew; the next attempt follows.",
			carry: carried(func(c *carrier) {
				tell := c.down
				c.down = func(cause error) {
					tell(cause)
					tell(cause)
					c.lie()
				}
			}),
		},
		{
			Name: "down-and-frames-after-close", Defect: "the sink is called after Close has returned; the engine hears nothing any more.",
			carry: carried(func(c *carrier) {
				var mu sync.Mutex
				var channel string
				var frame []byte
				hand, closeAll := c.frame, c.close
				c.frame = func(name string, data []byte) {
					mu.Lock()
					channel, frame = name, data
					mu.Unlock()
					hand(name, data)
				}
				c.close = func() error {
					err := closeAll()
					mu.Lock()
					name, data := channel, frame
					mu.Unlock()
					if data != nil {
						hand(name, data)
						c.lie()
					}
					c.down(transport.ErrClosed)
					return err
				}
			}),
		},
		{
			Name: "lazy-connect", Defect: "Connect returns at once and connects later; what is asked for meanwhile is asked again.",
			carry: carried(func(c *carrier) {
				dial := c.connect
				c.connect = func(ctx context.Context) error {
					go func() {
						pause(20 * time.Millisecond)
						_ = dial(context.WithoutCancel(ctx)) // the defect: nobody is told
					}()
					c.lie()
					return nil
				}
			}),
		},
	}
}

// loiterers are survivors that take longer than they should, or do not do at all what they say.
func loiterers() []Mutant {
	return []Mutant{
		{
			Name: "connect-ignores-its-context", Defect: "Connect goes on trying after its context ended; Close waits for it within its own bound.",
			carry: carried(func(c *carrier) {
				dial := c.connect
				c.connect = func(ctx context.Context) error {
					for attempts := 1; ; attempts++ {
						if err := dial(context.WithoutCancel(ctx)); err == nil || attempts == 100 {
							return err
						}
						c.lie()
						pause(10 * time.Millisecond)
					}
				}
			}),
		},
		{
			Name: "publish-ignores-its-context", Defect: "a publish that hangs ends only with Disconnect, which probes bring about.",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					errs := send(context.WithoutCancel(ctx), frames)
					if ctx.Err() != nil || errs != nil {
						c.lie()
					}
					return errs
				}
			}),
		},
		{
			Name: "denied-for-unavailable", Defect: "a broker that is not there is reported as one that denies; the engine tries again all the same.",
			carry: carried(func(c *carrier) {
				dial := c.connect
				connected := false
				c.connect = func(ctx context.Context) error {
					err := dial(ctx)
					if err != nil && connected {
						c.lie()
						return transport.ErrDenied
					}
					connected = connected || err == nil
					return err
				}
			}),
		},
		{
			Name: "unsubscribe-does-nothing", Defect: "channels stay subscribed at the broker; the engine ignores what comes on them.",
			carry: carried(func(c *carrier) {
				c.unsubscribe = func(context.Context, []string) []error {
					c.lie()
					return nil
				}
			}),
		},
		{
			Name: "slow-publish", Defect: "a publish of one channel holds up the others for 2 ms; the engine sends what waits in one batch.",
			carry: carried(func(c *carrier) {
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					pause(2 * time.Millisecond)
					c.lie()
					return send(ctx, frames)
				}
			}),
		},
	}
}
