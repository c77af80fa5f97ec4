package embedded

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/transport"
)

// A seat is an instance of the suite with a server of its own. What the suite cuts is what connects its node to that server:
// the routes between servers are cut in tests of their own.
type seat struct {
	in     conformance.Instance
	listen string
}

// network knows the seats of each of the suite's worlds.
type network struct {
	t *testing.T

	mu     sync.Mutex
	worlds map[string][]*seat // guarded by mu

	life    context.Context
	running sync.WaitGroup
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	life, end := context.WithCancel(context.Background())
	n := &network{t: t, worlds: make(map[string][]*seat), life: life}
	t.Cleanup(func() {
		end()
		n.running.Wait()
	})
	return n
}

// seat makes an instance of the suite one of its world, and returns the settings of its server.
func (n *network) seat(in conformance.Instance) (*seat, *settings) {
	s := &seat{in: in, listen: FreeAddress(n.t)}
	n.mu.Lock()
	n.worlds[in.World] = append(n.worlds[in.World], s)
	n.mu.Unlock()
	set, err := Options{Listen: s.listen, Peers: []string{"everyone"}, Secret: in.World}.settings()
	if err != nil {
		n.t.Error(err)
	}
	return s, set
}

// cutNodes makes the suite's faults those of the connection between a node and its server.
func (n *network) cutNodes(in conformance.Instance) transport.Opener {
	s, set := n.seat(in)
	set.resolve = func(context.Context, string) ([]string, error) { return n.listens(s), nil }
	set.wire = func(server net.Conn) (net.Conn, error) {
		near, far, err := n.link(s)
		n.running.Go(func() { join(n.life, far, server) })
		return near, err
	}
	return newHost(set).open
}

// listens returns the addresses of all seats of a world.
func (n *network) listens(s *seat) (addrs []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, to := range n.worlds[s.in.World] {
		addrs = append(addrs, to.listen)
	}
	return addrs
}

// link makes a connection through a seat's link, and returns both ends; nil where the link refuses.
func (n *network) link(s *seat) (near, far net.Conn, err error) {
	l, err := new(net.ListenConfig).Listen(n.life, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithTimeout(n.life, time.Second)
	defer cancel()
	if near, err = s.in.Dial(ctx, "tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if far, err = l.Accept(); err != nil {
		_ = near.Close()
		return nil, nil, err
	}
	return near, far, nil
}

// join copies both ways until one side is closed, and closes the other one then.
func join(ctx context.Context, a, b net.Conn) {
	both := slices.DeleteFunc([]net.Conn{a, b}, func(c net.Conn) bool { return c == nil })
	end := func() {
		for _, c := range both {
			_ = c.Close()
		}
	}
	defer end()
	if len(both) < 2 {
		return
	}
	defer context.AfterFunc(ctx, end)()
	back := make(chan struct{})
	go func() {
		_, _ = io.Copy(a, b)
		end()
		close(back)
	}()
	_, _ = io.Copy(b, a)
	end()
	<-back
}

// ours are the abilities of this module's engine.
var ours = conformance.Claims(conformance.AbilityCluster, conformance.AbilityHealth)

// notHere names what cannot be exercised: a connection loses nothing while it is healthy, the engine asks nobody for the time
// of day, and a server in the process of its nodes is not restarted without them.
var notHere = []string{
	"link/lost-middle", "link/lost-tail", "link/lost-first", "link/last-words", "clock/skew", "restart/recovers", "restart/loud",
	"restart/counters", "restart/newcomer", "restart/first-words",
}

func TestConformanceEmbedded(t *testing.T) {
	n := newNetwork(t)
	conformance.Test(t, conformance.Transport(n.cutNodes, backplane.Options{ReconnectMax: 100 * time.Millisecond}),
		sized(ours, conformance.Baselines(), conformance.Strict(notHere...))...)
}

// needsStore names what needs a store, and what takes minutes unless time costs nothing.
var needsStore = []string{"user/future", "user/leave", "user/time", "user/survives", "resume/expired"}

// Hubs of three instances, each with a server of its own.
func TestHubEmbedded(t *testing.T) {
	n := newNetwork(t)
	hubtest.Test(t, hubtest.Over(conformance.Transport(n.cutNodes, backplane.Options{})), hubtest.Strict(needsStore...))
}
