// Package relay is an example of a transport for a broker that package backplane does not ship: a TCP relay of its own,
// which carries frames of at most 8,000 bytes on channels with names of at most 63, like a database's NOTIFY.
// docs/transports.md walks through it. The files are cut as in packages redis and inmem:
//
//   - relay.go: options, the opener, and what a transport is called for;
//   - link.go: one connection, with the two goroutines that own it;
//   - packet.go: what travels on it; and server.go: the relay itself, which is no part of the transport.
package relay

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/transport"
)

const (
	// MaxPayload is the largest MaxPayload that a node over this transport may have: the engine needs 4 KiB of a frame.
	MaxPayload = maxFrame - 4<<10

	maxFrame   = 8000
	maxChannel = 63
)

// Options say which relay to use.
type Options struct {
	// Address is the relay's "host:port". Required.
	Address string
	// Dial makes the connections. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// New returns what backplane.Open takes. It performs no I/O; options that do not fit are reported by the opener.
func New(o Options) transport.Opener {
	return func(c transport.Config) (transport.Transport, error) {
		if _, _, err := net.SplitHostPort(o.Address); err != nil {
			return nil, fmt.Errorf("%w: relay: Address is not host:port; write 127.0.0.1:4000", transport.ErrInvalidOption)
		}
		if o.Dial == nil {
			o.Dial = new(net.Dialer).DialContext
		}
		return &relay{options: o, timeout: c.Timeout}, nil
	}
}

// relay is the transport. Its goroutines are its link's.
type relay struct {
	options Options
	timeout time.Duration
	sink    transport.Sink // set by Start, before everything else

	life   sync.Mutex // held by Connect, Disconnect and Close: they happen one after the other
	closed bool       // guarded by life

	link atomic.Pointer[link] // nil while not connected; changed under life
}

// Limits tells what the relay carries. It is shared: a node needs a namespace.
func (*relay) Limits() transport.Limits {
	return transport.Limits{MaxFrame: maxFrame, MaxChannel: maxChannel, Shared: true}
}

// Start keeps the sink.
func (r *relay) Start(s transport.Sink) { r.sink = s }

// Link returns the only one.
func (*relay) Link(string) transport.Link { return transport.OnlyLink }

// Connect dials once. Whether and when to try again is the engine's business.
func (r *relay) Connect(ctx context.Context, _ transport.Link) error {
	r.life.Lock()
	defer r.life.Unlock()
	r.drop()
	if r.closed {
		return fmt.Errorf("%w: relay: the transport was closed", transport.ErrClosed)
	}
	l, err := connect(ctx, r)
	if err != nil {
		return fmt.Errorf("%w: relay: %w", transport.ErrUnavailable, err)
	}
	r.link.Store(l)
	l.start()
	return nil
}

// Disconnect closes the connection and waits for its goroutines, so that the sink hears nothing more.
func (r *relay) Disconnect(transport.Link) {
	r.life.Lock()
	defer r.life.Unlock()
	r.drop()
}

// Close is Disconnect for good.
func (r *relay) Close() error {
	r.life.Lock()
	defer r.life.Unlock()
	r.drop()
	r.closed = true
	return nil
}

// drop stops the link, if there is one. life is held.
func (r *relay) drop() {
	if l := r.link.Swap(nil); l != nil {
		l.end(errGivenUp, true)
		l.running.Wait()
	}
}

// Publish sends frames. Of those that were on their way when the call ended, nobody knows whether the relay took them.
func (r *relay) Publish(ctx context.Context, _ transport.Link, frames []transport.Frame) []error {
	packets := make([]packet, len(frames))
	for i, f := range frames {
		packets[i] = packet{publish, f.Channel, f.Data}
	}
	return r.ask(ctx, packets, transport.ErrUncertain)
}

// Subscribe asks for channels, all at once; the relay confirms one after the other.
func (r *relay) Subscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return r.change(ctx, subscribe, channels)
}

// Unsubscribe is the reverse.
func (r *relay) Unsubscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return r.change(ctx, unsubscribe, channels)
}

func (r *relay) change(ctx context.Context, kind byte, channels []string) []error {
	packets := make([]packet, len(channels))
	for i, channel := range channels {
		packets[i] = packet{kind: kind, name: channel}
	}
	return r.ask(ctx, packets, transport.ErrUnavailable)
}

// ask sends packets over the link and returns the answer to each; unanswered is the class of error where none came.
func (r *relay) ask(ctx context.Context, packets []packet, unanswered error) []error {
	if l := r.link.Load(); l != nil {
		return l.ask(ctx, packets, unanswered)
	}
	return all(packets, fmt.Errorf("%w: relay: not connected", transport.ErrUnavailable))
}

func all(packets []packet, err error) []error {
	errs := make([]error, len(packets))
	for i := range errs {
		errs[i] = err
	}
	return errs
}
