package hubkit_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gobackplane/backplane/hubkit"
)

// nullConn takes everything and counts.
type nullConn struct{ wrote *atomic.Int64 }

func (c nullConn) Write(_ context.Context, batch []hubkit.Delivery) error {
	c.wrote.Add(int64(len(batch)))
	return nil
}

func (c nullConn) Close(hubkit.Reason) error { return nil }

func nullHub(tb testing.TB, clients int, groups ...string) (h *hubkit.Hub, wrote *atomic.Int64) {
	tb.Helper()
	h, err := hubkit.New(seat{bus: newBus()}, hubkit.Options{Name: "ward"})
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
		c, err := h.Connect(tb.Context(), nullConn{wrote}, hubkit.ConnectOptions{})
		if err != nil {
			tb.Fatal(err)
		}
		for _, g := range groups {
			if err := c.Join(tb.Context(), g); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return h, wrote
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

func TestFanOutAllocatesNothingForEachConnection(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector pools forget at random")
	}
	const clients = 2000
	h, wrote := nullHub(t, clients, "a", "b")
	payload := make([]byte, 128)
	for _, to := range []hubkit.Target{hubkit.ToAll(), hubkit.ToGroups("a"), hubkit.ToGroups("a", "b")} {
		fanOut(t, h, wrote, to, payload, clients) // outboxes grow once
		n := testing.AllocsPerRun(20, func() { fanOut(t, h, wrote, to, payload, clients) })
		if n > clients/10 { // the rest is for the message, and for pools that the collector emptied
			t.Errorf("%+v: %v allocations for %d connections", to, n, clients)
		}
	}
}

// TestIdleConnectionIsSmall: at most 1 KiB for an idle connection in three groups, without what the socket needs.
func TestIdleConnectionIsSmall(t *testing.T) {
	const clients, most = 10_000, 1024
	before := heap()
	h, _ := nullHub(t, clients, "a", "b", "c")
	each := (heap() - before) / clients
	t.Logf("%d bytes for each connection", each)
	if each > most {
		t.Errorf("%d bytes for each connection, at most %d", each, most)
	}
	runtime.KeepAlive(h)
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
				h, wrote := nullHub(b, clients, "a", "b")
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

// Joins of distinct groups by several goroutines do not wait for one another.
func BenchmarkJoin(b *testing.B) {
	for _, workers := range []int{1, 8} {
		b.Run(strconv.Itoa(workers), func(b *testing.B) {
			h, _ := nullHub(b, 0)
			var clients []*hubkit.Connection
			for range workers {
				c, err := h.Connect(b.Context(), nullConn{new(atomic.Int64)}, hubkit.ConnectOptions{})
				if err != nil {
					b.Fatal(err)
				}
				clients = append(clients, c)
			}
			names := make([]string, 100_000)
			for i := range names {
				names[i] = "group-" + strconv.Itoa(i)
			}
			b.ResetTimer()
			var all sync.WaitGroup
			var next atomic.Int64
			for _, c := range clients {
				all.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
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
