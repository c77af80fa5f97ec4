package natsserver

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/integration/certificates"
)

// Cluster is a full mesh of servers in this process. Every two servers have one way to each other, through a relay that can
// be cut: they are told no other address, and NATS passes a message on over one route only, so nothing gets around a cut.
type Cluster struct {
	Servers []*Server

	t      testing.TB
	relays map[pair]*relay

	mu  sync.Mutex
	off map[pair]bool // cut or frozen; guarded by mu
}

// pair are two servers by number, the lower first: it connects to the other.
type pair [2]int

// StartCluster starts n servers and returns when each has its routes to all others, so that what one of them takes is
// delivered at all. They stop when the test ends. All have the same options.
func StartCluster(t testing.TB, n int, o Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t, relays: map[pair]*relay{}, off: map[pair]bool{}}
	t.Cleanup(func() { // after the servers
		for _, r := range c.relays {
			r.close()
		}
	})
	var certs certificates.Files
	if o.TLS {
		certs = certificates.Make(t)
	}
	for j := range n {
		for i := range j {
			r, err := newRelay()
			if err != nil {
				t.Fatalf("natsserver: %v", err)
			}
			c.relays[pair{i, j}] = r
		}
	}
	c.Servers = make([]*Server, n)
	for i := n - 1; i >= 0; i-- { // those it connects to run already: else it would wait a second before it tries again
		s := newServer(t, o)
		if o.TLS {
			s.useCertificates(certs)
		}
		c.Servers[i] = s
		s.onFreePort(func() error {
			addr, err := freeAddr()
			if err != nil {
				return err
			}
			for p, r := range c.relays {
				if p[1] == i {
					r.aim(addr)
				}
			}
			s.cluster = c.config(i, addr)
			return s.launch()
		})
	}
	c.Await()
	return c
}

// config makes server i, which listens for others at addr, a member of the cluster.
func (c *Cluster) config(i int, addr string) string {
	var routes []string
	for p, r := range c.relays {
		if p[0] == i {
			routes = append(routes, strconv.Quote("nats-route://"+r.addr))
		}
	}
	if c.Servers[i].opts.JetStream { // it counts the servers that are configured, and does not start alone
		for k := range i {
			routes = append(routes, strconv.Quote(fmt.Sprintf("nats-route://127.0.0.1:%d", 1+k))) // nobody is there
		}
	}
	// Servers tell each other where the others are; nobody listens where this one says that it is, so that there is no
	// second way to it. Clients are not told of other servers either.
	return fmt.Sprintf(`cluster { name: "test", listen: %q, advertise: "127.0.0.1:1", no_advertise: true, routes: [%s] }`,
		addr, strings.Join(routes, ", "))
}

// Cut breaks the route between two servers: its connections are reset and new ones refused, until Heal.
func (c *Cluster) Cut(i, j int) { c.fail(i, j, func(r *relay) { r.link.Cut() }) }

// Freeze makes the route between two servers swallow what is sent, without closing its connections, until Heal: then what
// was swallowed arrives, unless a server gave the connection up.
func (c *Cluster) Freeze(i, j int) { c.fail(i, j, func(r *relay) { r.link.Blackhole() }) }

// Heal ends what Cut or Freeze did. The servers connect anew by themselves, a second later: see [Cluster.Await].
func (c *Cluster) Heal(i, j int) {
	p := pair{min(i, j), max(i, j)}
	c.relays[p].link.Heal()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.off, p)
}

func (c *Cluster) fail(i, j int, how func(*relay)) {
	p := pair{min(i, j), max(i, j)}
	c.mu.Lock()
	c.off[p] = true
	c.mu.Unlock()
	how(c.relays[p])
}

// Await returns when every server that runs has its routes to all others that run and are not cut off, and they know each
// other's interest: all subscriptions that were there at the call.
func (c *Cluster) Await() {
	c.t.Helper()
	if err := c.TryAwait(); err != nil {
		c.t.Fatalf("natsserver: the cluster does not come together: %v", err)
	}
}

// TryAwait is Await for goroutines that must not end the test.
func (c *Cluster) TryAwait() error {
	deadline := time.Now().Add(startTimeout)
	for i, s := range c.Servers {
		if s.opts.JetStream && s.runs() {
			if err := awaitJetStream(s, deadline); err != nil {
				return fmt.Errorf("server %d: %w", i, err)
			}
		}
		for j, to := range c.Servers {
			c.mu.Lock()
			off := i == j || c.off[pair{min(i, j), max(i, j)}]
			c.mu.Unlock()
			if off || !s.runs() || !to.runs() {
				continue
			}
			if err := awaitInterest(s, to, deadline); err != nil {
				return fmt.Errorf("from server %d to server %d: %w", i, j, err)
			}
		}
	}
	return nil
}

// awaitInterest returns when a message that one server takes reaches a new subscription at the other. A server tells another
// of the subscriptions of an account in their order, over one connection: so it has then told all older ones.
func awaitInterest(from, to *Server, deadline time.Time) error {
	ear, err := to.connect()
	if err != nil {
		return err
	}
	defer ear.Close()
	mouth, err := from.connect()
	if err != nil {
		return err
	}
	defer mouth.Close()
	subject := natsgo.NewInbox()
	sub, err := ear.SubscribeSync(subject)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for time.Now().Before(deadline) {
		if err := mouth.Publish(subject, nil); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		const pace = 5 * time.Millisecond
		if _, err := sub.NextMsg(pace); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no interest after %v", startTimeout)
}

// awaitJetStream returns when the servers have elected who leads their JetStream, and this one takes orders.
func awaitJetStream(s *Server, deadline time.Time) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	for time.Now().Before(deadline) {
		const pace = 100 * time.Millisecond
		_, err = conn.Request("$JS.API.INFO", nil, pace)
		if err == nil && s.Running().JetStreamIsCurrent() {
			return nil
		}
	}
	return fmt.Errorf("no JetStream after %v: %w", startTimeout, err)
}

// connect connects to a server without the network, as a user with all rights.
func (s *Server) connect() (*natsgo.Conn, error) {
	s.mu.Lock()
	r := s.running
	s.mu.Unlock()
	if r == nil {
		return nil, errEnded
	}
	as := natsgo.UserInfo(operator, operator)
	if s.opts.Token != "" {
		as = natsgo.Token(s.opts.Token)
	}
	conn, err := natsgo.Connect("", natsgo.InProcessServer(r), natsgo.NoReconnect(), as)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// runs reports whether the server was started and not stopped.
func (s *Server) runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running != nil
}
