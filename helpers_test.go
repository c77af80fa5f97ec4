package backplane_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// TestMain fails the run where a goroutine of this module outlives the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines outlive the tests:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines that run this module's code beside the caller's, "" if there are none; one
// that is about to end gets a moment for it.
func leaked() string {
	var stacks []string
	for range 100 {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		stacks = strings.Split(string(buf), "\n\n")
		stacks = slices.DeleteFunc(stacks[1:], func(s string) bool { return !strings.Contains(s, "gobackplane/backplane") })
		if len(stacks) == 0 {
			return ""
		}
		<-time.After(10 * time.Millisecond)
	}
	return strings.Join(stacks, "\n\n")
}

// tap stands between a node and its transport: it counts calls, answers in the transport's place where a test says so,
// and lets a test speak to the engine as a transport does.
type tap struct {
	transport.Transport
	sink transport.Sink // what the transport got

	connect     func(ctx context.Context, next func() error) error
	publish     func(ctx context.Context, frames []transport.Frame, next func() []error) []error
	subscribe   func(ctx context.Context, channels []string, next func() []error) []error
	unsubscribe func(ctx context.Context, channels []string, next func() []error) []error
	link        func(channel string) transport.Link
	check       func(ctx context.Context, link transport.Link) error

	wardFrames atomic.Int64 // frames that came in on the ward's channel
}

// tapped returns an opener of the broker with a tap that do sets up, and where to find the tap after Open.
func tapped(broker *inmem.Broker, do func(*tap)) (transport.Opener, *tap) {
	tp := &tap{}
	do(tp)
	return func(c transport.Config) (transport.Transport, error) {
		t, err := broker.Opener()(c)
		if err != nil {
			return nil, err
		}
		tp.Transport = t
		if tp.check != nil {
			return checkedTap{tp}, nil
		}
		return tp, nil
	}, tp
}

func (t *tap) Start(s transport.Sink) {
	t.sink = s
	t.Transport.Start(countingSink{s, &t.wardFrames})
}

// countingSink counts the frames on the ward's channel.
type countingSink struct {
	transport.Sink

	frames *atomic.Int64
}

func (s countingSink) Frame(l transport.Link, channel string, data []byte) {
	if channel == wardChannel {
		s.frames.Add(1)
	}
	s.Sink.Frame(l, channel, data)
}

func (t *tap) Link(channel string) transport.Link {
	if t.link != nil {
		return t.link(channel)
	}
	return t.Transport.Link(channel)
}

func (t *tap) Connect(ctx context.Context, l transport.Link) error {
	next := func() error { return t.Transport.Connect(ctx, l) }
	if t.connect != nil {
		return t.connect(ctx, next)
	}
	return next()
}

func (t *tap) Publish(ctx context.Context, l transport.Link, frames []transport.Frame) []error {
	next := func() []error { return t.Transport.Publish(ctx, l, frames) }
	if t.publish != nil {
		return t.publish(ctx, frames, next)
	}
	return next()
}

func (t *tap) Subscribe(ctx context.Context, l transport.Link, channels []string) []error {
	next := func() []error { return t.Transport.Subscribe(ctx, l, channels) }
	if t.subscribe != nil {
		return t.subscribe(ctx, channels, next)
	}
	return next()
}

func (t *tap) Unsubscribe(ctx context.Context, l transport.Link, channels []string) []error {
	next := func() []error { return t.Transport.Unsubscribe(ctx, l, channels) }
	if t.unsubscribe != nil {
		return t.unsubscribe(ctx, channels, next)
	}
	return next()
}

// checkedTap is a tap whose broker tells its role.
type checkedTap struct{ *tap }

func (t checkedTap) Check(ctx context.Context, l transport.Link) error { return t.check(ctx, l) }

// all returns one error for each of n requests.
func all(n int, err error) []error { return slices.Repeat([]error{err}, n) }

// holds reports whether a batch has a frame on a channel.
func holds(frames []transport.Frame, channel string) bool {
	return slices.ContainsFunc(frames, func(f transport.Frame) bool { return f.Channel == channel })
}

// stranger is a client of the broker that is no node: it publishes whatever it likes.
type stranger struct{ t transport.Transport }

func joinStranger(t *testing.T, broker *inmem.Broker) *stranger {
	t.Helper()
	tr, err := broker.Opener()(transport.Config{Node: "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	tr.Start(deafSink{})
	if err := tr.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stranger{tr}
}

func (s *stranger) send(t *testing.T, channel string, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if errs := s.t.Publish(t.Context(), transport.OnlyLink, []transport.Frame{{Channel: channel, Data: f}}); errs != nil {
			t.Fatal(errs)
		}
	}
}

type deafSink struct{}

func (deafSink) Frame(transport.Link, string, []byte)      {}
func (deafSink) Gap(transport.Link, []string, bool, error) {}
func (deafSink) Down(transport.Link, error)                {}

// logbook keeps what a node logs.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// count returns how many lines hold a text.
func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// async runs f on a goroutine of its own and returns where its result comes.
func async[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}

// wantIs fails where an error does not wrap all the given ones.
func wantIs(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: %v, want an error that wraps %q", what, err, w)
		}
	}
	if len(want) == 0 && err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// pending fails where an answer has come already.
func pending[T any](t *testing.T, what string, c <-chan T) {
	t.Helper()
	select {
	case v := <-c:
		t.Errorf("%s has ended already: %v", what, v)
	default:
	}
}

// within returns a context that ends after d, with the test's cancel.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

var ward = backplane.Group("ward:4B")

// wardChannel is the ward's channel on inmem.
const wardChannel = "default:g:ward:4B"

// frameOf is a frame with one message for the ward.
func frameOf(from wire.Publisher, epoch, number uint64, payload string) []byte {
	return wire.AppendMessage(wire.AppendHeader(nil, from), wire.Data, 'g', "", ward.Name(), epoch, number, nil, []byte(payload))
}
