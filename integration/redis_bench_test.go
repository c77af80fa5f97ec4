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

// nullSink hears frames and forgets them.
type nullSink struct{ heard chan struct{} }

func (s nullSink) Frame(transport.Link, string, []byte)    { s.heard <- struct{}{} }
func (nullSink) Gap(transport.Link, []string, bool, error) {}
func (nullSink) Down(transport.Link, error)                {}

func benchRig(b *testing.B, url string, sink transport.Sink) transport.Transport {
	b.Helper()
	tr, err := redis.URL(url)(transport.Config{Node: "0123456789abcdef", Namespace: "bench", Timeout: 10 * time.Second})
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

func BenchmarkRedisPublish(b *testing.B) {
	server := redisserver.Start(b, redisserver.Options{})
	for _, n := range []int{1, 64, 128, 256, 512} {
		b.Run(fmt.Sprintf("frames=%d", n), func(b *testing.B) {
			tr := benchRig(b, server.URL(), nullSink{})
			frames := make([]transport.Frame, n)
			for i := range frames {
				frames[i] = transport.Frame{Channel: fmt.Sprintf("bench:%d", i), Data: make([]byte, 256)}
			}
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithTimeout(b.Context(), time.Second)
				if errs := tr.Publish(ctx, transport.OnlyLink, frames); errs != nil {
					b.Fatal(errs)
				}
				cancel()
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "frames/s")
		})
	}
}

func BenchmarkRedisReceive(b *testing.B) {
	server := redisserver.Start(b, redisserver.Options{})
	frames := make([]transport.Frame, 512)
	for i := range frames {
		frames[i] = transport.Frame{Channel: fmt.Sprintf("bench:%d", i%64), Data: make([]byte, 256)}
	}
	channels := make([]string, 64)
	for i := range channels {
		channels[i] = frames[i].Channel
	}
	publish := func(b *testing.B, tr transport.Transport) (done chan struct{}) {
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
		sink := nullSink{make(chan struct{}, 1<<20)}
		tr := benchRig(b, server.URL(), sink)
		if errs := tr.Subscribe(b.Context(), transport.OnlyLink, channels); errs != nil {
			b.Fatal(errs)
		}
		b.ReportAllocs()
		b.ResetTimer()
		done := publish(b, tr)
		for range b.N {
			<-sink.heard
		}
		<-done
	})
	b.Run("PubSub", func(b *testing.B) {
		tr := benchRig(b, server.URL(), nullSink{})
		client := goredis.NewClient(&goredis.Options{Addr: server.Addr, Protocol: 2})
		defer client.Close()
		ps := client.Subscribe(b.Context(), channels...)
		for range channels {
			if _, err := ps.Receive(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportAllocs()
		b.ResetTimer()
		done := publish(b, tr)
		for range b.N {
			if _, err := ps.ReceiveMessage(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		<-done
	})
}

func BenchmarkRedisSubscribe(b *testing.B) {
	server := redisserver.Start(b, redisserver.Options{})
	channels := make([]string, 100_000)
	for i := range channels {
		channels[i] = fmt.Sprintf("bench:g:ward-%d", i)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	b.Run("transport", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			tr := benchRig(b, server.URL(), nullSink{})
			before := heap()
			b.StartTimer()
			if errs := tr.Subscribe(b.Context(), transport.OnlyLink, channels); errs != nil {
				b.Fatal(errs)
			}
			b.StopTimer()
			b.ReportMetric(float64(int64(heap()-before))/float64(len(channels)), "B/channel")
			_ = tr.Close()
			b.StartTimer()
		}
	})
	b.Run("PubSub", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			client := goredis.NewClient(&goredis.Options{Addr: server.Addr, Protocol: 2})
			ps := client.Subscribe(b.Context())
			before := heap()
			b.StartTimer()
			go func() {
				for rest := channels; len(rest) > 0; rest = rest[min(512, len(rest)):] {
					_ = ps.Subscribe(b.Context(), rest[:min(512, len(rest))]...)
				}
			}()
			for range channels {
				if _, err := ps.Receive(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(int64(heap()-before))/float64(len(channels)), "B/channel")
			_ = ps.Close()
			_ = client.Close()
			b.StartTimer()
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			bareSubscribe2(b, server.Addr, channels)
		}
	})
}
