package integration_test

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/internal/faultnet"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

// An operator may close the connections of clients.
func TestNothingIsLostSilentlyWhenNATSKillsClients(t *testing.T) {
	t.Parallel()
	server := natsserver.Start(t, natsserver.Options{})
	underFaults(t, atNATS(server.URL()), func(*farm, *rand.Rand) { server.KillClients() })
}

// seats are instances at the servers of a cluster, which are processes.
type seats struct {
	*natsserver.Processes

	mu sync.Mutex
	at [instances]string // the address that each has dialed last; guarded by mu
}

// open gives each instance a server of its own, or with all lets it go to any of them.
func (s *seats) open(all bool) opens {
	return func(i int, dial faultnet.DialFunc) transport.Opener {
		addresses := []string{s.Servers[i].Addr}
		if all {
			addresses = nil
			for _, server := range s.Servers {
				addresses = append(addresses, server.Addr)
			}
		}
		return nats.New(nats.Options{Addresses: addresses, Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err == nil {
				s.mu.Lock()
				s.at[i] = address
				s.mu.Unlock()
			}
			return conn, err
		}})
	}
}

// of is the server that an instance is at.
func (s *seats) of(i int) *natsserver.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Servers[slices.IndexFunc(s.Servers, func(p *natsserver.Process) bool { return p.Addr == s.at[i] })]
}

// serverFaults are what may happen to the server that an instance is at, while others are at the others.
var serverFaults = []struct {
	name     string
	all      bool // instances go to another one
	settings func(*backplane.Options)
	fault    func(t *testing.T, f *farm, server *natsserver.Process, i int)
}{
	{"killed and started again", false, asTheyAre, func(t *testing.T, f *farm, server *natsserver.Process, i int) {
		server.Kill()
		f.awaitDown(t, f.nodes[i])
		server.Restart()
	}},
	{"killed, and started again when nobody waits for it", true, asTheyAre, func(t *testing.T, f *farm, server *natsserver.Process, _ int) {
		server.Kill()
		f.settle(t)
		server.Restart()
	}},
	{"frozen", false, asTheyAre, func(t *testing.T, f *farm, server *natsserver.Process, i int) {
		server.Freeze()
		defer server.Thaw()
		f.awaitDown(t, f.nodes[i])
	}},
	{"frozen for longer than the member timeout", false, func(o *backplane.Options) {
		o.MemberTimeout = time.Second
	}, func(t *testing.T, f *farm, server *natsserver.Process, i int) {
		server.Freeze()
		defer server.Thaw()
		for k, n := range f.nodes {
			if k != i {
				eventually(t, "the others to miss who is there", func() bool { return len(n.Members()) < instances })
			}
		}
	}},
	// It still has what it took, and passes it on when it runs again.
	{"frozen until nobody is there any more", true, asTheyAre, func(t *testing.T, f *farm, server *natsserver.Process, i int) {
		dials := f.links[i].Dials()
		server.Freeze()
		defer server.Thaw()
		f.awaitDials(t, i, dials+1)
		f.settle(t)
	}},
	{"retired, and started again", true, asTheyAre, func(t *testing.T, f *farm, server *natsserver.Process, _ int) {
		server.LameDuck()
		select {
		case <-server.Done():
		case <-time.After(natsPatience):
			t.Fatal("the server does not end")
		}
		f.settle(t)
		server.Restart()
	}},
}

// The server of one instance fails, each time another one's.
func TestNothingIsLostSilentlyWhenANATSServerFails(t *testing.T) {
	t.Parallel()
	const failures = 6
	for _, s := range serverFaults {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			o := quick()
			s.settings(&o)
			c := &seats{Processes: natsserver.StartProcesses(t, instances, natsserver.Options{})}
			f := newFarm(t, c.open(s.all), o)
			i := 0
			f.suffer(t, failures, func(f *farm, _ *rand.Rand) {
				s.fault(t, f, c.of(i), i)
				c.Await()
				i = (i + 1) % instances
			})
			if gaps, _ := f.finish(t); gaps == 0 {
				t.Error("no gap was told at all: the faults missed")
			}
		})
	}
}

func asTheyAre(*backplane.Options) {}

// routeFaults are what may happen to the route between two servers of a cluster.
var routeFaults = []struct {
	name     string
	settings func(*backplane.Options)
	fault    func(t *testing.T, c *natsserver.Processes, f *farm, i, j int)
	gaps     bool // there must be some
}{
	// Nothing is lost: the servers keep what they could not send.
	{"held up for a moment", asTheyAre, func(t *testing.T, c *natsserver.Processes, _ *farm, i, j int) {
		c.Freeze(i, j)
		<-time.After(50 * time.Millisecond)
		c.Heal(i, j)
	}, false},
	// Members hear nothing of each other while it lasts, which is less than they bear.
	{"cut for less than a heartbeat", func(o *backplane.Options) {
		o.Heartbeat, o.MemberTimeout = 2*time.Second, 8*time.Second
	}, func(t *testing.T, c *natsserver.Processes, _ *farm, i, j int) {
		c.Cut(i, j)
		c.Heal(i, j)
		c.Await()
	}, true},
	{"cut for longer than the member timeout", func(o *backplane.Options) {
		o.MemberTimeout = time.Second
	}, func(t *testing.T, c *natsserver.Processes, f *farm, i, j int) {
		c.Cut(i, j)
		eventually(t, "each misses the other", func() bool {
			return len(f.nodes[i].Members()) == instances-1 && len(f.nodes[j].Members()) == instances-1
		})
		c.Heal(i, j)
		c.Await()
	}, true},
}

// Each node is at a server of its own, and a route between two of them fails.
func TestNothingIsLostSilentlyWhenANATSRouteFails(t *testing.T) {
	t.Parallel()
	const failures = 5
	for _, r := range routeFaults {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c := natsserver.StartProcesses(t, instances, natsserver.Options{})
			o := quick()
			r.settings(&o)
			f := newFarm(t, atNATS(c.URLs()...), o)
			f.suffer(t, failures, func(f *farm, random *rand.Rand) {
				i := random.IntN(instances)
				r.fault(t, c, f, i, (i+1)%instances)
			})
			if gaps, _ := f.finish(t); r.gaps != (gaps > 0) {
				t.Errorf("%d gaps", gaps)
			}
		})
	}
}
