package integration_test

import (
	"fmt"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

// The rows of redis_bench_test.go: what the transport itself costs, without an engine, beside nats.go doing the same.

func benchNATS(b *testing.B, server *natsserver.Process) *natsgo.Conn {
	b.Helper()
	nc, err := natsgo.Connect(server.URL(), natsgo.NoReconnect())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

func BenchmarkNATSPublish(b *testing.B) {
	server := natsserver.StartProcess(b, natsserver.Options{})
	for _, n := range []int{1, 64, 512} {
		frames, _ := benchFrames(n, n, "bench.")
		report := func(b *testing.B) { b.Helper(); b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "frames/s") }
		b.Run(fmt.Sprintf("frames=%d/transport", n), func(b *testing.B) {
			tr := benchTransport(b, nats.URL(server.URL()), countingSink{})
			b.ReportAllocs()
			for b.Loop() {
				if errs := tr.Publish(b.Context(), transport.OnlyLink, frames); errs != nil {
					b.Fatal(errs)
				}
			}
			report(b)
		})
		b.Run(fmt.Sprintf("frames=%d/nats.go", n), func(b *testing.B) {
			nc := benchNATS(b, server)
			b.ReportAllocs()
			for b.Loop() {
				for _, f := range frames {
					if err := nc.Publish(f.Channel, f.Data); err != nil {
						b.Fatal(err)
					}
				}
				if err := nc.FlushTimeout(10 * time.Second); err != nil {
					b.Fatal(err)
				}
			}
			report(b)
		})
	}
}

func BenchmarkNATSReceive(b *testing.B) {
	server := natsserver.StartProcess(b, natsserver.Options{})
	frames, names := benchFrames(512, 64, "bench.")
	// Publishing stays a little ahead: nats.go drops what is too much.
	receive := func(b *testing.B, heard <-chan struct{}) {
		b.Helper()
		tr := benchTransport(b, nats.URL(server.URL()), countingSink{})
		const ahead = 16
		room := make(chan struct{}, ahead)
		b.ReportAllocs()
		b.ResetTimer()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := b.N; n > 0; n -= len(frames) {
				room <- struct{}{}
				if errs := tr.Publish(b.Context(), transport.OnlyLink, frames[:min(n, len(frames))]); errs != nil {
					b.Error(errs)
				}
			}
		}()
		for i := range b.N {
			<-heard
			if i%len(frames) == 0 {
				<-room
			}
		}
		<-done
	}
	b.Run("transport", func(b *testing.B) {
		sink := countingSink{make(chan struct{}, 1<<20)}
		if errs := benchTransport(b, nats.URL(server.URL()), sink).Subscribe(b.Context(), transport.OnlyLink, names); errs != nil {
			b.Fatal(errs)
		}
		receive(b, sink.heard)
	})
	b.Run("nats.go", func(b *testing.B) {
		nc, all, heard := benchNATS(b, server), make(chan *natsgo.Msg, 1<<16), make(chan struct{}, 1<<20)
		for _, name := range names {
			if _, err := nc.ChanSubscribe(name, all); err != nil {
				b.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			b.Fatal(err)
		}
		go func() {
			for {
				select {
				case <-all:
					heard <- struct{}{}
				case <-b.Context().Done():
					return
				}
			}
		}()
		receive(b, heard)
	})
}

func BenchmarkNATSSubscribe100k(b *testing.B) {
	server := natsserver.StartProcess(b, natsserver.Options{})
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("bench.g.ward-%d", i)
	}
	report := func(b *testing.B, before uint64) {
		b.Helper()
		b.ReportMetric((float64(liveBytes())-float64(before))/float64(len(names)), "B/channel")
	}
	b.Run("transport", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			tr := benchTransport(b, nats.URL(server.URL()), countingSink{})
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
	b.Run("nats.go", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			nc, all := benchNATS(b, server), make(chan *natsgo.Msg, 1<<16)
			before := liveBytes()
			b.StartTimer()
			for _, name := range names {
				if _, err := nc.ChanSubscribe(name, all); err != nil {
					b.Fatal(err)
				}
			}
			if err := nc.Flush(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			report(b, before)
			nc.Close()
			b.StartTimer()
		}
	})
}
