package integration_test

import (
	"math/rand/v2"
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

// Each of two servers in turn retires, with notice, and comes back: the nodes that it served go to the other one.
func TestNothingIsLostSilentlyWhenNATSServersRetire(t *testing.T) {
	t.Parallel()
	const retirements = 4
	servers := natsserver.StartProcesses(t, 2, natsserver.Options{})
	f := newFarm(t, func(_ int, dial faultnet.DialFunc) transport.Opener {
		return nats.New(nats.Options{Addresses: []string{servers[0].Addr, servers[1].Addr}, Dialer: dial})
	}, quick())
	turn := 0
	f.suffer(t, retirements, func(f *farm, _ *rand.Rand) {
		server := servers[turn%len(servers)]
		turn++
		server.LameDuck()
		select {
		case <-server.Done():
		case <-time.After(natsPatience):
			t.Fatal("the server does not end")
		}
		f.settle(t)
		server.Restart()
	})
	f.finish(t)
}

// routeFaults are what may happen to the route between two servers of a cluster.
var routeFaults = []struct {
	name     string
	settings func(*backplane.Options)
	fault    func(t *testing.T, c *natsserver.Cluster, f *farm, i, j int)
	gaps     bool // there must be some
}{
	// Nothing is lost: the servers keep what they could not send.
	{"held up for a moment", func(*backplane.Options) {}, func(t *testing.T, c *natsserver.Cluster, _ *farm, i, j int) {
		c.Freeze(i, j)
		<-time.After(50 * time.Millisecond)
		c.Heal(i, j)
	}, false},
	// Members hear nothing of each other while it lasts, which is less than they bear.
	{"cut for less than a heartbeat", func(o *backplane.Options) {
		o.Heartbeat, o.MemberTimeout = 2*time.Second, 8*time.Second
	}, func(t *testing.T, c *natsserver.Cluster, _ *farm, i, j int) {
		c.Cut(i, j)
		c.Heal(i, j)
		c.Await()
	}, true},
	{"cut for longer than the member timeout", func(o *backplane.Options) {
		o.MemberTimeout = time.Second
	}, func(t *testing.T, c *natsserver.Cluster, f *farm, i, j int) {
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
			c := natsserver.StartCluster(t, instances, natsserver.Options{})
			o := quick()
			r.settings(&o)
			f := newFarm(t, atNATS(c.Servers[0].URL(), c.Servers[1].URL(), c.Servers[2].URL()), o)
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
