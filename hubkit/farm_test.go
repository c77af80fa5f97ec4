package hubkit_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/routed"
	"github.com/gobackplane/backplane/transport"
)

// farm is three instances of one hub. It lives in a synctest bubble, so that settle waits until nothing moves, and
// the absence of a message is a fact.
type farm struct {
	t      *testing.T
	hubs   []*hubkit.Hub
	seats  []backplane.Backplane
	conns  []*conntest.Conn
	bus    *bus          // of a farm on a bus
	broker *inmem.Broker // of a farm on nodes
	nodes  []*backplane.Node
}

const instances = 3

// onBus runs a test over the bare three verbs, and gives it the faults of a bus.
func onBus(t *testing.T, o hubkit.Options, test func(*farm)) {
	t.Helper()
	t.Run("bare", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &farm{t: t, bus: newBus()}
			for i := range instances {
				f.seats = append(f.seats, seat{f.bus, backplane.NodeID(fmt.Sprintf("%016d", i))})
			}
			f.start(o)
			test(f)
			f.stop()
			if n := f.bus.subscriptions(); n != 0 {
				t.Errorf("%d subscriptions were left behind", n)
			}
		})
	})
}

// onNodes runs a test over our engine and the in-memory broker.
func onNodes(t *testing.T, o hubkit.Options, test func(*farm)) {
	t.Helper()
	onSeats(t, o, func(n *backplane.Node) backplane.Backplane { return n }, test)
}

// onSeats runs a test over nodes that the hubs see through a wrapper.
func onSeats(t *testing.T, o hubkit.Options, seat func(*backplane.Node) backplane.Backplane, test func(*farm)) {
	t.Helper()
	broker := func(f *farm) func(int) transport.Opener {
		f.broker = inmem.NewBroker()
		return func(int) transport.Opener { return f.broker.Opener() }
	}
	onServers(t, o, broker, seat, test)
}

// onCluster runs a test over nodes at servers of their own.
func onCluster(t *testing.T, o hubkit.Options, test func(*farm, *routed.Cluster)) {
	t.Helper()
	var c *routed.Cluster
	servers := func(*farm) func(int) transport.Opener {
		c = routed.New(routed.Options{Servers: instances, Latency: time.Millisecond})
		return c.Opener
	}
	onServers(t, o, servers, func(n *backplane.Node) backplane.Backplane { return n }, func(f *farm) { test(f, c) })
}

// onServers runs a test over nodes that connect to what servers returns for each.
func onServers(t *testing.T, o hubkit.Options, servers func(*farm) func(int) transport.Opener,
	seat func(*backplane.Node) backplane.Backplane, test func(*farm),
) {
	t.Helper()
	t.Run("nodes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &farm{t: t}
			opener := servers(f)
			for i := range instances {
				n, err := backplane.Open(t.Context(), opener(i), backplane.Options{})
				if err != nil {
					t.Fatal(err)
				}
				f.nodes = append(f.nodes, n)
				f.seats = append(f.seats, seat(n))
			}
			f.start(o)
			test(f)
			f.stop()
			for _, n := range f.nodes {
				if s := n.Stats(); s.Subscriptions != 0 {
					t.Errorf("%d subscriptions were left behind", s.Subscriptions)
				}
				if err := n.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	})
}

// onBoth runs a test over either.
func onBoth(t *testing.T, test func(*farm)) {
	t.Helper()
	onBus(t, hubkit.Options{Name: "ward"}, test)
	onNodes(t, hubkit.Options{Name: "ward"}, test)
}

func (f *farm) start(o hubkit.Options) {
	f.t.Helper()
	for _, s := range f.seats {
		h, err := hubkit.New(s, o)
		if err != nil {
			f.t.Fatal(err)
		}
		f.hubs = append(f.hubs, h)
	}
}

func (f *farm) stop() {
	f.t.Helper()
	for _, h := range f.hubs {
		if err := h.Close(context.Background()); err != nil {
			f.t.Error(err)
		}
		if s := h.Stats(); s.Connections != 0 || s.Groups != 0 || s.Users != 0 || s.Subscriptions != 0 {
			f.t.Errorf("left behind: %+v", s)
		}
	}
	for _, c := range f.conns {
		if err := c.Misuse(); err != nil {
			f.t.Error(err)
		}
	}
}

// client is a connection and what it records.
type client struct {
	*hubkit.Connection

	f    *farm
	sock *conntest.Conn
}

// connect connects a client to instance i and puts it into groups.
func (f *farm) connect(i int, o hubkit.ConnectOptions, groups ...string) *client {
	f.t.Helper()
	sock := conntest.New()
	c, err := f.hubs[i].Connect(f.t.Context(), sock, o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.conns = append(f.conns, sock)
	for _, g := range groups {
		if err := c.Join(f.t.Context(), g); err != nil {
			f.t.Fatal(err)
		}
	}
	return &client{Connection: c, f: f, sock: sock}
}

// member connects an anonymous client to instance i and puts it into groups.
func (f *farm) member(i int, groups ...string) *client {
	f.t.Helper()
	return f.connect(i, hubkit.ConnectOptions{}, groups...)
}

// user connects a client of a user.
func (f *farm) user(i int, id string, groups ...string) *client {
	f.t.Helper()
	return f.connect(i, hubkit.ConnectOptions{User: id}, groups...)
}

// send sends from instance i.
func (f *farm) send(i int, to hubkit.Target, payload string) {
	f.t.Helper()
	if err := f.hubs[i].Send(f.t.Context(), to, []byte(payload)); err != nil {
		f.t.Fatal(err)
	}
}

// try is send for goroutines other than the test's own.
func (f *farm) try(i int, to hubkit.Target, payload string) {
	f.t.Helper()
	if err := f.hubs[i].Send(f.t.Context(), to, []byte(payload)); err != nil {
		f.t.Error(err)
	}
}

// got waits until nothing moves and compares all payloads that the client got so far.
func (c *client) got(payloads ...string) {
	c.f.t.Helper()
	synctest.Wait()
	if got := c.sock.Payloads(); !slices.Equal(got, payloads) {
		c.f.t.Errorf("the client got %q, want %q", got, payloads)
	}
}

// ended waits until the connection has ended.
func (c *client) ended() hubkit.Reason {
	c.f.t.Helper()
	<-c.Done()
	reason, ok := c.Reason()
	if !ok {
		c.f.t.Error("the connection has ended without a reason")
	}
	return reason
}

// group is the backplane's address of a group of the hub.
func group(name string) backplane.Address { return backplane.Group(name).In("ward") }

// settled waits until nothing moves and checks how many payloads the client got so far.
func (c *client) settled(n int) {
	c.f.t.Helper()
	synctest.Wait()
	if got := c.sock.Payloads(); len(got) != n {
		c.f.t.Errorf("the client got %d payloads, want %d: %q", len(got), n, got)
	}
}

// settle waits until nothing moves.
func settle() { synctest.Wait() }

// gapWindow is the default of Options.GapWindow.
const gapWindow = 250 * time.Millisecond

// settleFor lets the bubble's clock run on, and waits until nothing moves.
func settleFor(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}
