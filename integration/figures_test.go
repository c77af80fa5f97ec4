//go:build !race

package integration_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
)

// The figures that the documentation claims, as ratios to a rival in the same run, interleaved, medians. They are not
// part of a run under the race detector, which slows both sides differently.

const rounds = 5

func openRedis(t testing.TB, server *redisserver.Server, o backplane.Options) *backplane.Node {
	t.Helper()
	if o.Namespace == "" {
		o.Namespace = "figures"
	}
	n, err := backplane.Open(t.Context(), redis.URL(server.URL()), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return n
}

func median[T float64 | time.Duration](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}

// concurrently runs f on some goroutines until it has run total times in all, and returns how long that took.
func concurrently(workers, total int, f func(i int)) time.Duration {
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

func TestFigurePublishIsFiveTimesGoRedis(t *testing.T) {
	const workers, perRound = 256, 20_000
	server := redisserver.Start(t, redisserver.Options{})
	n := openRedis(t, server, backplane.Options{})
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr})
	t.Cleanup(func() { _ = client.Close() })
	to := backplane.Group("g")
	payload := make([]byte, 128)
	ctx := t.Context()

	var single, batched []float64
	for range rounds {
		bare := concurrently(workers, perRound, func(int) {
			if err := client.Publish(ctx, "bare", payload).Err(); err != nil {
				t.Error(err)
			}
		})
		ours := concurrently(workers, 4*perRound, func(int) {
			if err := n.Publish(ctx, to, payload); err != nil {
				t.Error(err)
			}
		})
		const size = 64
		batch := make([]backplane.Outgoing, size)
		for i := range batch {
			batch[i] = backplane.Outgoing{To: to, Payload: payload}
		}
		many := concurrently(workers, 20*perRound/size, func(int) {
			if err := n.PublishBatch(ctx, batch); err != nil {
				t.Error(err)
			}
		})
		rate := func(k int, d time.Duration) float64 { return float64(k) / d.Seconds() }
		b, o, m := rate(perRound, bare), rate(4*perRound, ours), rate(20*perRound, many)
		t.Logf("go-redis Publish %.0f/s, Publish %.0f/s (%.1f times), PublishBatch of %d %.0f/s (%.1f times)", b, o, o/b, size, m, m/b)
		single, batched = append(single, o/b), append(batched, m/b)
	}
	if r := median(single); r < 5 {
		t.Errorf("acknowledged publish with %d goroutines is %.1f times bare go-redis, want 5", workers, r)
	}
	if r := median(batched); r < 15 {
		t.Errorf("batch publish is %.1f times bare go-redis, want 15", r)
	}
}

// bareSubscribe is a batched SUBSCRIBE of all names on one go-redis PubSub, until the last confirmation.
func bareSubscribe(t *testing.T, client *goredis.Client, names []string) time.Duration {
	t.Helper()
	began := time.Now()
	ps := client.Subscribe(t.Context())
	defer func() { _ = ps.Close() }()
	var sent error
	var wg sync.WaitGroup
	wg.Go(func() {
		for chunk := range slices.Chunk(names, 512) {
			if sent = ps.Subscribe(t.Context(), chunk...); sent != nil {
				return
			}
		}
	})
	for range names {
		if _, err := ps.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if sent != nil {
		t.Fatal(sent)
	}
	return time.Since(began)
}

func TestFigureHundredThousandSubscriptions(t *testing.T) {
	const count, callers = 100_000, 1_000
	server := redisserver.Start(t, redisserver.Options{})
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr})
	t.Cleanup(func() { _ = client.Close() })
	bareNames, names := make([]string, count), make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("ward:%06d", i)
		bareNames[i] = "bare:g:" + names[i]
	}

	var ratios []float64
	var n *backplane.Node
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
	var before, after runtime.MemStats
	for round := range rounds {
		bare := bareSubscribe(t, client, bareNames)
		node, err := backplane.Open(t.Context(), redis.URL(server.URL()), backplane.Options{Namespace: "figures"})
		if err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&before)
		// As a hub server does when its clients come back after a deploy.
		ours := concurrently(callers, count, func(i int) {
			if _, err := node.Subscribe(t.Context(), backplane.Group(names[i]), handler); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%d subscriptions: bare batched SUBSCRIBE %v, concurrent Subscribe %v (%.2f times)", count, bare, ours, float64(ours)/float64(bare))
		ratios = append(ratios, float64(ours)/float64(bare))
		if round == rounds-1 {
			n = node
			break
		}
		if err := node.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = n.Close(context.Background()) })
	if r := median(ratios); r > 3 {
		t.Errorf("concurrent Subscribe takes %.2f times a bare batched SUBSCRIBE, want at most 3", r)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / count
	t.Logf("memory: %d bytes for each subscription, with its name of %d bytes once more in its channel's", each, len(names[0]))
	if most := int64(500 + len(names[0])); each > most {
		t.Errorf("a subscription takes %d bytes, want at most %d", each, most)
	}

	gaps.Store(0)
	began := time.Now()
	server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	select {
	case <-gapped:
	case <-time.After(30 * time.Second):
		t.Fatalf("30 s after the kill %d of %d subscriptions were told of their gap", gaps.Load(), count)
	}
	t.Logf("after CLIENT KILL all %d subscriptions were restored and told of their gap in %v", count, time.Since(began))
	batch := make([]backplane.Outgoing, count)
	for i := range batch {
		batch[i] = backplane.Outgoing{To: backplane.Group(names[i]), Payload: []byte("x")}
	}
	if err := n.PublishBatch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	ear := make(chan struct{})
	if _, err := n.Subscribe(t.Context(), backplane.All(), func(context.Context, backplane.Event) { close(ear) }); err != nil {
		t.Fatal(err)
	}
	if err := n.Publish(t.Context(), backplane.All(), nil); err != nil {
		t.Fatal(err)
	}
	<-ear
	for deadline := time.Now().Add(10 * time.Second); messages.Load() < count; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d messages arrived after the restore", messages.Load(), count)
		}
	}
	if g := gaps.Load(); g != count {
		t.Errorf("%d gaps for %d subscriptions", g, count)
	}
}
