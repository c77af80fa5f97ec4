package nats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

// establish connects to the first server that lets us in. A server that failed is tried last the next time. On error
// nothing is left behind.
func (b *bus) establish(ctx context.Context) (*link, error) {
	order := slices.Clone(b.order)
	errs := make([]error, 0, len(order))
	for k, i := range order {
		l, err := b.open(ctx, i, len(order)-k)
		if err == nil {
			return l, nil
		}
		b.last(i)
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(b.set.servers) == 1 {
		return nil, errs[0]
	}
	texts := make([]string, len(errs))
	for k, err := range errs {
		texts[k] = b.set.servers[order[k]].addr + ": " + err.Error()
	}
	err := &failure{class: transport.ErrDenied, text: "no server lets us in; " + strings.Join(texts, "; ")}
	if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, transport.ErrUnavailable) }) {
		err.class = transport.ErrUnavailable // what may be there later counts more than what is refused now
	}
	return nil, err
}

// open connects to one server. It leaves time for the others: left counts it and them.
func (b *bus) open(ctx context.Context, server, left int) (*link, error) {
	timeout := b.timeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/time.Duration(left))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l := newLink(b, server)
	d := &dialer{ctx: ctx, l: l}
	o, err := b.set.options(server, d)
	if err != nil {
		return nil, err
	}
	o.Name = "backplane:" + b.cfg.Namespace + ":" + string(b.cfg.Node)
	if o.InboxPrefix == "" && b.cfg.Namespace != "" {
		o.InboxPrefix = b.cfg.Namespace + "._inbox"
	}
	o.Timeout = max(timeout, time.Millisecond)
	stop := context.AfterFunc(ctx, l.abort)
	l.nc, err = o.Connect()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = l.check()
	}
	if err != nil {
		l.abort()
		l.nc.Close() // of nil does nothing
		return nil, b.set.explain(ctx, err, d, server)
	}
	return l, nil
}

// options makes those of nats.go.
func (s *settings) options(server int, d *dialer) (natsgo.Options, error) {
	o := s.base
	o.Url, o.Servers, o.IgnoreDiscoveredServers, o.SkipHostLookup = s.servers[server].url, nil, true, true
	if s.inProcess != nil {
		o.InProcessServer = d
	} else {
		o.InProcessServer, o.CustomDialer = nil, d
	}
	if s.tls != nil {
		config, err := s.tls.Config(s.servers[server].addr)
		if err != nil {
			return o, denied(err, "TLS")
		}
		o.Secure, o.TLSConfig = true, config
	}
	if name, err := s.readCredentials(&o); err != nil {
		return o, denied(err, name)
	}
	// Nothing is done behind the engine's back: it notices a silent link by its probes, and it decides when to connect.
	o.AllowReconnect, o.RetryOnFailedConnect, o.ReconnectBufSize = false, false, -1
	o.PingInterval, o.FlusherTimeout, o.NoEcho, o.Verbose, o.Pedantic = 0, 0, false, false, false
	o.ConnectedCB, o.DisconnectedErrCB, o.DisconnectedCB, o.ReconnectedCB, o.ReconnectErrCB = nil, nil, nil, nil, nil
	o.DiscoveredServersCB, o.LameDuckModeHandler, o.NoCallbacksAfterClientClose = nil, nil, true
	o.AsyncErrorCB, o.ClosedCB = d.l.notice, d.l.closed
	return o, nil
}

// check looks whether the server carries what the engine will send.
func (l *link) check() error {
	l.clustered = l.nc.ConnectedClusterName() != ""
	if most := l.nc.MaxPayload(); most < int64(l.bus.cfg.MaxFrame) {
		return denied(transport.ErrInvalidOption, fmt.Sprintf("the server's max_payload is %d bytes, and frames may have %d, which are MaxPayload and 4096; "+
			"set max_payload to %d or more, or MaxPayload to %d or less", most, l.bus.cfg.MaxFrame, l.bus.cfg.MaxFrame, max(0, most-frameOverhead)))
	}
	return nil
}

// frameOverhead is what a frame needs beside MaxPayload.
const frameOverhead = 4 << 10

// explain makes the error for a failed attempt.
func (s *settings) explain(ctx context.Context, err error, d *dialer, server int) error {
	addr := s.servers[server].addr
	if refused := s.refusal(err); refused != nil {
		return refused
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	hint := ""
	if s.tls != nil {
		hint = " (if its TLS has handshake_first, lend a Conn with TLSHandshakeFirst)"
	}
	switch {
	case d.err != nil && ctx.Err() == nil:
		return unavailable(d.err, "cannot connect")
	case ctx.Err() != nil:
		return unavailable(ctx.Err(), "the server "+addr+" did not answer in time"+hint)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return unavailable(context.DeadlineExceeded, "the server "+addr+" did not answer in time"+hint)
	}
	return unavailable(errors.New(clean(err)), "the server "+addr+" did not let us in")
}
