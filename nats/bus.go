package nats

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

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

	// life is held by Connect, Disconnect and Close: they happen one after the other.
	life  sync.Mutex
	order []int // of the servers, the one to be tried first; guarded by life

	replicasWarning sync.Once

	mu     sync.Mutex
	link   *link              // the present connection, or what is left of it; guarded by mu
	giveUp context.CancelFunc // ends the Connect under way; guarded by mu
	closed bool               // guarded by mu
}

var (
	_ transport.Transport = (*bus)(nil)
	_ transport.Clustered = (*bus)(nil)
)

func newBus(s *settings, c transport.Config) *bus {
	b := &bus{set: s, cfg: c, timeout: c.Timeout, order: rand.Perm(len(s.servers))} //nolint:gosec // it spreads nodes over servers
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
	b.life.Lock()
	defer b.life.Unlock()
	b.drop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	closed := b.closed
	b.giveUp = cancel
	b.mu.Unlock()
	if closed {
		return errClosed
	}
	l, err := b.establish(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveUp = nil
	switch {
	case b.closed && err == nil:
		l.giveUp()
		return errClosed
	case b.closed:
		return errClosed
	case err != nil:
		return err
	}
	b.link = l
	l.start()
	return nil
}

// Disconnect closes the link's socket and waits for its goroutine, which then ends at once.
func (b *bus) Disconnect(transport.Link) {
	b.life.Lock()
	defer b.life.Unlock()
	b.drop()
}

// Close ends a Connect under way and disconnects.
func (b *bus) Close() error {
	b.mu.Lock()
	b.closed = true
	if b.giveUp != nil {
		b.giveUp()
	}
	b.mu.Unlock()
	b.life.Lock()
	defer b.life.Unlock()
	b.drop()
	return nil
}

// drop takes the link away and stops it. life is held; mu is not, so that calls of the sink can go on until it has
// stopped.
func (b *bus) drop() {
	b.mu.Lock()
	l := b.link
	b.link = nil
	b.mu.Unlock()
	if l != nil {
		l.stop()
		b.last(l.server)
	}
}

// last makes a server the one that is tried after all others. life is held.
func (b *bus) last(server int) {
	for i, s := range b.order {
		if s == server {
			b.order = append(append(b.order[:i:i], b.order[i+1:]...), server)
			return
		}
	}
}

// current returns the connected link.
func (b *bus) current() (*link, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return nil, errClosed
	case b.link == nil:
		return nil, errNotConnected
	default:
		return b.link, nil
	}
}

// Publish sends the frames, and one PING behind them.
func (b *bus) Publish(ctx context.Context, _ transport.Link, frames []transport.Frame) []error {
	if len(frames) == 0 {
		return nil
	}
	l, err := b.current()
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
	l, err := b.current()
	if err != nil {
		return all(len(channels), err)
	}
	return l.change(ctx, v, channels)
}

// Clustered reports whether the server said that it belongs to a cluster.
func (b *bus) Clustered(transport.Link) bool {
	l, err := b.current()
	return err == nil && l.clustered
}

// all is one outcome for n things.
func all(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
