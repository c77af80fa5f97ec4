package embedded

import (
	"context"
	"log/slog"

	"github.com/gobackplane/backplane/internal/onelink"
	"github.com/gobackplane/backplane/transport"
)

// bus is package nats' transport over a connection to the server of this process, which it starts and stops. There is no
// JetStream, so it is no transport.Store: only the methods of transport.Transport are taken over.
type bus struct {
	transport.Transport

	host   *host
	logger *slog.Logger

	turns onelink.Turns
	has   bool // the server; used in turn
}

var (
	_ transport.Transport = (*bus)(nil)
	_ transport.Clustered = (*bus)(nil)
)

// Connect starts the server, where it does not run yet, and connects to it.
func (b *bus) Connect(ctx context.Context, link transport.Link) error {
	return b.turns.Connect(ctx, func(ctx context.Context) error {
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
	})
}

// Close disconnects, and stops the server if no other transport uses it.
func (b *bus) Close() (err error) {
	b.turns.Close(func() {
		err = b.Transport.Close()
		b.release()
	})
	return err
}

// release gives the server back. It is called in turn.
func (b *bus) release() {
	if b.has {
		b.has = false
		b.host.release()
	}
}

// Clustered reports whether there may be peers.
func (b *bus) Clustered(transport.Link) bool { return b.host.clustered() }
