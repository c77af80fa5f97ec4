//go:build !race

package integration_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/internal/faultnet"
	"github.com/gobackplane/backplane/nats"
)

// The rows of figures_test.go over a nats-server of its own process, beside what nats.go alone does.

const natsPayload = 128

func openNATS(t *testing.T, o nats.Options) *backplane.Node {
	t.Helper()
	// What is measured is how fast messages come, so none of them may be too many.
	return storeNode(t, nats.New(o), backplane.Options{Namespace: "figures", QueueMessages: 1 << 20, QueueBytes: 1 << 30})
}

func natsGroups(n int) []backplane.Address {
	to := make([]backplane.Address, n)
	for i := range to {
		to[i] = backplane.Group(fmt.Sprintf("g%d", i))
	}
	return to
}

// An acknowledged publish of 256 goroutines at a time, and in batches, beside nats.go's with a flush behind each, which is what
// acknowledges there. Flushes at the same time travel together, so nats.go is no slow rival.
func TestFigureNATSPublishIsAcknowledgedFaster(t *testing.T) {
	const workers, perRound, size = 256, 20_000, 64
	server := natsserver.StartProcess(t, natsserver.Options{})
	n, nc := openNATS(t, nats.Options{URL: server.URL()}), bare(t, server.URL())
	to, payload, ctx := backplane.Group("g"), make([]byte, natsPayload), t.Context()
	batch := make([]backplane.Outgoing, size)
	for i := range batch {
		batch[i] = backplane.Outgoing{To: to, Payload: payload}
	}
	var single, batched []float64
	for range rounds {
		rival := concurrently(workers, perRound, func(int) {
			err := nc.Publish("bare", payload)
			if err == nil {
				err = nc.Flush()
			}
			if err != nil {
				t.Error(err)
			}
		})
		ours := concurrently(workers, 4*perRound, func(int) {
			if err := n.Publish(ctx, to, payload); err != nil {
				t.Error(err)
			}
		})
		many := concurrently(workers, 20*perRound/size, func(int) {
			if err := n.PublishBatch(ctx, batch); err != nil {
				t.Error(err)
			}
		})
		b, o, m := perSecond(perRound, rival), perSecond(4*perRound, ours), perSecond(20*perRound, many)
		t.Logf("nats.go Publish and Flush %.0f/s, Publish %.0f/s (%.1f times), PublishBatch of %d %.0f/s (%.1f times)", b, o, o/b, size, m, m/b)
		single, batched = append(single, o/b), append(batched, m/b)
	}
	s, m := median(single), median(batched)
	t.Logf("acknowledged publish is %.1f times nats.go with a flush, in batches %.1f times", s, m)
	if s < 3 {
		t.Errorf("acknowledged publish with %d goroutines is %.1f times nats.go with a flush, want 3", workers, s)
	}
	if m < 6 {
		t.Errorf("batch publish is %.1f times nats.go with a flush, want 6", m)
	}
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// Published in batches, each of which waits for the server's word, numbered and received, beside nats.go that publishes without waiting for
// anything, and receives: docs/operating.md says where the time goes.
func TestFigureNATSDelivery(t *testing.T) {
	for _, row := range []struct {
		subjects int
		want     float64
	}{{1, 0.8}, {1000, 1}} {
		t.Run(fmt.Sprintf("%d subjects", row.subjects), func(t *testing.T) {
			const workers, size, ourTotal, bareTotal = 256, 64, 640_000, 200_000
			server := natsserver.StartProcess(t, natsserver.Options{})
			sender, receiver := openNATS(t, nats.Options{URL: server.URL()}), openNATS(t, nats.Options{URL: server.URL()})
			nc, ear := bare(t, server.URL()), bare(t, server.URL())
			to, payload := natsGroups(row.subjects), make([]byte, natsPayload)
			var heard atomic.Int64
			all := make(chan struct{}, 1)
			count := func(want int64) {
				if heard.Add(1) == want {
					all <- struct{}{}
				}
			}
			for i, a := range to {
				if _, err := receiver.Subscribe(t.Context(), a, func(_ context.Context, e backplane.Event) {
					if _, gap := e.(*backplane.Gap); gap {
						t.Errorf("%v", e)
					}
					count(ourTotal)
				}); err != nil {
					t.Fatal(err)
				}
				if _, err := ear.Subscribe(fmt.Sprintf("bare.%d", i), func(*natsgo.Msg) { count(bareTotal) }); err != nil {
					t.Fatal(err)
				}
			}
			if err := ear.Flush(); err != nil {
				t.Fatal(err)
			}
			measure := func(workers, calls, total int, f func(i int)) float64 {
				heard.Store(0)
				began := time.Now()
				concurrently(workers, calls, f)
				select {
				case <-all:
				case <-time.After(natsPatience):
					t.Fatalf("%d of %d arrived", heard.Load(), total)
				}
				return perSecond(total, time.Since(began))
			}
			subjects := make([]string, row.subjects)
			for i := range subjects {
				subjects[i] = fmt.Sprintf("bare.%d", i)
			}
			var ratios []float64
			for range rounds {
				rival := measure(16, bareTotal, bareTotal, func(i int) {
					if err := nc.Publish(subjects[i%len(subjects)], payload); err != nil {
						t.Error(err)
					}
				})
				ours := measure(workers, ourTotal/size, ourTotal, func(i int) {
					batch := make([]backplane.Outgoing, size)
					for k := range batch {
						batch[k] = backplane.Outgoing{To: to[(i*size+k)%len(to)], Payload: payload}
					}
					if err := sender.PublishBatch(t.Context(), batch); err != nil {
						t.Error(err)
					}
				})
				t.Logf("nats.go %.0f/s, ours %.0f/s (%.2f times)", rival, ours, ours/rival)
				ratios = append(ratios, ours/rival)
			}
			r := median(ratios)
			t.Logf("%d subjects: %.2f times nats.go", row.subjects, r)
			if r < row.want {
				t.Errorf("delivery is %.2f times nats.go's, want %.1f", r, row.want)
			}
		})
	}
}

func TestFigureNATSHundredThousandSubscriptions(t *testing.T) {
	const count, callers = 100_000, 1_000
	server := natsserver.StartProcess(t, natsserver.Options{})
	names, bareNames := make([]string, count), make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("ward:%06d", i)
		bareNames[i] = "bare.g." + names[i]
	}
	link := faultnet.New(new(net.Dialer).DialContext)
	var gaps, messages atomic.Int64
	gapped := make(chan struct{}, 1)
	handler := func(_ context.Context, e backplane.Event) {
		switch e.(type) {
		case *backplane.Gap:
			if gaps.Add(1) == count {
				gapped <- struct{}{}
			}
		case *backplane.Message:
			messages.Add(1)
		}
	}
	// bareSubscriptions are SUBs behind one another, with one flush, on a connection of their own. It returns how long they take.
	bareSubscriptions := func() (took time.Duration) {
		nc, all := bare(t, server.URL()), make(chan *natsgo.Msg, 1024)
		defer nc.Close()
		began := time.Now()
		for _, name := range bareNames {
			if _, err := nc.ChanSubscribe(name, all); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	open := func() *backplane.Node {
		n, err := backplane.Open(t.Context(), nats.New(nats.Options{URL: server.URL(), Dialer: link.Dial}), backplane.Options{Namespace: "figures"})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var ratios []float64
	var n *backplane.Node
	var before, after runtime.MemStats
	for round := range rounds {
		rival := bareSubscriptions()
		n = open()
		runtime.GC()
		runtime.ReadMemStats(&before)
		ours := concurrently(callers, count, func(i int) {
			if _, err := n.Subscribe(t.Context(), backplane.Group(names[i]), handler); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%d subscriptions: bare SUBs and a flush %v, concurrent Subscribe %v (%.2f times)", count, rival, ours, float64(ours)/float64(rival))
		ratios = append(ratios, float64(ours)/float64(rival))
		if round < rounds-1 {
			if err := n.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() { _ = n.Close(context.Background()) })
	if r := median(ratios); r > 4 {
		t.Errorf("concurrent Subscribe takes %.2f times bare SUBs, want at most 4", r)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / count
	t.Logf("memory: %d bytes for each subscription, with its name of %d bytes once more in its subject, and nats.go's own", each, len(names[0]))
	if most := int64(800 + len(names[0])); each > most {
		t.Errorf("a subscription takes %d bytes, want at most %d", each, most)
	}

	gaps.Store(0)
	began := time.Now()
	link.Cut()
	link.Heal()
	select {
	case <-gapped:
	case <-time.After(natsPatience):
		t.Fatalf("after the cut %d of %d subscriptions were told of their gap", gaps.Load(), count)
	}
	t.Logf("after a cut all %d subscriptions were restored and told of their gap in %v", count, time.Since(began))
	batch := make([]backplane.Outgoing, count)
	for i := range batch {
		batch[i] = backplane.Outgoing{To: backplane.Group(names[i]), Payload: []byte("x")}
	}
	if err := n.PublishBatch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all messages arrive after the restore", func() bool { return messages.Load() == count })
	if g := gaps.Load(); g != count {
		t.Errorf("%d gaps for %d subscriptions", g, count)
	}
}
