package mutant

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// transports are transports under our engine that each break one rule of package transport, which the engine cannot make
// up for. Those that it does make up for are in Survivors.
func transports() []Mutant {
	return []Mutant{
		{
			Name: "hidden-reconnect", Defect: "the transport reconnects and subscribes anew by itself, and reports no Down.", Breaks: "link/gap-complete",
			Seen: "go-redis's PubSub and nats.go reconnect and resubscribe behind their caller's back",
			carry: carried(func(c *carrier) {
				mine := remembering(c)
				ask, dial, closeAll := c.subscribe, c.connect, c.close
				var closed atomic.Bool
				c.close = func() error {
					closed.Store(true)
					return closeAll()
				}
				c.down = func(error) {
					go func() {
						for !closed.Load() {
							if dial(context.Background()) == nil {
								ask(context.Background(), mine.all())
								return
							}
							pause(10 * time.Millisecond)
						}
					}()
				}
			}),
		},
		{
			Name: "early-confirm", Defect: "the transport's Subscribe returns when the request is written.", Breaks: "subscribe/barrier-remote",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "go-redis: Subscribe only writes; centrifugo's NATS broker does not flush after Subscribe",
			carry: carried(func(c *carrier) {
				ask := c.subscribe
				c.subscribe = func(ctx context.Context, channels []string) []error {
					go func() {
						pause(20 * time.Millisecond) // on its way
						ask(context.WithoutCancel(ctx), channels)
					}()
					return nil
				}
			}),
		},
		{
			Name: "first-of-a-batch", Defect: "of a batch of subscribes the first 64 are sent, and all are confirmed.", Breaks: "link/resubscribe",
			Seen: "centrifugal/centrifuge#613: resubscribing in batches failed where subscribing one by one had worked",
			carry: carried(func(c *carrier) {
				ask := c.subscribe
				c.subscribe = func(ctx context.Context, channels []string) []error {
					const batch = 64
					return ask(ctx, channels[:min(batch, len(channels))])
				}
			}),
		},
		{
			Name: "unsubscribe-without-names", Defect: "an unsubscribe of some channels is sent as one of all.", Breaks: "subscribe/again",
			Seen: "UNSUBSCRIBE without arguments ends all subscriptions of a Redis connection",
			carry: carried(func(c *carrier) {
				mine := remembering(c)
				leave := c.unsubscribe
				c.unsubscribe = func(ctx context.Context, channels []string) []error {
					return append(leave(ctx, append(mine.all(), channels...)), all(len(channels), nil)...)
				}
			}),
		},
		{
			Name: "leak-for-each-connect", Defect: "each Connect leaves a goroutine behind.", Breaks: "close/clean",
			Seen: "go-redis: a dial that failed lives on behind Close",
			carry: carried(func(c *carrier) {
				dial := c.connect
				c.connect = func(ctx context.Context) error {
					go pause(time.Hour)
					return dial(ctx)
				}
			}),
		},
		{
			Name: "disconnect-does-not-unblock", Defect: "a publish that hangs ignores its context and Disconnect.", Breaks: "link/half-open",
			Seen: "net.Conn without deadlines: a write to a dead peer ends with TCP's own timeout",
			carry: carried(func(c *carrier) {
				const hung = 100 * time.Millisecond // a healthy broker answers at once
				send := c.publish
				c.publish = func(ctx context.Context, frames []transport.Frame) []error {
					began := time.Now()
					errs := send(context.WithoutCancel(ctx), frames)
					if time.Since(began) > hung { // also if it succeeds: the link may heal before Disconnect comes
						pause(time.Minute)
					}
					return errs
				}
			}),
		},
	}
}

// transportStreams are transports that hand over other frames than the broker has sent.
func transportStreams() []Mutant {
	return []Mutant{
		{
			Name: "frames-compete", Defect: "the nodes' connections share a queue, and each frame reaches one of them.", Breaks: "link/gap-true",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "NATS queue groups, consumer groups of streams",
			carry: func() func(*carrier) {
				taken := &takenBy{}
				return func(c *carrier) {
					hand := c.frame
					c.frame = func(channel string, data []byte) {
						if taken.first(string(data), c.node) {
							hand(channel, data)
						}
					}
				}
			},
		},
		{
			Name: "no-echo", Defect: "the broker does not send a frame to the connection that published it.", Breaks: "link/gap-true",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "NATS's NoEcho, MQTT 5's No Local",
			carry: func() func(*carrier) {
				taken := &takenBy{}
				return func(c *carrier) {
					send, hand := c.publish, c.frame
					c.publish = func(ctx context.Context, frames []transport.Frame) []error {
						for _, f := range frames {
							taken.first(string(f.Data), c.node)
						}
						return send(ctx, frames)
					}
					c.frame = func(channel string, data []byte) {
						if !taken.first(string(data), c.node) {
							hand(channel, data)
						}
					}
				}
			},
		},
		{
			Name: "two-connections", Defect: "each third frame takes a slower way and is overtaken by the next ones of its channel.", Breaks: "link/gap-true",
			Also: []string{"deliver/once", "order/per-publisher"},
			Seen: "socketio/socket.io-redis-adapter, sharded: no order between two channels of one room",
			carry: carried(func(c *carrier) {
				hand := c.frame
				var frames atomic.Int64
				c.frame = func(channel string, data []byte) {
					if frames.Add(1)%3 != 0 {
						hand(channel, data)
						return
					}
					go func() {
						pause(3 * time.Millisecond)
						hand(channel, data)
					}()
				}
			}),
		},
		{
			Name: "frames-get-lost", Defect: "one frame in 400 is lost on the way from the broker.", Breaks: "link/gap-true",
			Seen: "centrifugal/centrifuge: a full queue of a worker drops what came, and counts it",
			carry: carried(func(c *carrier) {
				hand := c.frame
				var frames atomic.Int64
				c.frame = func(channel string, data []byte) {
					if frames.Add(1)%400 != 0 {
						hand(channel, data)
					}
				}
			}),
		},
	}
}
