package inmem_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// lifeSink checks the life of one connection: no frame and no second Down after its end.
type lifeSink struct {
	t    *testing.T
	busy atomic.Bool
	live atomic.Bool // between a Connect and a Down or Disconnect
	down chan struct{}
}

func (s *lifeSink) call(what string) (done func()) {
	if s.busy.Swap(true) {
		s.t.Error("two sink methods at a time")
	}
	if !s.live.Load() {
		s.t.Errorf("%s on a connection that had ended", what)
	}
	return func() { s.busy.Store(false) }
}

func (s *lifeSink) Frame(transport.Link, string, []byte) { s.call("a frame")() }
func (s *lifeSink) Gap(transport.Link, []string, bool, error) {
	s.t.Error("inmem reports no gaps")
}

func (s *lifeSink) Down(transport.Link, error) {
	defer s.call("a Down")()
	s.live.Store(false)
	s.down <- struct{}{}
}

// Nodes live through random faults while everybody publishes. Nothing deadlocks (the bubble would say so), every call
// ends with its context, each connection ends once, and Close frees all that a delay has started.
func TestRandomFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		const nodes = 5
		b := inmem.NewBrokerWith(inmem.Options{Backlog: 4096})
		var wg sync.WaitGroup
		for i := range nodes {
			id := transport.NodeID(fmt.Sprint("n", i))
			tr, err := b.Opener()(transport.Config{Node: id})
			if err != nil {
				t.Fatal(err)
			}
			sink := &lifeSink{t: t, down: make(chan struct{}, 1)}
			tr.Start(sink)
			wg.Go(func() { live(t, tr, sink, rand.New(rand.NewPCG(seed, uint64(i)))) })
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(nodes+i)))
				for range 300 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(50))*time.Millisecond)
					tr.Publish(ctx, 0, []transport.Frame{{Channel: "one", Data: make([]byte, r.IntN(100))}})
					cancel()
					time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
				}
			})
		}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 2*nodes))
			for range 500 {
				harm(b, transport.NodeID(fmt.Sprint("n", r.IntN(nodes))), r)
				time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
			}
		})
		wg.Wait()
	})
}

// live does what an engine does with a link, for a while.
func live(t *testing.T, tr transport.Transport, sink *lifeSink, r *rand.Rand) {
	t.Helper()
	for range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		sink.live.Store(true) // a Down may come before Connect has returned
		if err := tr.Connect(ctx, 0); err != nil {
			sink.live.Store(false)
			cancel()
			continue
		}
		tr.Subscribe(ctx, 0, []string{"one", "two"})
		if r.IntN(2) == 0 {
			tr.Unsubscribe(ctx, 0, []string{"one"})
		}
		cancel()
		select {
		case <-sink.down:
			continue
		case <-time.After(time.Duration(r.IntN(40)) * time.Millisecond):
		}
		tr.Disconnect(0)
		sink.live.Store(false)
		select {
		case <-sink.down: // it was faster than Disconnect
		default:
		}
	}
	wantErr(t, "close", tr.Close(), nil)
}

// harm does one random thing to the broker or a node.
func harm(b *inmem.Broker, node transport.NodeID, r *rand.Rand) {
	switch r.IntN(10) {
	case 0:
		b.Cut(node)
	case 1:
		b.Kick(node)
	case 2:
		b.Hang(node)
	case 3:
		b.Deafen(node)
	case 4:
		b.Mute(node)
	case 5:
		b.Drop(node, r.IntN(5), nil)
	case 6:
		b.Delay(node, time.Duration(r.IntN(10))*time.Millisecond)
	case 7:
		b.Stop()
		b.Start()
	default:
		b.Heal(node)
	}
}
