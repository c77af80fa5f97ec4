package redis

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// byData answers PUBLISH by what is published; an empty answer closes the connection.
func byData(f *fake, answers map[string]string) {
	f.on("PUBLISH", func(c *fakeConn, args []string) string {
		answer, ok := answers[args[2]]
		if !ok {
			return ":0\r\n"
		}
		if answer == "" {
			_ = c.Close()
		}
		return answer
	})
}

// Each frame gets the server's own word. A receiver count of 0 is no failure.
func TestPublishOutcomes(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	byData(f, map[string]string{
		"denied":    "-NOPERM No permissions to access a channel\r\n",
		"loading":   "-LOADING Redis is loading the dataset in memory\r\n",
		"busy":      "-BUSY Redis is busy running a script.\r\n",
		"oom":       "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
		"unknown":   "-ERR unknown command 'PUBLISH', with args beginning with: 'ward:c' 'unknown' \r\n",
		"long":      "-ERR Protocol error: invalid bulk length\r\n",
		"surprise":  "-SURPRISE\r\n",
		"readonly":  "-READONLY You can't write against a read only replica.\r\n",
		"gone":      "",
		"nonsense":  "+QUEUED\r\n",
		"nil":       "$-1\r\n",
		"malformed": "what?\r\n",
	})
	n := connect(t, to(f))
	for _, c := range []struct{ send, want string }{
		{"a", "taken"},
		{"a b c", "taken,taken,taken"},
		{"denied", "denied"},
		{"a denied loading b busy oom surprise unknown long c", "taken,denied,unavailable,taken,unavailable,unavailable,unavailable,denied,too large,taken"},
		{"denied a", "denied,taken"},
		{"readonly a", "read-only,taken"},
		{"gone", "uncertain"},
		{"a denied gone b c", "taken,denied,uncertain,uncertain,uncertain"},
		{"a", "taken"},
		{"nonsense", "uncertain"},
		{"a nonsense b", "taken,uncertain,uncertain"},
		{"nil a", "uncertain,uncertain"},
		{"malformed a", "uncertain,uncertain"},
		{"a", "taken"},
	} {
		errs := n.send(t.Context(), strings.Fields(c.send)...)
		if got := classesOf(t, errs); got != c.want {
			t.Errorf("%q: %s, want %s: %v", c.send, got, c.want, errors.Join(errs...))
		}
		for _, err := range errs {
			if err != nil && strings.Contains(err.Error(), "ward:c") {
				t.Errorf("%v shows a channel", err)
			}
		}
	}
	n.sink.await(t) // none of it concerns the subscribing connection
	if got := len(n.send(t.Context())); got != 0 {
		t.Errorf("no frames have %d outcomes", got)
	}
}

// A connection that is gone is replaced by the next publish, which asks the new one for its role.
func TestPublishReconnects(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	byData(f, map[string]string{"gone": ""})
	n := connect(t, to(f))
	before := f.accepted()
	if got := classesOf(t, n.send(t.Context(), "gone")); got != "uncertain" {
		t.Error(got)
	}
	if got := f.accepted(); got != before {
		t.Errorf("%d connections were made before there was something to publish", got-before)
	}
	f.says("ROLE", "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n")
	if got := classesOf(t, n.send(t.Context(), "a", "b")); got != "read-only,read-only" {
		t.Error(got)
	}
	if err := n.Check(t.Context(), transport.OnlyLink); class(t, err) != "read-only" {
		t.Error(err)
	}
	f.on("ROLE", ordinary)
	if got := classesOf(t, n.send(t.Context(), "a")); got != "taken" {
		t.Error(got)
	}
	if got := strings.Join(f.commands(), ";"); got != "PUBLISH ward:c gone;PUBLISH ward:c a" {
		t.Errorf("the server got %s", got)
	}
	n.sink.await(t)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	n := connect(t, to(f))
	if err := n.Check(t.Context(), transport.OnlyLink); err != nil {
		t.Error(err)
	}
	f.says("ROLE", "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n")
	if err := n.Check(t.Context(), transport.OnlyLink); class(t, err) != "read-only" {
		t.Error(err)
	}
	f.says("ROLE", "-LOADING\r\n")
	if err := n.Check(t.Context(), transport.OnlyLink); class(t, err) != "unavailable" {
		t.Error(err)
	}
	f.on("ROLE", func(c *fakeConn, _ []string) string { _ = c.Close(); return "" })
	if err := n.Check(t.Context(), transport.OnlyLink); class(t, err) != "unavailable" {
		t.Error(err)
	}
	f.on("ROLE", ordinary)
	if err := n.Check(t.Context(), transport.OnlyLink); err != nil {
		t.Error(err)
	}
	n.Disconnect(transport.OnlyLink)
	if err := n.Check(t.Context(), transport.OnlyLink); class(t, err) != "unavailable" {
		t.Error(err)
	}
}

// hang makes the server keep PUBLISH to itself. It returns a channel that tells when one has come.
func hang(f *fake) <-chan struct{} {
	came := make(chan struct{}, 8)
	f.on("PUBLISH", func(c *fakeConn, _ []string) string {
		came <- struct{}{}
		swallow(c)
		return ""
	})
	return came
}

