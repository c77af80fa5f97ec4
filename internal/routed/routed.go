// Package routed is a broker of several servers in one process, for tests of what a cluster gets wrong. It behaves as a
// NATS cluster does towards its clients:
//
//   - A node is connected to one server. That server knows the node's subscriptions at once, confirms them, and hands
//     over at once what is published to it.
//   - Servers are joined by routes, one between any two, and a frame travels over one of them at most. A server sends
//     only what the other side has asked for: the first subscription to a channel on a server is announced to all
//     others, and the end of the last one.
//   - Each direction of a route is a queue with a latency: announcements and frames arrive in the order in which
//     they were sent. So a subscription and then a frame of one node arrive in that order at every other server.
//
// A confirmed subscription is thus unknown to the other servers for the time that its announcement travels. What is
// published to them meanwhile is lost, and nobody is told.
//
// Time is the clock's, so in a testing/synctest bubble a latency costs nothing. The package starts no goroutine but those
// of timers, and after Close of all nodes nothing of it calls anybody.
package routed

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// Options configure a cluster.
type Options struct {
	Servers int           // how many; one is no cluster
	Latency time.Duration // of each direction of a route, see Cluster.SetLatency
	Jitter  time.Duration // up to which more is drawn for each frame and announcement; what is behind waits as well
	// PerByte is how long a byte is on a route beside others. Without it all that was published at one moment arrives in one moment,
	// in which no handler runs.
	PerByte time.Duration
	Seed    uint64           // of all that is drawn
	Limits  transport.Limits // what nodes are told; nothing is checked
}

// Cluster is some servers and their routes. Its methods may be called concurrently. What they do is in force when they
// return. A server is a number from 0; one that there is not is a panic.
type Cluster struct {
	options Options // constant

	// mu is held while frames are handed to sinks: no method of a sink waits for a call of a transport.
	mu      sync.Mutex
	draws   *rand.Rand // guarded by mu, as is all below
	servers []*server
	nodes   map[transport.NodeID]*node
	heard   map[transport.NodeID]map[string]int
	missed  map[string]int
}

// server is what one server knows. All is guarded by Cluster.mu.
type server struct {
	c       *Cluster
	stopped bool
	local   map[string][]*node // who is subscribed here; no empty entries
	ways    []*way             // to each other server
}

// New returns a cluster without nodes whose routes are up.
func New(o Options) *Cluster {
	c := &Cluster{
		options: o,
		draws:   rand.New(rand.NewPCG(o.Seed, 0)), //nolint:gosec // it is to repeat from its seed
		nodes:   map[transport.NodeID]*node{},
		heard:   map[transport.NodeID]map[string]int{},
		missed:  map[string]int{},
	}
	for range o.Servers {
		s := &server{c: c, local: map[string][]*node{}}
		for _, other := range c.servers {
			out := &way{from: s, to: other, latency: o.Latency, wanted: map[string]bool{}}
			in := &way{from: other, to: s, latency: o.Latency, wanted: map[string]bool{}, back: out}
			out.back = in
			s.ways, other.ways = append(s.ways, out), append(other.ways, in)
		}
		c.servers = append(c.servers, s)
	}
	return c
}

// Opener returns what backplane.Open takes, for nodes that connect to one server.
func (c *Cluster) Opener(at int) transport.Opener {
	home := c.servers[at]
	return func(config transport.Config) (transport.Transport, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.nodes[config.Node] != nil {
			return nil, fmt.Errorf("%w: node %q is in this cluster already", transport.ErrInvalidOption, config.Node)
		}
		n := &node{c: c, id: config.Node, home: home, changed: make(chan struct{})}
		c.nodes[n.id], c.heard[n.id] = n, map[string]int{}
		return n, nil
	}
}

// Heard returns how many frames were handed to a node, by channel, closed or not.
func (c *Cluster) Heard(id transport.NodeID) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.heard[id])
}

// Missed returns how many frames did not get to a server on which their channel was subscribed, by channel: its
// announcement was still under way, or the route was cut.
func (c *Cluster) Missed() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.missed)
}

// publish hands a frame to the subscribers of a server and sends it to the servers that asked for it.
func (s *server) publish(channel string, data []byte) {
	it := item{channel: channel, data: slices.Clip(slices.Clone(data))} // one copy for all: nobody's append can reach into another's view
	for _, n := range s.c.nodes {
		if n.faults.lose {
			it.lost = append(it.lost, n)
		}
	}
	s.deliver(it)
	for _, w := range s.ways {
		switch {
		case w.up() && w.wanted[channel]:
			w.send(it)
		case len(w.to.local[channel]) > 0:
			s.c.missed[channel]++
		}
	}
}

// deliver hands a frame to the subscribers of a server.
func (s *server) deliver(it item) {
	for _, n := range s.local[it.channel] {
		if !slices.Contains(it.lost, n) {
			n.receive(it.channel, it.data)
		}
	}
}

// join subscribes a node, and announces it if it is the first.
func (s *server) join(n *node, channel string) {
	s.local[channel] = append(s.local[channel], n)
	if len(s.local[channel]) == 1 {
		s.announce(item{announces: true, channel: channel, wanted: true})
	}
}

// part is the reverse of join.
func (s *server) part(n *node, channel string) {
	s.local[channel] = slices.DeleteFunc(s.local[channel], func(other *node) bool { return other == n })
	if len(s.local[channel]) == 0 {
		delete(s.local, channel)
		s.announce(item{announces: true, channel: channel})
	}
}

func (s *server) announce(it item) {
	for _, w := range s.ways {
		if w.up() {
			w.send(it)
		}
	}
}

// Stop ends a server as a killed process would: its nodes' links are down, its routes are cut, and connecting is refused until
// [Cluster.Start].
func (c *Cluster) Stop(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[at]
	s.stopped = true
	for _, w := range s.ways {
		w.clear()
		w.back.clear()
	}
	for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
		if n := c.nodes[id]; n.conn != nil && n.conn.at == s {
			n.hangUp(errStopped)
		}
	}
}

// Start starts a stopped server. It knows nothing of the others' subscriptions until they have announced them; nodes may
// connect and publish at once.
func (c *Cluster) Start(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[at]
	if !s.stopped {
		return
	}
	s.stopped = false
	for _, w := range s.ways {
		if w.up() {
			w.introduce()
			w.back.introduce()
		}
	}
}
