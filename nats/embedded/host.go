package embedded

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/gobackplane/backplane/internal/onelink"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

// host is what an opener stands for: the server that its transports share. It runs as long as one of them has it.
type host struct {
	set  *settings
	gate chan struct{} // holds a value while somebody starts or stops the server, or counts users

	users   int // guarded by gate
	running atomic.Pointer[instance]
}

func newHost(set *settings) *host { return &host{set: set, gate: make(chan struct{}, 1)} }

// open is the transport.Opener.
func (h *host) open(c transport.Config) (transport.Transport, error) {
	inner, err := nats.New(nats.Options{InProcess: h})(c)
	if err != nil {
		return nil, err
	}
	return &bus{Transport: inner, host: h, logger: c.Logger, turns: onelink.Turns{Closed: errClosed}}, nil
}

// InProcessConn makes a connection to the server.
func (h *host) InProcessConn() (net.Conn, error) {
	i := h.running.Load()
	if i == nil {
		return nil, errClosed
	}
	conn, err := i.server.InProcessConn()
	if err == nil && h.set.wire != nil {
		return h.set.wire(conn)
	}
	return conn, err
}

// acquire counts a transport that uses the server, and starts it for the first.
func (h *host) acquire(ctx context.Context, logger *slog.Logger) error {
	select {
	case h.gate <- struct{}{}:
	case <-ctx.Done():
		return unavailable(ctx.Err(), "the server is being started or stopped")
	}
	defer func() { <-h.gate }()
	if h.users == 0 {
		if h.set.logger != nil {
			logger = h.set.logger
		}
		i, err := start(ctx, h.set, logger)
		if err != nil {
			return err
		}
		h.running.Store(i)
	}
	h.users++
	return nil
}

// release stops the server after the last transport.
func (h *host) release() {
	h.gate <- struct{}{}
	defer func() { <-h.gate }()
	if h.users--; h.users == 0 {
		h.running.Swap(nil).stop()
	}
}

// clustered reports whether the server may have others beside it.
func (h *host) clustered() bool { return h.set.clustered() }

// What the server is told beside the settings.
const (
	// impossiblePort keeps the server from listening for clients. Its option for that, DontListen, keeps it from listening for
	// routes as well: they wait for the clients' listener (2.15.2, Server.StartRouting), which here fails instead.
	impossiblePort       = "65536"
	impossiblePortNumber = 65536

	maxPayload = 64 << 20
	maxPending = 2 * maxPayload // what waits for one connection, before the server cuts it

	// A route whose other end is silent is closed after four seconds.
	routePing     = time.Second
	routePings    = 3
	routeDeadline = 3 * time.Second
)

// options makes the server's options.
func (s *settings) options(password string, routes []*url.URL) *server.Options {
	o := &server.Options{
		ServerName: s.name, Host: "127.0.0.1", DontListen: true,
		NoLog: true, NoSigs: true, NoSystemAccount: true,
		MaxPayload: maxPayload, MaxPending: maxPending,
	}
	if !s.clustered() {
		return o
	}
	o.DontListen, o.Port = false, impossiblePortNumber
	o.Routes = routes
	o.Cluster = server.ClusterOpts{
		Name: s.cluster, Host: s.host, Port: s.port, Advertise: s.advertise, NoAdvertise: true,
		Username: username, Password: password,
		// One connection to each peer: subscriptions and messages stay in order.
		PoolSize: 1, Compression: server.CompressionOpts{Mode: server.CompressionOff},
		PingInterval: routePing, MaxPingsOut: routePings, WriteDeadline: routeDeadline,
	}
	return o
}

// instance is a server that runs.
type instance struct {
	server *server.Server
	here   *here
	mesh   *mesh // nil without peers
}

// start starts a server and waits for the routes to all peers that answer. On error nothing is left behind.
func start(ctx context.Context, s *settings, logger *slog.Logger) (_ *instance, err error) {
	password, err := s.password()
	if err != nil {
		return nil, err
	}
	options := func(routes []*url.URL) *server.Options { return s.options(password, routes) }
	m := &mesh{
		set: s, user: url.UserPassword(username, password), login: login(s.name, s.cluster, password), log: newServerLog(logger),
	}
	m.options = options
	if s.tls != nil {
		m.tls = s.tls.config()
		m.options = func(routes []*url.URL) *server.Options {
			o := options(routes)
			o.Cluster.TLSConfig = m.tls // the same each time, else the server takes it for a change
			return o
		}
	}
	i := &instance{}
	if i.server, err = server.NewServer(m.options(nil)); err != nil {
		return nil, denied(err, "the server does not take its options")
	}
	i.server.SetLogger(m.log, false, false)
	i.server.Start()
	defer func() {
		if err != nil {
			i.stop()
		}
	}()
	if i.here, err = newHere(i.server, i.server.ID()); err != nil {
		return nil, unavailable(err, "the server does not answer")
	}
	if !s.clustered() {
		return i, nil
	}
	if err := listening(ctx, i.server, m.log.failed); err != nil {
		return nil, err
	}
	m.server, m.id, m.here = i.server, i.server.ID(), i.here
	i.mesh = m
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	return i, nil
}

// listening waits until the server accepts routes.
func listening(ctx context.Context, s *server.Server, failed <-chan error) error {
	tick := time.NewTicker(time.Millisecond) // the server tells nobody
	defer tick.Stop()
	for s.ClusterAddr() == nil {
		select {
		case err := <-failed:
			return denied(err, "Listen: the server cannot listen there; is another one running in this process or on this machine?")
		case <-tick.C:
		case <-ctx.Done():
			return unavailable(ctx.Err(), "the server does not start")
		}
	}
	return nil
}

// stop ends the server, once what it has taken is with its peers.
func (i *instance) stop() {
	if i.mesh != nil {
		i.mesh.close()
	}
	if i.here != nil {
		i.here.close()
	}
	i.server.Shutdown()
	i.server.WaitForShutdown()
}