// What ends a publish under way leaves its fate unknown, and ends those behind it before they are sent.
func TestPublishInterrupted(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"context", "Disconnect", "Close", "Down"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			came := hang(f)
			n := connect(t, to(f))
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			outcome, behind := make(chan []error, 1), make(chan []error, 1)
			go func() { outcome <- n.send(ctx, "a", "b") }()
			<-came
			go func() { behind <- n.send(ctx, "c") }()
			want := "unavailable"
			switch way {
			case "context":
				cancel(transport.ErrClosed) // a cause may be one of our classes, and must not become the error's
			case "Disconnect":
				n.Disconnect(transport.OnlyLink)
			case "Close":
				if err := n.Close(); err != nil {
					t.Error(err)
				}
				want = "closed,unavailable" // either, as it comes first
			case "Down":
				f.kick()
				n.sink.await(t, "down")
				want = "unavailable,uncertain" // it may have made a new connection before the link noticed
			}
			errs := <-outcome
			if got := classesOf(t, errs); got != "uncertain,uncertain" {
				t.Errorf("%s: %v", got, errors.Join(errs...))
			}
			if way == "context" && !errors.Is(errs[0], context.Canceled) {
				t.Errorf("%v is not a canceled context", errs[0])
			}
			if got := classesOf(t, <-behind); !strings.Contains(want, got) {
				t.Errorf("behind it: %s, want %s", got, want)
			}
			if got := strings.Join(f.commands(), ";"); strings.Contains(got, "ward:c c") && way != "Down" {
				t.Errorf("the server got %s", got)
			}
		})
	}
}

func TestPublishWithAnEndedContextHarmsNothing(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	n := connect(t, to(f))
	before := f.accepted()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if got := classesOf(t, n.send(ctx, "a", "b")); got != "unavailable,unavailable" {
			t.Fatal(got)
		}
	}
	if got := classesOf(t, n.send(t.Context(), "c")); got != "taken" || f.accepted() != before {
		t.Errorf("%s, %d new connections", got, f.accepted()-before)
	}
	if got := strings.Join(f.commands(), ";"); got != "PUBLISH ward:c c" {
		t.Errorf("the server got %s", got)
	}
}

// failing is a connection whose writes fail at will.
type failing struct {
	net.Conn

	fail atomic.Bool
	sent int // how much a failing write claims to have sent
}

func (c *failing) Write(p []byte) (int, error) {
	if c.fail.Load() {
		return c.sent, errors.New("broken pipe")
	}
	return c.Conn.Write(p)
}

// A frame of which no byte left is definite, where the kind of connection is known to say the truth about it.
func TestWireCountsWhatMayHaveLeft(t *testing.T) {
	t.Parallel()
	size := int(encodedSize(transport.Frame{Channel: "ward:c", Data: []byte("a")}))
	if want := len("*3\r\n$7\r\nPUBLISH\r\n$6\r\nward:c\r\n$1\r\na\r\n"); size != want {
		t.Fatalf("a frame counts %d bytes, want %d", size, want)
	}
	for _, c := range []struct {
		exact bool
		sent  int
		want  string
	}{
		{true, 0, "unavailable,unavailable"},
		{true, 1, "uncertain,unavailable"},
		{true, size, "uncertain,unavailable"},
		{true, size + 1, "uncertain,uncertain"},
		{false, 0, "uncertain,uncertain"},
	} {
		f := newFake(t)
		var conns []*failing
		o := to(f)
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, addr)
			conns = append(conns, &failing{Conn: conn, sent: c.sent})
			return conns[len(conns)-1], err
		}
		n := connect(t, o)
		n.link(t).pub.session.sock.wire.exact = c.exact
		conns[0].fail.Store(true)
		if got := classesOf(t, n.send(t.Context(), "a", "b")); got != c.want {
			t.Errorf("exact %v, %d bytes sent: %s", c.exact, c.sent, got)
		}
		if got := classesOf(t, n.send(t.Context(), "a")); got != "taken" {
			t.Errorf("afterwards: %s", got)
		}
	}
}

// Not more is sent than a batch before its answers are read: a server may stop reading while we do not.
func TestPublishReadsBetweenBatches(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	release := make(chan struct{})
	f.on("PUBLISH", func(c *fakeConn, args []string) string {
		<-release
		return ordinary(c, args)
	})
	n := connect(t, to(f))
	wire := n.link(t).pub.session.sock.wire
	before := wire.sent.Load()
	outcome := make(chan []error)
	go func() { outcome <- n.send(t.Context(), make([]string, 3*pipelined)...) }()
	want := pipelined * encodedSize(transport.Frame{Channel: "ward:c"})
	for wire.sent.Load()-before < want && t.Context().Err() == nil {
		runtime.Gosched()
	}
	if sent := wire.sent.Load() - before; sent != want {
		t.Errorf("%d bytes were sent ahead, want %d", sent, want)
	}
	close(release)
	if errs := errors.Join(<-outcome...); errs != nil {
		t.Error(errs)
	}
}

// Disconnect ends the attempt of a publish to make a new connection.
func TestReconnectInterrupted(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	byData(f, map[string]string{"gone": ""})
	n := connect(t, to(f))
	n.timeout = time.Hour
	n.send(t.Context(), "gone")
	came := make(chan struct{}, 1)
	f.greets(func(c net.Conn) { came <- struct{}{}; swallow(c) })
	outcome := make(chan []error)
	go func() { outcome <- n.send(t.Context(), "x") }()
	<-came
	n.Disconnect(transport.OnlyLink)
	if got := classesOf(t, <-outcome); got != "unavailable" {
		t.Error(got)
	}
}
