package redis

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// fake is a server that speaks by a script: for each command a function of its arguments that returns the bytes to send.
// What has no entry is answered as a master without a password does.
type fake struct {
	t    *testing.T
	addr string

	mu     sync.Mutex
	script map[string]func(c *fakeConn, args []string) string // guarded by mu
	conns  []*fakeConn                                        // guarded by mu: those accepted, in order
	got    []string                                           // guarded by mu: commands, without HELLO, CLIENT and ROLE

	greet func(net.Conn) // guarded by mu: sees a connection before all else; may be nil

	serving atomic.Int64 // connections that are open
	work    sync.WaitGroup
}

type fakeConn struct {
	net.Conn

	subscriptions int
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, script: map[string]func(*fakeConn, []string) string{}}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = listener.Addr().String()
	f.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c := &fakeConn{Conn: conn}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.serving.Add(1)
			f.mu.Unlock()
			f.work.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		f.kick()
		f.work.Wait()
	})
	return f
}

// on sets what is answered to a command.
func (f *fake) on(command string, answer func(c *fakeConn, args []string) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script[command] = answer
}

// says is on for an answer that is always the same.
func (f *fake) says(command, answer string) {
	f.on(command, func(*fakeConn, []string) string { return answer })
}

// greets sets who sees a connection before all else.
func (f *fake) greets(greet func(net.Conn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.greet = greet
}

// kick closes all connections.
func (f *fake) kick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
}

// awaitConns waits until so many connections are open.
func (f *fake) awaitConns(t *testing.T, n int64) {
	t.Helper()
	for begun := time.Now(); f.serving.Load() != n; runtime.Gosched() {
		if time.Since(begun) > patience {
			t.Fatalf("%d connections are open, want %d", f.serving.Load(), n)
		}
	}
}

// commands returns what came so far.
func (f *fake) commands() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.got...)
}

// accepted counts the connections so far.
func (f *fake) accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

func (f *fake) serve(c *fakeConn) {
	defer f.serving.Add(-1)
	defer func() { _ = c.Close() }()
	f.mu.Lock()
	greet := f.greet
	f.mu.Unlock()
	if greet != nil {
		greet(c)
	}
	r := bufio.NewReader(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		command := strings.ToUpper(args[0])
		f.mu.Lock()
		answer := f.script[command]
		if command != "HELLO" && command != "CLIENT" && command != "ROLE" {
			f.got = append(f.got, strings.Join(args, " "))
		}
		f.mu.Unlock()
		if answer == nil {
			answer = ordinary
		}
		if _, err := io.WriteString(c, answer(c, args)); err != nil {
			return
		}
	}
}

// ordinary answers as a master without a password.
func ordinary(c *fakeConn, args []string) string {
	switch command := strings.ToUpper(args[0]); command {
	case "HELLO":
		return "*2\r\n$6\r\nserver\r\n$5\r\nredis\r\n"
	case "ROLE":
		return "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
	case "PUBLISH":
		return ":1\r\n"
	case "SUBSCRIBE", "UNSUBSCRIBE":
		var b strings.Builder
		for _, channel := range args[1:] {
			c.subscriptions++
			b.WriteString(confirmation(strings.ToLower(command), channel, c.subscriptions))
		}
		return b.String()
	default:
		return "+OK\r\n"
	}
}

func confirmation(kind, channel string, n int) string {
	return fmt.Sprintf("*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", len(kind), kind, len(channel), channel, n)
}

func message(channel, data string) string {
	return fmt.Sprintf("*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(channel), channel, len(data), data)
}

func readCommand(r *bufio.Reader) ([]string, error) {
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != kind {
			return 0, fmt.Errorf("%q does not begin with %q", line, kind)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

// notes is a sink that writes down what it is told, as one line each.
type notes struct {
	mu      sync.Mutex
	lines   []string      // guarded by mu
	last    error         // guarded by mu: the cause of the last Down or Gap
	changed chan struct{} // guarded by mu
}

func newNotes() *notes { return &notes{changed: make(chan struct{})} }

func (n *notes) add(line string, cause error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line)
	if cause != nil {
		n.last = cause
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *notes) Frame(_ transport.Link, channel string, data []byte) {
	if len(data) > 100 {
		data = fmt.Appendf(nil, "%d bytes", len(data))
	}
	n.add(fmt.Sprintf("frame %s %s", channel, data), nil)
}

func (n *notes) Gap(_ transport.Link, channels []string, resubscribe bool, cause error) {
	n.add(fmt.Sprintf("gap %v %v", channels, resubscribe), cause)
}

func (n *notes) Down(_ transport.Link, cause error) { n.add("down", cause) }

func (n *notes) so() ([]string, chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.lines...), n.changed
}

func (n *notes) cause() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// await waits until these are the lines so far.
func (n *notes) await(t *testing.T, want ...string) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		lines, changed := n.so()
		if strings.Join(lines, "\n") == strings.Join(want, "\n") {
			return
		}
		if len(lines) >= len(want) {
			t.Fatalf("the sink was told %q, want %q", lines, want)
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("the sink was told %q within %v, want %q", lines, patience, want)
		}
	}
}

// opened is a transport over options, with its sink and its log; it is closed with the test.
type opened struct {
	*bus

	sink *notes
	log  *bytes.Buffer
}

// link is the present connection.
func (n *opened) link(t *testing.T) *link {
	t.Helper()
	l, err := n.life.Current()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t *testing.T, o Options) *opened {
	t.Helper()
	log := &bytes.Buffer{}
	tr, err := New(o)(transport.Config{
		Node: "0123456789abcdef", Namespace: "ward", Timeout: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := tr.(*bus)
	n := &opened{bus: b, sink: newNotes(), log: log}
	b.Start(n.sink)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return n
}

// connect is open with a link that is up.
func connect(t *testing.T, o Options) *opened {
	t.Helper()
	n := open(t, o)
	if err := n.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatalf("Connect: %v", err)
	}
	return n
}

func to(f *fake) Options { return Options{Addresses: []string{f.addr}} }

// send publishes one frame for each text and returns the outcomes, as many as there are frames.
func (n *opened) send(ctx context.Context, texts ...string) []error {
	frames := make([]transport.Frame, len(texts))
	for i, text := range texts {
		frames[i] = transport.Frame{Channel: "ward:c", Data: []byte(text)}
	}
	errs := n.Publish(ctx, transport.OnlyLink, frames)
	if errs == nil {
		errs = make([]error, len(texts))
	}
	return errs
}

// classes are the sentinels that an error of this package can have.
func classes() map[string]error {
	return map[string]error{
		"closed": transport.ErrClosed, "too large": transport.ErrTooLarge, "unavailable": transport.ErrUnavailable,
		"denied": transport.ErrDenied, "uncertain": transport.ErrUncertain, "invalid": transport.ErrInvalidOption,
		"read-only": transport.ErrReadOnly,
	}
}

// class names the one sentinel that err wraps; it fails the test if there are several or none.
func class(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return "taken"
	}
	var names []string
	for name, sentinel := range classes() {
		if errors.Is(err, sentinel) {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		t.Errorf("error %q is of the classes %v, want one", err, names)
		return ""
	}
	return names[0]
}

// classesOf is class for many, with commas between.
func classesOf(t *testing.T, errs []error) string {
	t.Helper()
	names := make([]string, len(errs))
	for i, err := range errs {
		names[i] = class(t, err)
	}
	return strings.Join(names, ",")
}
