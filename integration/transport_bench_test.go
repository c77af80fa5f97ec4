package integration_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// What a transport itself costs, without an engine, beside its client library doing the same.

const benchPayload = 256

// benched is what is measured: a transport, and the client library in the same three roles.
type benched struct {
	open   transport.Opener
	prefix string // of channels
	client string // the library's name

	// publisher returns what publishes frames, and returns when the server has taken them.
	publisher func(b *testing.B) func(ctx context.Context, frames []transport.Frame) error
	// receiver subscribes, and returns what takes one message.
	receiver func(b *testing.B, channels []string) (take func() error)
	// subscriber returns what subscribes, and returns when all is confirmed; and what closes the connection.
	subscriber func(b *testing.B) (subscribe func(channels []string) error, end func())
}

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

// firstOf is the first error, of outcomes that are nil where there is none.
func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
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

func (c benched) publish(b *testing.B) {
	b.Helper()
	for _, n := range []int{1, 64, 512} {
		frames, _ := benchFrames(n, n, c.prefix)
		measure := func(b *testing.B, publish func(context.Context, []transport.Frame) error) {
			b.Helper()
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
				if err := publish(ctx, frames); err != nil {
					b.Fatal(err)
				}
				cancel()
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "frames/s")
		}
		b.Run(fmt.Sprintf("frames=%d/transport", n), func(b *testing.B) {
			tr := benchTransport(b, c.open, countingSink{})
			measure(b, func(ctx context.Context, frames []transport.Frame) error {
				return firstOf(tr.Publish(ctx, transport.OnlyLink, frames))
			})
		})
		b.Run(fmt.Sprintf("frames=%d/%s", n, c.client), func(b *testing.B) { measure(b, c.publisher(b)) })
	}
}

func (c benched) receive(b *testing.B) {
	b.Helper()
	frames, names := benchFrames(512, 64, c.prefix)
	// Publishing stays a little ahead: nats.go drops what is too much.
	measure := func(b *testing.B, take func() error) {
		b.Helper()
		tr := benchTransport(b, c.open, countingSink{})
		const ahead = 16
		room := make(chan struct{}, ahead)
		b.ReportAllocs()
		b.ResetTimer()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := b.N; n > 0; n -= len(frames) {
				room <- struct{}{}
				if err := firstOf(tr.Publish(b.Context(), transport.OnlyLink, frames[:min(n, len(frames))])); err != nil {
					b.Error(err)
				}
			}
		}()
		for i := range b.N {
			if err := take(); err != nil {
				b.Fatal(err)
			}
			if i%len(frames) == 0 {
				<-room
			}
		}
		<-done
	}
	b.Run("transport", func(b *testing.B) {
		sink := countingSink{make(chan struct{}, 1<<20)}
		if err := firstOf(benchTransport(b, c.open, sink).Subscribe(b.Context(), transport.OnlyLink, names)); err != nil {
			b.Fatal(err)
		}
		measure(b, func() error { <-sink.heard; return nil })
	})
	b.Run(c.client, func(b *testing.B) { measure(b, c.receiver(b, names)) })
}

func (c benched) subscribe100k(b *testing.B) {
	b.Helper()
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("%sg%cward-%d", c.prefix, c.prefix[len(c.prefix)-1], i)
	}
	measure := func(b *testing.B, subscriber func(b *testing.B) (subscribe func([]string) error, end func())) {
		b.Helper()
		for b.Loop() {
			b.StopTimer()
			subscribe, end := subscriber(b)
			before := liveBytes()
			b.StartTimer()
			if err := subscribe(names); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric((float64(liveBytes())-float64(before))/float64(len(names)), "B/channel")
			end()
			b.StartTimer()
		}
	}
	b.Run("transport", func(b *testing.B) {
		measure(b, func(b *testing.B) (subscribe func([]string) error, end func()) {
			b.Helper()
			tr := benchTransport(b, c.open, countingSink{})
			subscribe = func(names []string) error { return firstOf(tr.Subscribe(b.Context(), transport.OnlyLink, names)) }
			return subscribe, func() { _ = tr.Close() }
		})
	})
	b.Run(c.client, func(b *testing.B) { measure(b, c.subscriber) })
}

func liveBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
