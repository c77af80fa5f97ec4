package redis

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/onelink"
	"github.com/gobackplane/backplane/transport"
)

const defaultTimeout = 3 * time.Second

// bus is the transport. It has one link; its goroutines are the link's (link.go).
type bus struct {
	set     *settings
	cfg     transport.Config
	timeout time.Duration
	sink    transport.Sink // set by Start, before everything else

	roleWarning sync.Once

	life *onelink.Link[*link]
}

var (
	_ transport.Transport = (*bus)(nil)
	_ transport.Checker   = (*bus)(nil)
	_ transport.Store     = (*bus)(nil)
)

func newBus(s *settings, c transport.Config) *bus {
	b := &bus{set: s, cfg: c, timeout: c.Timeout, life: onelink.New[*link](errNotConnected, errClosed)}
	if b.timeout <= 0 {
		b.timeout = defaultTimeout
	}
	return b
}

// Limits returns what Redis can carry: frames up to its proto-max-bulk-len, 512 MiB if it was not changed, and names of
// any length and bytes. A server is shared by applications.
func (*bus) Limits() transport.Limits { return transport.Limits{Delimiter: ':', Shared: true} }

// Start keeps the sink.
func (b *bus) Start(s transport.Sink) { b.sink = s }

// Link returns the only one.
func (*bus) Link(string) transport.Link { return transport.OnlyLink }

// Connect asks every endpoint for its role and connects to the master.
func (b *bus) Connect(ctx context.Context, _ transport.Link) error {
	return b.life.Connect(ctx, b.establish)
}

// Disconnect closes the link's sockets and waits for its goroutines, which then end at once.
func (b *bus) Disconnect(transport.Link) { b.life.Disconnect() }

// Close ends a Connect under way and disconnects.
func (b *bus) Close() error {
	b.life.Close()
	return nil
}

// Publish sends the frames as one pipeline of PUBLISH commands.
func (b *bus) Publish(ctx context.Context, _ transport.Link, frames []transport.Frame) []error {
	if len(frames) == 0 {
		return nil
	}
	l, err := b.life.Current()
	if err != nil {
		return all(len(frames), err)
	}
	return l.pub.publish(ctx, frames)
}

// Subscribe sends SUBSCRIBE commands of many channels each, several at a time, and counts their confirmations.
func (b *bus) Subscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return b.change(ctx, subscribe, channels)
}

// Unsubscribe is the reverse.
func (b *bus) Unsubscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return b.change(ctx, unsubscribe, channels)
}

func (b *bus) change(ctx context.Context, verb string, channels []string) []error {
	if len(channels) == 0 {
		return nil
	}
	l, err := b.life.Current()
	if err != nil {
		return all(len(channels), err)
	}
	return l.change(ctx, verb, channels)
}

// Check asks the server that we publish on for its role. A server that may not be asked passes.
func (b *bus) Check(ctx context.Context, _ transport.Link) error {
	l, err := b.life.Current()
	if err != nil {
		return err
	}
	return l.pub.check(ctx)
}

// all is one outcome for n things.
func all(n int, err error) []error { return slices.Repeat([]error{err}, n) }
