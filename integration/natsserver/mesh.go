package natsserver

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/integration/certificates"
	"github.com/gobackplane/backplane/integration/serverprocess"
)

// mesh connects the servers of a cluster, each with each. Every two servers have one way to each other, through a relay that
// can be cut: they are told no other address, and NATS passes a message on over one route only, so nothing gets around a cut.
type mesh struct {
	t       testing.TB
	servers []member
	relays  map[pair]*relay

	mu  sync.Mutex
	off map[pair]bool // cut or frozen; guarded by mu
}

// member is a server of a cluster, in this process or one of its own.
type member interface {
	common() *settings
	onFreePort(start func() error)
	TryRestart() error
	runs() bool
	connect() (*natsgo.Conn, error)
	current() bool // its JetStream has all that the cluster's has, as far as it can be known
}

// pair are two servers by number, the lower first: it connects to the other.
type pair [2]int

// start starts n servers, each of which one makes, and returns when each has its routes to all others, so that what one of them takes
// is delivered at all. Where they speak TLS they have the same certificates.
func (m *mesh) start(t testing.TB, n int, o Options, one func() member) {
	t.Helper()
	m.t, m.relays, m.off = t, map[pair]*relay{}, map[pair]bool{}
	t.Cleanup(func() { // after the servers
		for _, r := range m.relays {
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
			m.relays[pair{i, j}] = r
		}
	}
	for range n {
		s := one()
		if o.TLS {
			s.common().useCertificates(certs)
		}
		m.servers = append(m.servers, s)
	}
	for i := n - 1; i >= 0; i-- { // those it connects to run already: else it would wait a second before it tries again
		s := m.servers[i]
		s.onFreePort(func() error {
			addr, err := serverprocess.FreeAddr()
			if err != nil {
				return err
			}
			for p, r := range m.relays {
				if p[1] == i {
					r.aim(addr)
				}
			}
			s.common().cluster = m.config(i, addr)
			return s.TryRestart()
		})
	}
	m.Await()
}

// URLs are what nats.URL takes to connect to each of the servers, see URL.
func (m *mesh) URLs() (urls []string) {
	for _, s := range m.servers {
		urls = append(urls, s.common().URL())
	}
	return urls
}

// config makes server i, which listens for others at addr, a member of the cluster.
func (m *mesh) config(i int, addr string) string {
	var routes []string
	for p, r := range m.relays {
		if p[0] == i {
			routes = append(routes, strconv.Quote("nats-route://"+r.addr))
		}
	}
	if m.servers[i].common().opts.JetStream { // it counts the servers that are configured, and does not start alone
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
func (m *mesh) Cut(i, j int) { m.fail(i, j, func(r *relay) { r.link.Cut() }) }

// Freeze makes the route between two servers swallow what is sent, without closing its connections, until Heal: then what
// was swallowed arrives, unless a server gave the connection up.
func (m *mesh) Freeze(i, j int) { m.fail(i, j, func(r *relay) { r.link.Blackhole() }) }

// Heal ends what Cut or Freeze did. The servers connect anew by themselves, a second later: see Await.
func (m *mesh) Heal(i, j int) {
	p := pair{min(i, j), max(i, j)}
	m.relays[p].link.Heal()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.off, p)
}

func (m *mesh) fail(i, j int, how func(*relay)) {
	p := pair{min(i, j), max(i, j)}
	m.mu.Lock()
	m.off[p] = true
	m.mu.Unlock()
	how(m.relays[p])
}

// again starts all servers again.
func (m *mesh) again() error {
	for _, s := range slices.Backward(m.servers) { // each connects to those behind it
		if err := s.TryRestart(); err != nil {
			return err
		}
	}
	return m.TryAwait()
}

// Await returns when every server that runs has its routes to all others that run and are not cut off, and they know each
// other's interest: all subscriptions that were there at the call.
func (m *mesh) Await() {
	m.t.Helper()
	if err := m.TryAwait(); err != nil {
		m.t.Fatalf("natsserver: the cluster does not come together: %v", err)
	}
}

// TryAwait is Await for goroutines that must not end the test.
func (m *mesh) TryAwait() error {
	deadline := time.Now().Add(serverprocess.StartTimeout)
	for i, s := range m.servers {
		if s.common().opts.JetStream && s.runs() {
			if err := awaitJetStream(s, deadline); err != nil {
				return fmt.Errorf("server %d: %w", i, err)
			}
		}
		for j, to := range m.servers {
			m.mu.Lock()
			off := i == j || m.off[pair{min(i, j), max(i, j)}]
			m.mu.Unlock()
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
func awaitInterest(from, to member, deadline time.Time) error {
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
	return fmt.Errorf("no interest after %v", serverprocess.StartTimeout)
}

// awaitJetStream returns when the servers have elected who leads their JetStream, and this one takes orders.
func awaitJetStream(s member, deadline time.Time) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	for time.Now().Before(deadline) {
		const pace = 100 * time.Millisecond
		_, err = conn.Request("$JS.API.INFO", nil, pace)
		if err == nil && s.current() {
			return nil
		}
	}
	return fmt.Errorf("no JetStream after %v: %w", serverprocess.StartTimeout, err)
}
