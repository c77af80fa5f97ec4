package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

// deadServer lets a client in, answers nothing more, and with deaf reads nothing more either.
func deadServer(t *testing.T, deaf bool) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		close(ended)
		_ = l.Close()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, `INFO {"server_id":"x","version":"2.15.2","proto":1,"headers":true,"max_payload":1048576}`+"\r\n")
				buf := make([]byte, 4096)
				for got := ""; !strings.HasSuffix(got, "PING\r\n"); {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					got += string(buf[:n])
				}
				_, _ = io.WriteString(conn, "PONG\r\n")
				if !deaf {
					_, _ = io.Copy(io.Discard, conn)
				}
				<-ended
			}()
		}
	}()
	return "nats://" + l.Addr().String()
}

// A server that answers nothing, or does not even read, holds no call longer than its context, and Disconnect and Close not
// at all.
func TestNATSServerThatHangs(t *testing.T) {
	large := slices.Repeat([]transport.Frame{{Channel: "ward.a", Data: make([]byte, 1<<20)}}, 32) // more than sockets hold
	small := []transport.Frame{{Channel: "ward.a", Data: []byte("x")}, {Channel: "ward.b", Data: []byte("x")}}
	many := make([]string, 300_000)
	for i := range many {
		many[i] = fmt.Sprintf("ward.%d", i)
	}
	for _, deaf := range []bool{false, true} {
		frames := small
		if deaf {
			frames = large
		}
		calls := map[string]func(ctx context.Context, r *rig) []error{
			"Publish":     func(ctx context.Context, r *rig) []error { return r.Publish(ctx, transport.OnlyLink, frames) },
			"Subscribe":   func(ctx context.Context, r *rig) []error { return r.Subscribe(ctx, transport.OnlyLink, many[:10]) },
			"Unsubscribe": func(ctx context.Context, r *rig) []error { return r.Unsubscribe(ctx, transport.OnlyLink, many[:10]) },
			"Subscribe behind Publish": func(ctx context.Context, r *rig) []error {
				go r.Publish(t.Context(), transport.OnlyLink, frames)
				return r.Subscribe(ctx, transport.OnlyLink, many)
			},
		}
		const soon = 2 * time.Second // with the time that a context has here, less than the transport's own
		for name, call := range calls {
			t.Run(fmt.Sprintf("%s, deaf %v", name, deaf), func(t *testing.T) {
				r := connected(t, nats.URL(deadServer(t, deaf)))
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				began := time.Now()
				errs := call(ctx, r)
				if took := time.Since(began); took > soon {
					t.Errorf("it took %v", took)
				}
				if len(errs) == 0 || errs[0] == nil {
					t.Errorf("errors: %v", errs)
				}
				for i, err := range errs {
					if name == "Publish" && i < len(errs)-1 && i == 0 && !errors.Is(err, transport.ErrUncertain) {
						t.Errorf("frame %d may have left: %v", i, err)
					}
					if name != "Publish" && !errors.Is(err, transport.ErrUnavailable) {
						t.Fatalf("channel %d: %v", i, err)
					}
				}
				if last := errs[len(errs)-1]; name == "Publish" && deaf && !errors.Is(last, transport.ErrUnavailable) {
					t.Errorf("the last frame was never written: %v", last)
				}
			})
		}
		for _, end := range []string{"Disconnect", "Close", "Connect"} {
			t.Run(fmt.Sprintf("%s, deaf %v", end, deaf), func(t *testing.T) {
				r := connected(t, nats.URL(deadServer(t, deaf)))
				var calls sync.WaitGroup
				for range 3 {
					calls.Go(func() {
						if errs := r.Publish(t.Context(), transport.OnlyLink, frames); len(errs) == 0 || errs[0] == nil {
							t.Errorf("Publish: %v", errs)
						}
					})
					calls.Go(func() {
						if errs := r.Subscribe(t.Context(), transport.OnlyLink, many[:10]); len(errs) == 0 || errs[0] == nil {
							t.Errorf("Subscribe: %v", errs)
						}
					})
				}
				for range 1000 { // let them begin; whichever does not finds the link ended
					runtime.Gosched()
				}
				began := time.Now()
				switch end {
				case "Disconnect":
					r.Disconnect(transport.OnlyLink)
				case "Close":
					_ = r.Close()
				case "Connect":
					if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("%s took %v", end, took)
				}
				if end == "Connect" {
					r.Disconnect(transport.OnlyLink) // for those that came late
				}
				calls.Wait()
				if took := time.Since(began); took > soon {
					t.Errorf("the calls under way took %v", took)
				}
				if len(r.sink.downs) > 0 {
					t.Errorf("Down: %v", r.sink.downs)
				}
			})
		}
	}
}

