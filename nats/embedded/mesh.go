package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// username is what routes log in as.
	username = "backplane"
	// every is how often peers are looked for.
	every = time.Second
	// farOff is how often an address is tried that was connected once and that nobody names any more.
	farOff = 10 * time.Second
	// apart is the most by which two servers that start together are drawn apart: two routes between them that are made
	// at the same moment may cost each other their lives, and a second.
	apart = 50 * time.Millisecond
	// stuck is how long an address that answers may have no route before the server is told anew to make one.
	stuck = 5 * time.Second
	// patience bounds how long opening a node waits for routes to peers that answer.
	patience = 3 * time.Second
	// lookup bounds the resolving of names.
	lookup = 2 * time.Second
	// most bounds the addresses that are kept although nobody names them.
	most = 256
)

// mesh keeps a route to each peer. The server alone does not: for a name with several addresses it makes one route, to
// any of them; it gives routes up that it learned of from other servers; it never says why one is refused.
//
// Its goroutine, run, owns everything but what is constant.
type mesh struct {
	set    *settings
	server *server.Server
	id     string // the server's
	user   *url.Userinfo
	login  string      // what probes send
	tls    *tls.Config // nil for none
	here   *here
	log    *serverLog
	// options makes the server's options with these routes.
	options func(routes []*url.URL) *server.Options

	peers   map[string]*peer // by "ip:port"
	routes  []string         // addresses that the server was told to connect to
	unknown map[uint64]bool  // routes, by the server's id, whose address cannot be learned

	stop context.CancelFunc
	done sync.WaitGroup
}

// peer is an address, and what is known of it.
type peer struct {
	id      string // of the server there; "" as long as it has not answered
	named   bool   // Peers, or a name in it, has it now
	ours    bool   // it is this server
	routed  time.Time
	since   time.Time // the first of the answers that found no route; zero while it has one, or does not answer
	tried   time.Time
	refused *refusal
}

// start looks for peers once, and from then on in a goroutine. It returns when there is a route to each peer that
// answers, or with what one of them refuses.
func (m *mesh) start(ctx context.Context) error {
	m.peers, m.unknown = make(map[string]*peer), make(map[uint64]bool)
	m.round(ctx)
	for _, p := range m.peers {
		if p.refused != nil { // one is enough: it is the same setting, mostly
			return denied(p.refused, "a peer refuses a route with this instance")
		}
	}
	m.await(ctx)
	if err := ctx.Err(); err != nil {
		return unavailable(err, "looking for peers")
	}
	life, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.done.Go(func() { m.run(life) })
	return nil
}

// await waits until the servers that answered can be reached: what is sent to them now arrives at all that is subscribed
// there. One that stops answering meanwhile is not waited for long.
func (m *mesh) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for addr, p := range m.peers {
		if p.id != "" && !p.ours && m.here.ask(ctx, p.id) != nil {
			m.log.refused("Peers", addr, "it answers, and there is no route to it yet")
		}
	}
}

// close ends the goroutine.
func (m *mesh) close() {
	if m.stop != nil {
		m.stop()
		m.done.Wait()
	}
}

func (m *mesh) run(ctx context.Context) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		m.round(ctx)
		for addr, p := range m.peers {
			if p.refused != nil {
				m.log.refused(p.refused.setting, addr, p.refused.text)
			}
		}
		timer.Reset(every - every/8 + rand.N(every/4)) //nolint:gosec // peers do not keep step; no secret
	}
}

// round finds out which peers there are and which of them have no route, and tells the server to make those routes.
func (m *mesh) round(ctx context.Context) {
	m.resolve(ctx)
	live := m.live()
	m.probeAll(ctx, live)
	if m.anyWithout(live) {
		pause(ctx, rand.N(apart)) //nolint:gosec // no secret
		live = m.live()
	}
	now := time.Now()
	var routes []string
	for addr, p := range m.peers {
		switch {
		case p.id == "" || p.ours: // nobody there, or us
		case live[p.id]:
			p.routed, p.since = now, time.Time{}
			if slices.Contains(m.routes, addr) {
				routes = append(routes, addr)
			}
		case p.since.IsZero():
			p.since = now
			routes = append(routes, addr)
		case now.Sub(p.since) > stuck: // left out this time, it is new to the server the next time
			p.since = time.Time{}
		default:
			routes = append(routes, addr)
		}
	}
	m.tell(ctx, m.one(routes))
	m.prune(now)
}

