package conformance_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/internal/routed"
	"github.com/gobackplane/backplane/transport"
)

// The servers of a cluster: more than the usual instances, so that a newcomer is alone on its own, and that one is far away.
const (
	servers = 5
	near    = 3
)

// clusterPatience is longer than usual: a node whose link is back publishes when every member has answered or is declared dead,
// one after the other where it was deaf itself.
const clusterPatience = 30 * time.Second

// clusters holds a cluster of servers for each world of the suite, whose instances are spread over them.
type clusters struct {
	mu      sync.Mutex
	byWorld map[string]*spread // guarded by mu
}

type spread struct {
	*routed.Cluster

	next int // the server of the next instance; guarded by clusters.mu
}

func (c *clusters) of(world string) *spread {
	if c.byWorld[world] == nil {
		options := routed.Options{Servers: servers, Latency: 5 * time.Millisecond, Jitter: 20 * time.Millisecond, PerByte: time.Nanosecond, Seed: uint64(len(c.byWorld))}
		s := &spread{Cluster: routed.New(options)}
		for far := near; far < servers; far++ {
			for other := range far {
				s.SetLatency(far, other, 50*time.Millisecond)
			}
		}
		c.byWorld[world] = s
	}
	return c.byWorld[world]
}

func (c *clusters) opener(in conformance.Instance) transport.Opener {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(in.World)
	at := s.next
	s.next = (s.next + 1) % servers
	return s.Opener(at)
}

func (c *clusters) faults(in conformance.Instance, bp backplane.Backplane) conformance.Faults {
	n, ours := bp.(*backplane.Node)
	if !ours {
		return conformance.Faults{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(in.World)
	rejoin := func() {}
	return conformance.Faults{
		Cut:       func() { s.CutNode(n.ID()) },
		Hang:      func() { s.Hang(n.ID()) },
		Deafen:    func() { s.Deafen(n.ID()) },
		Mute:      func() { s.Mute(n.ID()) },
		Lose:      func() { s.Lose(n.ID()) },
		Partition: func() { rejoin = s.Part(n.ID()) },
		Heal: func() {
			rejoin()
			s.HealNode(n.ID())
		},
	}
}

// each does something to all servers of a world: a cluster that is restarted one server at a time is never gone.
func (c *clusters) each(do func(*routed.Cluster, int)) func(context.Context, string) error {
	return func(_ context.Context, world string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range servers {
			do(c.of(world).Cluster, i)
		}
		return nil
	}
}

// Instances on different servers of a cluster, which learn of each other's subscriptions late.
func TestCluster(t *testing.T) {
	all := &clusters{byWorld: map[string]*spread{}}
	conformance.Test(t, conformance.Transport(all.opener, backplane.Options{}),
		conformance.Inject(all.faults), conformance.Broker(all.each((*routed.Cluster).Stop), all.each((*routed.Cluster).Start)),
		conformance.Patience(clusterPatience), conformance.Strict("link/slow", "link/torn", "clock/skew", "open/fails-clean"),
		conformance.Claims(conformance.AbilityCluster, conformance.AbilityHealth), conformance.Baselines(), conformance.Bubble(),
		conformance.Subject("cluster", ""))
}
