package hubkit_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// nullConn takes everything and counts.
type nullConn struct{ wrote *atomic.Int64 }

func (c nullConn) Write(_ context.Context, batch []hubkit.Delivery) error {
	c.wrote.Add(int64(len(batch)))
	return nil
}

func (c nullConn) Close(hubkit.Reason) error { return nil }

// nullHub is a hub over a backplane, by default one that costs nothing worth mentioning, with clients in groups.
func nullHub(tb testing.TB, bp backplane.Backplane, clients int, groups ...string) (h *hubkit.Hub, wrote *atomic.Int64) {
	tb.Helper()
	if bp == nil {
		bp = seat{bus: newBus()}
	}
	h, err := hubkit.New(bp, hubkit.Options{Name: "ward"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	wrote = new(atomic.Int64)
	for range clients {
		joined(tb, h, nullConn{wrote}, "", groups...)
	}
	return h, wrote
}

// joined connects a client and puts it into groups.
func joined(tb testing.TB, h *hubkit.Hub, conn hubkit.Conn, user string, groups ...string) *hubkit.Connection {
	tb.Helper()
	c, err := h.Connect(tb.Context(), conn, hubkit.ConnectOptions{User: user})
	if err != nil {
		tb.Fatal(err)
	}
	for _, g := range groups {
		if err := c.Join(tb.Context(), g); err != nil {
			tb.Fatal(err)
		}
	}
	return c
}

// memNode is a node over a broker of its own.
func memNode(tb testing.TB) *backplane.Node {
	tb.Helper()
	n, err := backplane.Open(tb.Context(), inmem.NewBroker().Opener(), backplane.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = n.Close(context.Background()) })
	return n
}

// silence is a backplane that takes no memory: what is measured over it is the hub's own.
type silence struct{}

func (silence) Publish(context.Context, backplane.Address, []byte) error { return nil }
func (silence) Close(context.Context) error                              { return nil }

func (silence) Subscribe(context.Context, backplane.Address, backplane.Handler) (backplane.Subscription, error) {
	return silence{}, nil
}

// fanOut sends one message and waits until all have it.
func fanOut(tb testing.TB, h *hubkit.Hub, wrote *atomic.Int64, to hubkit.Target, payload []byte, clients int64) {
	tb.Helper()
	want := wrote.Load() + clients
	if err := h.Send(tb.Context(), to, payload); err != nil {
		tb.Fatal(err)
	}
	for wrote.Load() < want {
		runtime.Gosched()
	}
}

// What a fan-out allocates is for the message: not one allocation more for 10,000 connections than for ten.
func TestFanOutAllocatesNothingForEachConnection(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector pools forget at random")
	}
	for name, over := range map[string]struct {
		bp   func() backplane.Backplane
		most float64
	}{
		"bus":   {func() backplane.Backplane { return nil }, 16},
		"inmem": {func() backplane.Backplane { return memNode(t) }, 40}, // of which some 15 are the engine's and the broker's
	} {
		t.Run(name, func(t *testing.T) {
			payload := make([]byte, 128)
			for _, clients := range []int64{10, 10_000} {
				h, wrote := nullHub(t, over.bp(), int(clients), "a", "b")
				for _, to := range []hubkit.Target{hubkit.ToAll(), hubkit.ToGroups("a"), hubkit.ToGroups("a", "b")} {
					n := over.most + 1
					for range 5 { // outboxes, the runtime's goroutines and pools grow in the first
						n = min(n, testing.AllocsPerRun(10, func() { fanOut(t, h, wrote, to, payload, clients) }))
					}
					t.Logf("%v allocations for %d connections", n, clients)
					if n > over.most {
						t.Errorf("%+v: %v allocations for %d connections, at most %v", to, n, clients, over.most)
					}
				}
			}
		})
	}
}