// one leaves one address of each server: it may have several.
func (m *mesh) one(routes []string) []string {
	slices.SortFunc(routes, func(a, b string) int { // those that the server has are kept
		if old, young := slices.Contains(m.routes, a), slices.Contains(m.routes, b); old != young {
			if old {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	seen := make(map[string]bool)
	return slices.DeleteFunc(routes, func(addr string) bool {
		id := m.peers[addr].id
		defer func() { seen[id] = true }()
		return seen[id]
	})
}

// resolve marks the addresses that Peers stands for at this moment, and those that the server has learned of by itself.
// A name that does not resolve keeps the addresses that it had: they are tried as before.
func (m *mesh) resolve(ctx context.Context) {
	named := make(map[string]bool)
	kept := false
	for _, p := range m.set.peers {
		host, port, _ := net.SplitHostPort(p)
		if ip, err := netip.ParseAddr(host); err == nil {
			named[net.JoinHostPort(ip.Unmap().String(), port)] = true
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, lookup)
		ips, err := m.set.resolve(bounded, host)
		cancel()
		kept = kept || err != nil
		for _, text := range ips {
			if ip, err := netip.ParseAddr(text); err == nil {
				named[net.JoinHostPort(ip.Unmap().String(), port)] = true
			}
		}
	}
	for addr, p := range m.peers {
		p.named = p.named && kept || named[addr]
	}
	for addr := range named {
		if m.peers[addr] == nil {
			m.peers[addr] = &peer{named: true}
		}
	}
}

// live returns the ids of the servers that there are routes with.
func (m *mesh) live() map[string]bool {
	live := make(map[string]bool)
	for _, r := range m.liveRoutes() {
		live[r.RemoteID] = true
	}
	return live
}

func (m *mesh) liveRoutes() []*server.RouteInfo {
	z, err := m.server.Routez(nil)
	if err != nil {
		return nil
	}
	return z.Routes
}

// learn adds the addresses of routes that this server has made because another one told it to, so that they are made
// again when they break.
func (m *mesh) learn() (addrs []string) {
	present := make(map[uint64]bool)
	for _, r := range m.liveRoutes() {
		present[r.Rid] = true
		known := m.unknown[r.Rid] || !r.DidSolicit || r.IP == ""
		for _, p := range m.peers {
			known = known || p.id == r.RemoteID
		}
		if !known {
			m.unknown[r.Rid] = true // is asked once: the port may be one that the peer happened to connect from
			addrs = append(addrs, net.JoinHostPort(r.IP, strconv.Itoa(r.Port)))
		}
	}
	for id := range m.unknown {
		if !present[id] {
			delete(m.unknown, id)
		}
	}
	return addrs
}

// probeAll asks the addresses that have no route, and those that are to be learned.
func (m *mesh) probeAll(ctx context.Context, live map[string]bool) {
	type result struct {
		addr  string
		hello *server.Info
		err   error
	}
	results := make(chan result)
	asked := 0
	ask := func(addr string) {
		asked++
		go func() {
			h, err := m.probe(ctx, addr)
			results <- result{addr, h, err}
		}()
	}
	now := time.Now()
	for addr, p := range m.peers {
		if p.ours || p.id != "" && live[p.id] || !p.named && now.Sub(p.tried) < farOff {
			continue
		}
		p.tried = now
		ask(addr)
	}
	for _, addr := range m.learn() {
		if m.peers[addr] == nil {
			ask(addr)
		}
	}
	for range asked {
		r := <-results
		p := m.peers[r.addr]
		if p == nil {
			if r.hello == nil || len(m.peers) >= most {
				continue
			}
			p = &peer{}
			m.peers[r.addr] = p
		}
		p.refused = nil
		if r.err == nil {
			p.id, p.ours = r.hello.ID, r.hello.ID == m.id
			continue
		}
		p.id, p.since = "", time.Time{}
		errors.As(r.err, &p.refused)
	}
}

// anyWithout reports whether a server answers that there is no route with.
func (m *mesh) anyWithout(live map[string]bool) bool {
	for _, p := range m.peers {
		if p.id != "" && !p.ours && !live[p.id] {
			return true
		}
	}
	return false
}

// tell gives the server the addresses to connect to; it connects to new ones at once.
func (m *mesh) tell(ctx context.Context, routes []string) {
	slices.Sort(routes)
	if slices.Equal(routes, m.routes) {
		return
	}
	urls := make([]*url.URL, len(routes))
	for i, addr := range routes {
		urls[i] = &url.URL{Scheme: "nats-route", Host: addr, User: m.user}
	}
	if err := m.server.ReloadOptions(m.options(urls)); err != nil {
		m.log.logger.ErrorContext(ctx, "nats/embedded: the server does not take its routes", "error", err)
		return
	}
	m.routes = routes
}

// prune forgets addresses that nobody names and that have had no route for long.
func (m *mesh) prune(now time.Time) {
	for addr, p := range m.peers {
		if !p.named && now.Sub(p.routed) > m.set.forget {
			delete(m.peers, addr)
		}
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