// An attempt to connect ends with its context, and with Close at once.
func TestNATSConnectEnds(t *testing.T) {
	for what, addresses := range map[string][]string{"one": {greeter(t, "")}, "several": {greeter(t, ""), greeter(t, "")}} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, nats.New(nats.Options{Addresses: addresses}))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			if err := r.Connect(ctx, transport.OnlyLink); !errors.Is(err, transport.ErrUnavailable) {
				t.Errorf("Connect: %v", err)
			}
			outcome := make(chan error)
			go func() { outcome <- r.Connect(t.Context(), transport.OnlyLink) }()
			for range 1000 {
				runtime.Gosched()
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := <-outcome; !errors.Is(err, transport.ErrClosed) {
				t.Errorf("Connect while Close was called: %v", err)
			}
			if took := time.Since(began); took > 2*time.Second { // less than the transport's own time
				t.Errorf("it took %v", took)
			}
		})
	}
}

// A publish that has no answer in time leaves no connection whose answers could be taken for those to another.
func TestNATSUnansweredPublishEndsTheLink(t *testing.T) {
	r := connected(t, nats.URL(deadServer(t, false)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.publish1(ctx, "ward.a", "x"); !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("its context had ended: %v", err)
	}
	if len(r.sink.downs) > 0 {
		t.Errorf("Down without need: %v", r.sink.downs)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := r.publish1(ctx, "ward.a", "x")
	if !errors.Is(err, transport.ErrUncertain) || errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Publish: %v", err)
	}
	if err := r.sink.awaitDown(t); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Down: %v", err)
	}
	if err := r.publish1(t.Context(), "ward.a", "x"); !errors.Is(err, transport.ErrUnavailable) || errors.Is(err, transport.ErrUncertain) {
		t.Errorf("Publish afterwards: %v", err)
	}
}

// A server that ends is one Down, behind all frames, and others are used where there are any.
func TestNATSServerEnds(t *testing.T) {
	a, b := natsserver.Start(t, natsserver.Options{}), natsserver.Start(t, natsserver.Options{})
	r := connected(t, nats.New(nats.Options{Addresses: []string{a.Addr, b.Addr}}))
	for range 5 { // wherever it is, it goes to the other one
		r.subscribed(t, "ward.a")
		r.published(t, "ward.a", "hello")
		r.awaitFrame(t, "ward.a", "hello")
		here, there := a, b
		if b.Running().NumClients() > 0 {
			here, there = b, a
		}
		if here.KillClients() != 1 {
			t.Fatal("the node is on neither server")
		}
		if err := r.sink.awaitDown(t); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Down: %v", err)
		}
		if err := r.publish1(t.Context(), "ward.a", "x"); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Publish: %v", err)
		}
		if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		if there.Running().NumClients() != 1 {
			t.Error("it connected to the server that it had just lost")
		}
		r.sink.note(func() { r.sink.downs = nil })
		r.sink.take()
	}
}

// numberedSink counts frames, and can be slow or stand still.
type numberedSink struct {
	frames  atomic.Int64
	wrong   atomic.Int64
	work    int           // turns of a loop for each frame
	gate    chan struct{} // a frame waits until it is closed; nil for none
	reached chan struct{} // closed at the last frame
	last    int64
	down    chan error
}

func (s *numberedSink) Frame(_ transport.Link, _ string, data []byte) {
	if s.gate != nil {
		<-s.gate
	}
	for range s.work {
		runtime.KeepAlive(data)
	}
	n := s.frames.Add(1)
	if string(data) != strconv.FormatInt(n-1, 10) {
		s.wrong.Add(1)
	}
	if n == s.last {
		close(s.reached)
	}
}

func (s *numberedSink) Gap(transport.Link, []string, bool, error) {}
func (s *numberedSink) Down(_ transport.Link, cause error)        { s.down <- cause }

