package mutant

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/gobackplane/backplane/transport"
)

// carrier is a transport under our engine. Its methods are the functions below, which are the healthy transport's unless a
// mutant replaced them.
type carrier struct {
	healthy transport.Transport
	node    transport.NodeID
	sink    transport.Sink // the engine's

	limits      transport.Limits
	connect     func(ctx context.Context) error
	disconnect  func()
	publish     func(ctx context.Context, frames []transport.Frame) []error
	subscribe   func(ctx context.Context, channels []string) []error
	unsubscribe func(ctx context.Context, channels []string) []error
	close       func() error
	clustered   func() bool
	frame       func(channel string, data []byte) // what the healthy transport reports
	down        func(cause error)

	lie func() // notes that the defect has shown
}

// carried makes the carry function of a defect without state that the transports of a world share.
func carried(breakIt func(*carrier)) func() func(*carrier) {
	return func() func(*carrier) { return breakIt }
}

// Transport returns an opener of the broken transports of this world over a healthy one's.
func (w *World) Transport(open transport.Opener) transport.Opener {
	if w.carry == nil {
		return open
	}
	return func(config transport.Config) (transport.Transport, error) {
		healthy, err := open(config)
		if err != nil {
			return nil, err
		}
		c := &carrier{healthy: healthy, node: config.Node, limits: healthy.Limits()}
		c.connect = func(ctx context.Context) error { return healthy.Connect(ctx, transport.OnlyLink) }
		c.disconnect = func() { healthy.Disconnect(transport.OnlyLink) }
		c.publish = func(ctx context.Context, frames []transport.Frame) []error {
			return healthy.Publish(ctx, transport.OnlyLink, frames)
		}
		c.subscribe = func(ctx context.Context, channels []string) []error {
			return healthy.Subscribe(ctx, transport.OnlyLink, channels)
		}
		c.unsubscribe = func(ctx context.Context, channels []string) []error {
			return healthy.Unsubscribe(ctx, transport.OnlyLink, channels)
		}
		c.close = healthy.Close
		c.clustered = func() bool {
			several, can := healthy.(transport.Clustered)
			return can && several.Clustered(transport.OnlyLink)
		}
		c.frame = func(channel string, data []byte) { c.sink.Frame(transport.OnlyLink, channel, data) }
		c.down = func(cause error) { c.sink.Down(transport.OnlyLink, cause) }
		c.lie = func() {
			if w.lied != nil {
				w.lied.Add(1)
			}
		}
		w.carry(c)
		return c, nil
	}
}

func (c *carrier) Limits() transport.Limits { return c.limits }

func (c *carrier) Start(s transport.Sink) {
	c.sink = s
	c.healthy.Start((*carrierSink)(c))
}

func (c *carrier) Link(channel string) transport.Link { return c.healthy.Link(channel) }

func (c *carrier) Connect(ctx context.Context, _ transport.Link) error { return c.connect(ctx) }

func (c *carrier) Disconnect(transport.Link) { c.disconnect() }

func (c *carrier) Publish(ctx context.Context, _ transport.Link, frames []transport.Frame) []error {
	return c.publish(ctx, frames)
}

func (c *carrier) Subscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return c.subscribe(ctx, channels)
}

func (c *carrier) Unsubscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return c.unsubscribe(ctx, channels)
}

func (c *carrier) Close() error { return c.close() }

func (c *carrier) Clustered(transport.Link) bool { return c.clustered() }

// carrierSink is what the healthy transport reports to.
type carrierSink carrier

func (s *carrierSink) Frame(_ transport.Link, channel string, data []byte) { s.frame(channel, data) }

func (s *carrierSink) Gap(l transport.Link, channels []string, resubscribe bool, cause error) {
	s.sink.Gap(l, channels, resubscribe, cause)
}

func (s *carrierSink) Down(_ transport.Link, cause error) { s.down(cause) }

// all returns one result for each of n requests.
func all(n int, err error) []error {
	if err == nil {
		return nil
	}
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// remembered is what a transport that must not remember subscriptions remembers.
type remembered struct {
	mu       sync.Mutex
	channels map[string]bool // guarded by mu
}

func remembering(c *carrier) *remembered {
	r := &remembered{channels: map[string]bool{}}
	ask, leave := c.subscribe, c.unsubscribe
	c.subscribe = func(ctx context.Context, channels []string) []error {
		r.mu.Lock()
		for _, name := range channels {
			r.channels[name] = true
		}
		r.mu.Unlock()
		return ask(ctx, channels)
	}
	c.unsubscribe = func(ctx context.Context, channels []string) []error {
		r.mu.Lock()
		for _, name := range channels {
			delete(r.channels, name)
		}
		r.mu.Unlock()
		return leave(ctx, channels)
	}
	return r
}

func (r *remembered) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.channels))
}

// respelled changes the names of channels on their way to the broker.
func (c *carrier) respelled(as func(channel string) string) {
	spell := func(names []string) []string {
		out := make([]string, len(names))
		for i, name := range names {
			out[i] = as(name)
		}
		return out
	}
	send, ask, leave := c.publish, c.subscribe, c.unsubscribe
	c.publish = func(ctx context.Context, frames []transport.Frame) []error {
		out := make([]transport.Frame, len(frames))
		for i, f := range frames {
			out[i] = transport.Frame{Channel: as(f.Channel), Data: f.Data}
		}
		return send(ctx, out)
	}
	c.subscribe = func(ctx context.Context, channels []string) []error { return ask(ctx, spell(channels)) }
	c.unsubscribe = func(ctx context.Context, channels []string) []error { return leave(ctx, spell(channels)) }
}

// overwritten copies data into a buffer that was handed out before. The race detector is kept out of it, as in asItIsNow.
//
//go:norace
func overwritten(buffer, data []byte) []byte {
	const room = 64 << 10
	if len(buffer) < len(data) {
		buffer = make([]byte, max(room, len(data)))
	}
	for i := range data { //nolint:staticcheck // not copy, which is watched as a call of the runtime
		buffer[i] = data[i]
	}
	return buffer
}
