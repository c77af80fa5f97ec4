package backplane_test

import (
	"context"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

func benchNode(b *testing.B, o backplane.Options) *backplane.Node {
	b.Helper()
	n, err := backplane.Open(b.Context(), inmem.NewBroker().Opener(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = n.Close(context.Background()) })
	return n
}

// BenchmarkPublish is acknowledged publishing over the in-memory broker: what the engine itself costs.
func BenchmarkPublish(b *testing.B) {
	for _, publishers := range []int{1, 16, 256} {
		b.Run(strconv.Itoa(publishers), func(b *testing.B) {
			n := benchNode(b, backplane.Options{QueueMessages: 1 << 20, QueueBytes: 1 << 30})
			var heard atomic.Int64
			_, err := n.Subscribe(b.Context(), backplane.Group("g"), func(context.Context, backplane.Event) { heard.Add(1) })
			if err != nil {
				b.Fatal(err)
			}
			payload := make([]byte, 128)
			b.ReportAllocs()
			b.SetParallelism(publishers / runtime.GOMAXPROCS(0))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := n.Publish(context.Background(), backplane.Group("g"), payload); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkPublishBatch sends 64 messages a call.
func BenchmarkPublishBatch(b *testing.B) {
	n := benchNode(b, backplane.Options{QueueMessages: 1 << 20, QueueBytes: 1 << 30})
	_, err := n.Subscribe(b.Context(), backplane.Group("g"), func(context.Context, backplane.Event) {})
	if err != nil {
		b.Fatal(err)
	}
	batch := make([]backplane.Outgoing, 64)
	for i := range batch {
		batch[i] = backplane.Outgoing{To: backplane.Group("g"), Payload: make([]byte, 128)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := n.PublishBatch(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/msg")
}