func counting(t *testing.T, open transport.Opener, s *numberedSink) transport.Transport {
	t.Helper()
	s.reached, s.down = make(chan struct{}), make(chan error, 2)
	tr, err := open(transport.Config{Node: "0123456789abcdef", Namespace: "ward", Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	tr.Start(s)
	if err := tr.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// However fast frames come and however slowly they are taken, none is lost as long as the server keeps us.
func TestNATSFloodLosesNothing(t *testing.T) {
	const n = 200_000
	for name, c := range map[string]struct{ procs, work int }{
		"one processor":                 {1, 0},
		"one processor and a slow sink": {1, 1000},
		"a slow sink":                   {runtime.GOMAXPROCS(0), 1000},
	} {
		t.Run(name, func(t *testing.T) {
			overNATS(t, func(t *testing.T, open transport.Opener) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.procs))
				sink := &numberedSink{work: c.work, last: n}
				tr := counting(t, open, sink)
				if errs := tr.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.a"}); errs != nil {
					t.Fatal(errs[0])
				}
				other := connected(t, open)
				frames := make([]transport.Frame, 0, 5000)
				for i := range n {
					if frames = append(frames, transport.Frame{Channel: "ward.a", Data: fmt.Append(nil, i)}); len(frames) == cap(frames) {
						if errs := other.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
							t.Fatal(errors.Join(errs...))
						}
						frames = frames[:0]
					}
				}
				select {
				case <-sink.reached:
				case err := <-sink.down:
					t.Fatalf("%d of %d frames, then Down: %v", sink.frames.Load(), n, err)
				case <-time.After(patience):
					t.Fatalf("%d of %d frames", sink.frames.Load(), n)
				}
				if w := sink.wrong.Load(); w > 0 {
					t.Errorf("%d frames were not the next", w)
				}
			})
		})
	}
}

// overloaded returns a transport that its server has given up because its sink stands still.
func overloaded(t *testing.T) (*numberedSink, transport.Transport) {
	t.Helper()
	server := natsserver.Start(t, natsserver.Options{Config: []string{"max_pending: 8MB", `write_deadline: "2s"`}})
	sink := &numberedSink{gate: make(chan struct{})}
	tr := counting(t, nats.URL(server.URL()), sink)
	if errs := tr.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.a"}); errs != nil {
		t.Fatal(errs[0])
	}
	other := connected(t, nats.URL(server.URL()))
	other.published(t, "ward.a", "0")
	frames := slices.Repeat([]transport.Frame{{Channel: "ward.a", Data: make([]byte, 100_000)}}, 50)
	for server.Running().NumSlowConsumers() == 0 && t.Context().Err() == nil {
		if errs := other.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
	}
	return sink, tr
}

