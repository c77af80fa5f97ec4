package embedded

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net/url"
	"slices"
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
	// stuck is how long an address that answers may have no route before the server is told anew to make one. It tries
	// again by itself after a second, if it tries.
	stuck = 1500 * time.Millisecond
	// step bounds two steps: to resolve names, and to ask the addresses. What remains of an attempt to connect, which has
	// three seconds by default, is there to wait for the routes.
	step = 750 * time.Millisecond
	// anew is how often the server is told anew to make a route while a node waits for it.
	anew = 150 * time.Millisecond
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
	named   []string         // under these names
	unknown map[uint64]bool  // routes, by the server's id, whose address cannot be learned

	stop context.CancelFunc
	done sync.WaitGroup
}

// start looks for peers once, and from then on in a goroutine. It returns when there is a route to each peer that
// answers, or with what one of them refuses.
func (m *mesh) start(ctx context.Context) error {
	m.peers, m.unknown = make(map[string]*peer), make(map[uint64]bool)
	err := m.round(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return unavailable(err, "Peers: not all names can be resolved now")
	}
	for _, p := range m.peers {
		if p.refused != nil { // one is enough: it is the same setting, mostly
			return denied(p.refused, "a peer refuses a route with this instance")
		}
	}
	m.await(ctx)
	if err := ctx.Err(); err != nil {
		return unavailable(err, "Peers: they were looked for in vain")
	}
	life, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.done.Go(func() { m.run(life) })
	return nil
}

// await waits until the servers that answered can be reached: what is sent to them now arrives at all that is subscribed
// there. One that stops answering meanwhile is not waited for long.
func (m *mesh) await(ctx context.Context) {
	patience := step
	if deadline, ok := ctx.Deadline(); ok { // the rest is for the node's own connection
		patience = max(step, time.Until(deadline)*3/4)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for addr, p := range m.peers {
		if p.id != "" && !p.ours && !m.reach(ctx, p.id) {
			m.log.refused("Peers", addr, "it answers, and there is no route to it yet")
		}
	}
}

// reach asks a server until it answers.
func (m *mesh) reach(ctx context.Context, id string) bool {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, anew+rand.N(anew)) //nolint:gosec // no secret
		err := m.here.ask(attempt, id)
		cancel()
		if err == nil {
			return true
		}
		m.again(ctx)
	}
	return false
}

// close ends the goroutine, and waits until each peer has got what was sent to it: the server drops that where it is stopped
// while it writes. A peer that does not answer is not waited for long.
func (m *mesh) close() {
	if m.stop == nil {
		return
	}
	m.stop()
	m.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), step)
	defer cancel()
	var asked sync.WaitGroup
	for id := range m.live() {
		asked.Go(func() { _ = m.here.ask(ctx, id) })
	}
	asked.Wait()
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
		_ = m.round(ctx) // a name that does not resolve now does so later
		for addr, p := range m.peers {
			if p.refused != nil {
				m.log.refused(p.refused.setting, addr, p.refused.text)
			}
		}
		timer.Reset(every - every/8 + rand.N(every/4)) //nolint:gosec // peers do not keep step; no secret
	}
}

// again tells the server anew to make the routes that are missing: those of two servers that made one to each other at the
// same moment may both be gone, and it would wait for a second.
func (m *mesh) again(ctx context.Context) {
	live := m.live()
	for _, addr := range m.routes {
		if !live[m.peers[addr].id] {
			m.urge(addr)
		}
	}
	m.tell(ctx, m.routes)
}

// urge makes the next tell name an address once more: the server connects to what is new to it. It would close a route, one
// made at this very moment too, if a name were taken back.
func (m *mesh) urge(addr string) {
	const most = 4
	p := m.peers[addr]
	p.names = min(p.names+1, most)
}

// round finds out which peers there are and which of them have no route, and tells the server to make those routes. Its
// error is that of a name that could not be resolved.
func (m *mesh) round(ctx context.Context) error {
	err := m.resolve(ctx)
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
		default:
			routes = append(routes, addr)
			if p.since.IsZero() {
				p.since = now
			}
			if now.Sub(p.since) > stuck {
				m.urge(addr)
			}
		}
	}
	m.tell(ctx, m.one(routes))
	m.prune(now)
	return err
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
	var names []string
	var urls []*url.URL
	for _, addr := range routes {
		for k := range m.peers[addr].names + 1 {
			u := &url.URL{Scheme: "nats-route", Host: addr, User: m.user, Path: strings.Repeat("/", k)} // it goes by the host
			names, urls = append(names, u.String()), append(urls, u)
		}
	}
	if slices.Equal(names, m.named) {
		return
	}
	if err := m.server.ReloadOptions(m.options(urls)); err != nil {
		m.log.logger.ErrorContext(ctx, "nats/embedded: the server does not take its routes", "error", err)
		return
	}
	m.routes, m.named = slices.Clone(routes), names
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
