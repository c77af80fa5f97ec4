package embedded

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// peer is an address, and what is known of it.
type peer struct {
	id      string // of the server there; "" as long as it has not answered
	named   bool   // Peers, or a name in it, has it now
	ours    bool   // it is this server
	routed  time.Time
	since   time.Time // the first of the answers that found no route; zero while it has one, or does not answer
	tried   time.Time
	names   int // more names that the server knows it by
	refused *refusal
}

// resolve marks the addresses that Peers stands for at this moment, and those that the server has learned of by itself.
// While a name does not resolve, for another reason than that there is no such name yet, addresses stay named.
func (m *mesh) resolve(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, step)
	defer cancel()
	type answer struct {
		addrs []string
		err   error
	}
	answers := make(chan answer)
	for _, p := range m.set.peers {
		go func() {
			addrs, err := m.set.resolve(ctx, p)
			answers <- answer{addrs, err}
		}()
	}
	named := make(map[string]bool)
	var failed error
	for range m.set.peers {
		a := <-answers
		for _, addr := range a.addrs {
			named[addr] = true
		}
		if dns, ok := errors.AsType[*net.DNSError](a.err); a.err != nil && (!ok || !dns.IsNotFound) {
			failed = a.err
		}
	}
	for addr, p := range m.peers {
		p.named = p.named && failed != nil || named[addr]
	}
	for addr := range named {
		if m.peers[addr] == nil {
			m.peers[addr] = &peer{named: true}
		}
	}
	return failed
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
		p.id, p.since, p.names = "", time.Time{}, 0
		errors.As(r.err, &p.refused)
	}
}

// prune forgets addresses that nobody names and that have had no route for long.
func (m *mesh) prune(now time.Time) {
	for addr, p := range m.peers {
		if !p.named && now.Sub(p.routed) > m.set.forget {
			delete(m.peers, addr)
		}
	}
}