// A sink that stands still is not waited for for ever: the server gives us up, and Disconnect does not wait either.
func TestNATSOverload(t *testing.T) {
	t.Run("Down", func(t *testing.T) {
		sink, _ := overloaded(t)
		close(sink.gate)
		select {
		case err := <-sink.down:
			if !errors.Is(err, transport.ErrUnavailable) {
				t.Errorf("Down: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("no Down")
		}
		if n := sink.frames.Load(); n == 0 || n > 1000 {
			t.Errorf("%d frames were read; what waits is bounded", n)
		}
	})
	for _, ended := range []bool{false, true} { // by itself before
		t.Run(fmt.Sprintf("Disconnect, ended %v", ended), func(t *testing.T) {
			sink, tr := overloaded(t)
			if ended {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				if errs := tr.Publish(ctx, transport.OnlyLink, []transport.Frame{{Channel: "ward.b"}}); errs == nil {
					t.Error("an answer came through")
				}
			}
			returned := make(chan struct{})
			go func() {
				tr.Disconnect(transport.OnlyLink)
				close(returned)
			}()
			for { // until it has begun
				errs := tr.Publish(t.Context(), transport.OnlyLink, []transport.Frame{{Channel: "ward.b"}})
				if errs == nil {
					t.Fatal("Publish on a link that is given up")
				}
				if strings.Contains(errs[0].Error(), "not connected") {
					break
				}
			}
			for range 1000 { // and this goroutine has had its turn
				runtime.Gosched()
			}
			close(sink.gate) // the frame that the sink is in
			<-returned
			if n := sink.frames.Load(); n > 20 {
				t.Errorf("%d frames were handed over while the link was given up", n)
			}
		})
	}
}

// When Disconnect has returned the sink is not called any more.
func TestNATSDisconnectIsSilent(t *testing.T) {
	overNATS(t, func(t *testing.T, open transport.Opener) {
		other := connected(t, open)
		ended := make(chan struct{})
		var publisher sync.WaitGroup
		publisher.Go(func() {
			frames := slices.Repeat([]transport.Frame{{Channel: "ward.a", Data: []byte("x")}}, 100)
			for {
				select {
				case <-ended:
					return
				default:
					_ = other.Publish(context.WithoutCancel(t.Context()), transport.OnlyLink, frames)
				}
			}
		})
		defer publisher.Wait()
		defer close(ended)
		sink := &numberedSink{}
		tr := counting(t, open, sink)
		for range 50 {
			if errs := tr.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.a"}); errs != nil {
				t.Fatal(errs[0])
			}
			for n := sink.frames.Load(); sink.frames.Load() < n+100; {
				runtime.Gosched()
			}
			tr.Disconnect(transport.OnlyLink)
			n := sink.frames.Load()
			if err := tr.Connect(t.Context(), transport.OnlyLink); err != nil {
				t.Fatal(err)
			}
			if more := sink.frames.Load() - n; more > 0 {
				t.Fatalf("%d frames after Disconnect", more)
			}
		}
		if len(sink.down) > 0 {
			t.Errorf("Down: %v", <-sink.down)
		}
	})
}

// Down is the last call, once, whatever is under way, and there is none after Disconnect.
func TestNATSDownIsTheLastCall(t *testing.T) {
	overNATSServer(t, func(t *testing.T, server *natsserver.Server, open transport.Opener) {
		for range 20 {
			sink := &numberedSink{}
			tr := counting(t, open, sink)
			if errs := tr.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.a"}); errs != nil {
				t.Fatal(errs[0])
			}
			frames := slices.Repeat([]transport.Frame{{Channel: "ward.a", Data: []byte("x")}}, 100)
			var publisher sync.WaitGroup
			publisher.Go(func() {
				for ok := true; ok; {
					ok = tr.Publish(t.Context(), transport.OnlyLink, frames) == nil
				}
			})
			for sink.frames.Load() < 1000 {
				runtime.Gosched()
			}
			server.KillClients()
			select {
			case err := <-sink.down:
				if !errors.Is(err, transport.ErrUnavailable) {
					t.Errorf("Down: %v", err)
				}
			case <-time.After(patience):
				t.Fatal("no Down")
			}
			n := sink.frames.Load()
			publisher.Wait()
			if errs := tr.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.a"}); len(errs) != 1 || !errors.Is(errs[0], transport.ErrUnavailable) {
				t.Errorf("Subscribe: %v", errs)
			}
			tr.Disconnect(transport.OnlyLink)
			if more := sink.frames.Load() - n; more > 0 || len(sink.down) > 0 {
				t.Errorf("after Down: %d frames, %d times Down", more, len(sink.down))
			}
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Nothing of a transport is left when it is closed, whatever state it was in.
func TestNATSLeavesNothing(t *testing.T) {
	overNATSServer(t, func(t *testing.T, server *natsserver.Server, open transport.Opener) {
		left := func() string {
			buf := make([]byte, 4<<20)
			var list []string
			for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
				if strings.Contains(stack, "nats-io/nats.go") || strings.Contains(stack, "backplane/nats.") {
					list = append(list, stack)
				}
			}
			return strings.Join(list, "\n\n")
		}
		for i := range 20 {
			tr := counting(t, open, &numberedSink{})
			if errs := tr.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.a", "ward.b"}); errs != nil {
				t.Fatal(errs[0])
			}
			var calls sync.WaitGroup
			calls.Go(func() { tr.Publish(t.Context(), transport.OnlyLink, []transport.Frame{{Channel: "ward.a"}}) })
			switch i % 4 {
			case 1:
				server.KillClients()
			case 2:
				tr.Disconnect(transport.OnlyLink)
			case 3:
				calls.Go(func() { _ = tr.Connect(t.Context(), transport.OnlyLink) })
			}
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
			calls.Wait()
		}
		deadline := time.Now().Add(patience)
		for left() != "" || server.Running().NumClients() > 0 {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections, and:\n%s", server.Running().NumClients(), left())
			}
			runtime.Gosched()
		}
	})
}
