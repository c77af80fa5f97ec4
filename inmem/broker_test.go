package inmem

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/transport"
)

type nullSink struct{ frames int }

func (s *nullSink) Frame(transport.Link, string, []byte)    { s.frames++ }
func (*nullSink) Gap(transport.Link, []string, bool, error) {}
func (*nullSink) Down(transport.Link, error)                {}

func newClient(tb testing.TB, b *Broker, id string, channels ...string) (transport.Transport, *nullSink) {
	tb.Helper()
	tr, err := b.Opener()(transport.Config{Node: transport.NodeID(id)})
	if err != nil {
		tb.Fatal(err)
	}
	sink := &nullSink{}
	tr.Start(sink)
	if err = tr.Connect(tb.Context(), 0); err != nil {
		tb.Fatal(err)
	}
	if errs := tr.Subscribe(tb.Context(), 0, channels); errs != nil {
		tb.Fatal(errs)
	}
	return tr, sink
}

// However a node goes, the broker remembers nothing of it.
func TestNothingIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker()
		channels := []string{"one", "two", "three"}
		for _, leave := range []func(*Broker, transport.Transport){
			func(_ *Broker, tr transport.Transport) { tr.Unsubscribe(t.Context(), 0, channels) },
			func(_ *Broker, tr transport.Transport) { tr.Disconnect(0) },
			func(b *Broker, _ transport.Transport) { b.Cut("y") },
			func(b *Broker, _ transport.Transport) { b.Kick("y") },
			func(b *Broker, _ transport.Transport) { b.Hang("y"); b.Kick("y") },
			func(b *Broker, _ transport.Transport) { b.Stop(); b.Start() },
			func(*Broker, transport.Transport) {},
		} {
			x, _ := newClient(t, b, "x", channels[1:]...)
			y, _ := newClient(t, b, "y", channels...)
			b.Delay("y", time.Hour)
			if errs := x.Publish(t.Context(), 0, []transport.Frame{{Channel: "two"}, {Channel: "three"}}); errs != nil {
				t.Error(errs)
			}
			leave(b, y)
			for _, tr := range []transport.Transport{y, x} {
				if err := tr.Close(); err != nil {
					t.Error(err)
				}
			}
			if len(b.clients) != 0 || len(b.channels) != 0 {
				t.Errorf("left behind: nodes %v, channels %v", b.clients, b.channels)
			}
		}
	})
}

// A delay costs one goroutine, while frames wait.
func TestOneGoroutineForADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker()
		x, _ := newClient(t, b, "x")
		y, sink := newClient(t, b, "y", "one")
		count := func() int { synctest.Wait(); return runtime.NumGoroutine() }
		before := count()
		b.Delay("y", time.Second)
		for range 10 {
			x.Publish(t.Context(), 0, []transport.Frame{{Channel: "one"}})
		}
		if n := count() - before; n != 1 {
			t.Errorf("%d goroutines hand over, want 1", n)
		}
		time.Sleep(time.Second)
		if n := count() - before; n != 0 || sink.frames != 10 {
			t.Errorf("%d goroutines are left, and %d frames arrived, want 0 and 10", n, sink.frames)
		}
		x.Publish(t.Context(), 0, []transport.Frame{{Channel: "one"}})
		for _, tr := range []transport.Transport{x, y} {
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		}
		if n := count() - before; n != 0 {
			t.Errorf("%d goroutines outlive Close", n)
		}
	})
}

// A publish to a hundred nodes allocates its copy of the frame and nothing else.
func TestPublishAllocatesOneCopy(t *testing.T) {
	b := NewBroker()
	const nodes = 100
	sinks := make([]*nullSink, nodes)
	var x transport.Transport
	for i := range nodes {
		x, sinks[i] = newClient(t, b, strconv.Itoa(i), "one")
	}
	frames := []transport.Frame{{Channel: "one", Data: make([]byte, 128)}}
	allocs := testing.AllocsPerRun(100, func() { x.Publish(t.Context(), 0, frames) })
	if allocs != 1 {
		t.Errorf("%v allocations for one publish, want 1", allocs)
	}
	for i, s := range sinks {
		if s.frames != 101 { // AllocsPerRun has a warm-up
			t.Errorf("node %d got %d frames", i, s.frames)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, nodes := range []int{1, 3, 100} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			broker := NewBroker()
			var x transport.Transport
			for i := range nodes {
				x, _ = newClient(b, broker, strconv.Itoa(i), "one")
			}
			frames := []transport.Frame{{Channel: "one", Data: make([]byte, 128)}}
			b.ReportAllocs()
			for b.Loop() {
				x.Publish(b.Context(), 0, frames)
			}
		})
	}
}

func BenchmarkSubscribe(b *testing.B) {
	channels := make([]string, 10_000)
	for i := range channels {
		channels[i] = fmt.Sprint("channel ", i)
	}
	x, _ := newClient(b, NewBroker(), "x")
	for b.Loop() {
		x.Subscribe(b.Context(), 0, channels)
		x.Unsubscribe(b.Context(), 0, channels)
	}
}
