package integration_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// What the transport itself costs, without an engine, beside go-redis doing the same.

const benchPayload = 256

// countingSink counts frames.
type countingSink struct{ heard chan struct{} }

func (s countingSink) Frame(transport.Link, string, []byte)    { s.heard <- struct{}{} }
func (countingSink) Gap(transport.Link, []string, bool, error) {}
func (countingSink) Down(transport.Link, error)                {}

func benchTransport(b *testing.B, open transport.Opener, sink transport.Sink) transport.Transport {
	b.Helper()
	tr, err := open(transport.Config{Node: "0123456789abcdef", Namespace: "bench", Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	tr.Start(sink)
	if err := tr.Connect(b.Context(), transport.OnlyLink); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tr.Close() })
	return tr
}

// benchClient is go-redis, set as well as can be for this.
func benchClient(b *testing.B, server *redisserver.Server) *goredis.Client {
	b.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr, Protocol: 2, MaxRetries: -1, PoolSize: 1, PipelinePoolSize: -1, WriteBufferSize: 64 << 10})
	b.Cleanup(func() { _ = client.Close() })
	return client
}

func benchFrames(n, channels int, prefix string) (frames []transport.Frame, names []string) {
	for i := range n {
		frames = append(frames, transport.Frame{Channel: fmt.Sprintf("%s%d", prefix, i%channels), Data: make([]byte, benchPayload)})
		if i < channels {
			names = append(names, frames[i].Channel)
		}
	}
	return frames, names
}

func BenchmarkRedisPublish(b *testing.B) {
	server := redisserver.Start(b, redisserver.Options{})
	for _, n := range []int{1, 64, 512} {
		frames, _ := benchFrames(n, n, "bench:")
		report := func(b *testing.B) { b.Helper(); b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "frames/s") }
		b.Run(fmt.Sprintf("frames=%d/transport", n), func(b *testing.B) {
			tr := benchTransport(b, redis.URL(server.URL()), countingSink{})
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithTimeout(b.Context(), time.Second)
				if errs := tr.Publish(ctx, transport.OnlyLink, frames); errs != nil {
					b.Fatal(errs)
				}
				cancel()
			}
			report(b)
		})
		b.Run(fmt.Sprintf("frames=%d/go-redis", n), func(b *testing.B) {
			client := benchClient(b, server)
			pipe := client.Pipeline()
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithTimeout(b.Context(), time.Second)
				for _, f := range frames {
					pipe.Publish(ctx, f.Channel, f.Data)
				}
				if _, err := pipe.Exec(ctx); err != nil {
					b.Fatal(err)
				}
				cancel()
			}
			report(b)
		})
	}
}

func BenchmarkRedisReceive(b *testing.B) {
	server := redisserver.Start(b, redisserver.Options{})
	frames, names := benchFrames(512, 64, "bench:")
	publish := func(b *testing.B) (done chan struct{}) {
		b.Helper()
		tr := benchTransport(b, redis.URL(server.URL()), countingSink{})
		b.ReportAllocs()
		b.ResetTimer()
		done = make(chan struct{})
		go func() {
			defer close(done)
			for n := b.N; n > 0; n -= len(frames) {
				if errs := tr.Publish(b.Context(), transport.OnlyLink, frames[:min(n, len(frames))]); errs != nil {
					b.Error(errs)
				}
			}
		}()
		return done
	}
	b.Run("transport", func(b *testing.B) {
		sink := countingSink{make(chan struct{}, 1<<20)}
		if errs := benchTransport(b, redis.URL(server.URL()), sink).Subscribe(b.Context(), transport.OnlyLink, names); errs != nil {
			b.Fatal(errs)
		}
		done := publish(b)
		for range b.N {
			<-sink.heard
		}
		<-done
	})
	b.Run("go-redis", func(b *testing.B) {
		pubsub := benchClient(b, server).Subscribe(b.Context(), names...)
		for range names {
			if _, err := pubsub.Receive(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		done := publish(b)
		for range b.N {
			if _, err := pubsub.ReceiveMessage(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		<-done
	})
}

func BenchmarkRedisSubscribe100k(b *testing.B) {
	server := redisserver.Start(b, redisserver.Options{})
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("bench:g:ward-%d", i)
	}
	report := func(b *testing.B, before uint64) {
		b.Helper()
		b.ReportMetric((float64(liveBytes())-float64(before))/float64(len(names)), "B/channel")
	}
	b.Run("transport", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			tr := benchTransport(b, redis.URL(server.URL()), countingSink{})
			before := liveBytes()
			b.StartTimer()
			if errs := tr.Subscribe(b.Context(), transport.OnlyLink, names); errs != nil {
				b.Fatal(errs)
			}
			b.StopTimer()
			report(b, before)
			_ = tr.Close()
			b.StartTimer()
		}
	})
	b.Run("go-redis", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			pubsub := benchClient(b, server).Subscribe(b.Context())
			before := liveBytes()
			b.StartTimer()
			go func() {
				for rest := names; len(rest) > 0; rest = rest[min(512, len(rest)):] {
					_ = pubsub.Subscribe(b.Context(), rest[:min(512, len(rest))]...)
				}
			}()
			for range names {
				if _, err := pubsub.Receive(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			report(b, before)
			_ = pubsub.Close()
			b.StartTimer()
		}
	})
}

func liveBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
