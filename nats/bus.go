package nats

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/onelink"
	"github.com/gobackplane/backplane/transport"
)

const (
	defaultTimeout = 3 * time.Second
	maxFrame       = 64 << 20 // no server permits more
	maxChannel     = 250
)

// bus is the transport. It has one link; its goroutines are the link's (link.go).
type bus struct {
	set     *settings
	cfg     transport.Config
	timeout time.Duration
	sink    transport.Sink // set by Start, before everything else

	life  *onelink.Link[*link]
	order []int // of the servers, the one to be tried first; only who connects or stops a link uses it

	replicasWarning sync.Once
}

var (
	_ transport.Transport = (*bus)(nil)
	_ transport.Clustered = (*bus)(nil)
)

func newBus(s *settings, c transport.Config) *bus {
	b := &bus{
		set: s, cfg: c, timeout: c.Timeout, life: onelink.New[*link](errNotConnected, errClosed),
		order: rand.Perm(len(s.servers)), //nolint:gosec // it spreads nodes over servers
	}
	if b.timeout <= 0 {
		b.timeout = defaultTimeout
	}
	return b
}

// Limits returns what NATS can carry. A server is shared by applications.
func (*bus) Limits() transport.Limits {
	return transport.Limits{
		MaxFrame: maxFrame, MaxChannel: maxChannel, ChannelByte: inSubject, Delimiter: '.', Tokens: true, Shared: true,
	}
}

// inSubject reports whether a byte may stand in a subject, and means nothing there. Quotes and backslashes are not
// among them, because the server quotes a subject that it refuses.
func inSubject(b byte) bool {
	switch b {
	case '*', '>', '"', '\\':
		return false
	}
	return b > ' ' && b < 0x7f
}

// Start keeps the sink.
func (b *bus) Start(s transport.Sink) { b.sink = s }

// Link returns the only one.
func (*bus) Link(string) transport.Link { return transport.OnlyLink }

// Connect connects to the first server that lets us in.
func (b *bus) Connect(ctx context.Context, _ transport.Link) error {
	return b.life.Connect(ctx, b.establish)
}

// Disconnect closes the link's socket and waits for its goroutine, which then ends at once.
func (b *bus) Disconnect(transport.Link) { b.life.Disconnect() }

// Close ends a Connect under way and disconnects.
func (b *bus) Close() error {
	b.life.Close()
	return nil
}

// last makes a server the one that is tried after all others.
func (b *bus) last(server int) {
	for i, s := range b.order {
		if s == server {
			b.order = append(append(b.order[:i:i], b.order[i+1:]...), server)
			return
		}
	}
}

// Publish sends the frames, and one PING behind them.
func (b *bus) Publish(ctx context.Context, _ transport.Link, frames []transport.Frame) []error {
	if len(frames) == 0 {
		return nil
	}
	l, err := b.life.Current()
	if err != nil {
		return all(len(frames), err)
	}
	return l.publish(ctx, frames)
}

// Subscribe sends many SUBs, and one PING behind them.
func (b *bus) Subscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return b.change(ctx, subscribing, channels)
}

// Unsubscribe is the reverse.
func (b *bus) Unsubscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return b.change(ctx, unsubscribing, channels)
}

func (b *bus) change(ctx context.Context, v verb, channels []string) []error {
	if len(channels) == 0 {
		return nil
	}
	l, err := b.life.Current()
	if err != nil {
		return all(len(channels), err)
	}
	return l.change(ctx, v, channels)
}

// Clustered reports whether the server said that it belongs to a cluster.
func (b *bus) Clustered(transport.Link) bool {
	l, err := b.life.Current()
	return err == nil && l.clustered
}

// all is one outcome for n things.
func all(n int, err error) []error { return slices.Repeat([]error{err}, n) }
