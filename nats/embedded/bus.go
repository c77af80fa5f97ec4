package embedded

import (
	"context"
	"log/slog"
	"sync"

	"github.com/gobackplane/backplane/transport"
)

// bus is package nats' transport over a connection to the server of this process, which it starts and stops. There is no
// JetStream, so it is no transport.Store: only the methods of transport.Transport are taken over.
type bus struct {
	transport.Transport

	host   *host
	logger *slog.Logger

	// life is held by Connect and Close: they happen one after the other.
	life sync.Mutex
	has  bool // the server; guarded by life

	mu     sync.Mutex
	giveUp context.CancelFunc // ends the Connect under way; guarded by mu
	closed bool               // guarded by mu
}

var (
	_ transport.Transport = (*bus)(nil)
	_ transport.Clustered = (*bus)(nil)
)

// Connect starts the server, where it does not run yet, and connects to it.
func (b *bus) Connect(ctx context.Context, link transport.Link) error {
	b.life.Lock()
	defer b.life.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	closed := b.closed
	b.giveUp = cancel
	b.mu.Unlock()
	if closed {
		return errClosed
	}
	had := b.has
	if !had {
		if err := b.host.acquire(ctx, b.logger); err != nil {
			return err
		}
		b.has = true
	}
	err := b.Transport.Connect(ctx, link)
	if err != nil && !had {
		b.release()
	}
	return err
}

// Close disconnects, and stops the server if no other transport uses it.
func (b *bus) Close() error {
	b.mu.Lock()
	b.closed = true
	if b.giveUp != nil {
		b.giveUp()
	}
	b.mu.Unlock()
	err := b.Transport.Close()
	b.life.Lock()
	defer b.life.Unlock()
	b.release()
	return err
}

// release gives the server back. life is held.
func (b *bus) release() {
	if b.has {
		b.has = false
		b.host.release()
	}
}

// Clustered reports whether there may be peers.
func (b *bus) Clustered(transport.Link) bool { return b.host.clustered() }