// An idle connection takes at most 1 KiB, without what the socket needs: in three groups, with an id of 33 bytes, and where
// it has a user with an id of 13 bytes that nobody else has. Groups have names of 13 bytes and ten members here each, or all.
// What its subscriptions cost the engine comes on top, and is logged; TestFigureHundredThousandSubscriptions bounds it.
func TestIdleConnectionIsSmall(t *testing.T) {
	const clients, most, each = 20_000, 1024, 3
	for name, row := range map[string]struct {
		users  bool
		groups int
	}{
		"anonymous, the same groups": {false, each},
		"users, the same groups":     {true, each},
		"anonymous, groups of ten":   {false, each * clients / 10},
		"users, groups of ten":       {true, each * clients / 10},
	} {
		t.Run(name, func(t *testing.T) {
			measure := func(bp backplane.Backplane) int64 {
				h, _ := nullHub(t, bp, 0)
				before := heap()
				var all sync.WaitGroup
				const workers = 100 // over a node they are subscribed together
				for w := range workers {
					all.Go(func() {
						for i := w; i < clients; i += workers {
							user, groups := "", make([]string, each)
							if row.users {
								user = "nurse-" + strconv.Itoa(1_000_000+i)
							}
							for k := range groups {
								groups[k] = "group-" + strconv.Itoa(1_000_000+(each*i+k)%row.groups)
							}
							joined(t, h, nullConn{new(atomic.Int64)}, user, groups...)
						}
					})
				}
				all.Wait()
				took := (heap() - before) / clients
				runtime.KeepAlive(h)
				return took
			}
			own := measure(silence{})
			t.Logf("%d bytes for each connection; with the engine and the broker in memory %d", own, measure(memNode(t)))
			if own > most {
				t.Errorf("%d bytes for each connection, at most %d", own, most)
			}
		})
	}
}

// TestBurstIsForgotten: an outbox that was full once is as small as before when it is idle again.
func TestBurstIsForgotten(t *testing.T) {
	const clients, burst, most = 1000, 200, 1024
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		gate := make(gateConn)
		for range clients {
			if _, err := f.hubs[0].Connect(f.t.Context(), gate, hubkit.ConnectOptions{}); err != nil {
				f.t.Fatal(err)
			}
		}
		before := heap()
		for range burst {
			f.send(1, hubkit.ToAll(), "x")
		}
		close(gate)
		settle()
		if s := f.hubs[0].Stats(); s.Delivered != clients*burst || s.Connections != clients {
			f.t.Fatalf("stats %+v", s)
		}
		if each := (heap() - before) / clients; each > most {
			f.t.Errorf("a burst left %d bytes for each connection, at most %d", each, most)
		}
	})
}

// gateConn lets writes through once it is closed.
type gateConn chan struct{}

func (c gateConn) Write(context.Context, []hubkit.Delivery) error {
	<-c
	return nil
}

func (c gateConn) Close(hubkit.Reason) error { return nil }

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkFanOut(b *testing.B) {
	for _, clients := range []int{100, 10_000} {
		for name, to := range map[string]hubkit.Target{"group": hubkit.ToGroups("a"), "all": hubkit.ToAll(), "two": hubkit.ToGroups("a", "b")} {
			b.Run(name+"/"+strconv.Itoa(clients), func(b *testing.B) {
				h, wrote := nullHub(b, nil, clients, "a", "b")
				payload := make([]byte, 128)
				b.ReportAllocs()
				for b.Loop() {
					fanOut(b, h, wrote, to, payload, int64(clients))
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*clients), "ns/delivery")
			})
		}
	}
}

// BenchmarkJoin is joins of distinct groups by one goroutine and by eight, over the in-memory broker. The first members of a
// group subscribe it: the engine gathers them, and its supervisor asks the broker. Later ones meet nobody. What must hold
// between one and eight is in TestFigureJoinsMeetNoGlobalLock.
func BenchmarkJoin(b *testing.B) {
	for _, first := range []bool{true, false} {
		for _, workers := range []int{1, 8} {
			b.Run(map[bool]string{true: "first/", false: "later/"}[first]+strconv.Itoa(workers), func(b *testing.B) {
				h, _ := nullHub(b, memNode(b), 0)
				names := make([]string, 100_000)
				for i := range names {
					names[i] = "group-" + strconv.Itoa(i)
				}
				if !first {
					joined(b, h, nullConn{new(atomic.Int64)}, "", names...)
				}
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				var next atomic.Int64
				for range workers {
					c := joined(b, h, nullConn{new(atomic.Int64)}, "")
					all.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							name := names[i%int64(len(names))]
							if err := c.Join(b.Context(), name); err != nil {
								b.Error(err)
								return
							}
							if err := c.Leave(b.Context(), name); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}
