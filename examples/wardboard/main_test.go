package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// patience bounds every wait; nothing is expected to come near it.
const patience = 20 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// runProgram runs the program to its end.
func runProgram(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(bounded(t), args, &out, &errs)
	return status, out.String(), errs.String()
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	return lines[len(lines)-1]
}

// board is the program while it serves.
type board struct {
	url    string
	stop   context.CancelFunc
	ended  chan int // gets the exit status
	stderr bytes.Buffer
}

// startBoard starts the program on a free port and returns when it says its URL.
func startBoard(t *testing.T, args ...string) *board {
	t.Helper()
	ctx, stop := context.WithCancel(bounded(t))
	b := &board{stop: stop, ended: make(chan int, 1)}
	r, w := io.Pipe()
	go func() {
		status := run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), w, &b.stderr)
		_ = w.Close() // never fails
		b.ended <- status
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("the program ended with status %d: %s", <-b.ended, b.stderr.String())
	}
	_, rest, _ := strings.Cut(line, "http://")
	address, _, ok := strings.Cut(rest, " ")
	if !ok {
		t.Fatalf("no URL in %q", line)
	}
	b.url = "http://" + address
	t.Cleanup(func() {
		stop()
		b.ended <- <-b.ended // the program has ended; whoever asks again gets the status again
	})
	return b
}

// end stops the program as a signal does, and returns how it ended.
func (b *board) end() (status int, stderr string) {
	b.stop()
	status = <-b.ended
	b.ended <- status
	return status, b.stderr.String()
}

func TestMistakesInTheCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args string
		name string // what the one line must name
	}{
		{"-foo", "-foo"},
		{"-instances", "-instances"},
		{"-instances x", "-instances"},
		{"-instances 0", "-instances"},
		{"-instances 27", "-instances"},
		{"-check=perhaps", "-check"},
		{"redis://h", `"redis://h" is not a flag`},
		{"-backplane=", "-backplane"},
		{"-backplane foo:", "-backplane"},
		{"-backplane inmem:?foo=1", "-backplane"},
		{"-backplane redis://:secret@h:6379:7", "-backplane"},
		{"-backplane redis://u:secret@h:99999", "-backplane"},
		{"-backplane h:6379,password=secret,ssl=true", "-backplane"},
		{"-backplane redis://u:secret@h?heartbeat=fast", "-backplane"},
		{"-listen 8080", "-listen"},
		{"-listen 127.0.0.1:http", "-listen"},
		{"-listen 127.0.0.1:65536", "-listen"},
		{"-connect http://127.0.0.1:1", "-connect"},
		{"-check -listen 127.0.0.1:0", "-listen"},
		{"-check -connect=", "-connect"},
		{"-kill", "-kill"},
		{"-check -kill -connect http://h:1", "-kill"},
		{"-check -kill -instances 1", "-kill"},
		{"-check -kill -backplane redis://u:secret@h:99999", "-backplane"},
		{"-check -kill -backplane inmem:?foo=1", "-backplane"},
		{"-check -connect 127.0.0.1:8081", "-connect"},
		{"-check -connect ftp://u:secret@h", "-connect"},
		{"-check -connect http://h:1,http://u:secret@[", "-connect"},
		{"-check -connect http://h:1 -backplane none", "-backplane"},
		{"-check -kill -backplane nats+embedded:", "-kill"},
		{"-check -connect http://h:1 -instances 3", "-instances"},
	} {
		status, stdout, stderr := runProgram(t, strings.Fields(tc.args)...)
		if status != exitUsage || stdout != "" {
			t.Errorf("%s: status %d, output %q", tc.args, status, stdout)
		}
		if !strings.Contains(stderr, tc.name) || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "secret") {
			t.Errorf("%s: must be one line naming %q, without the secret: %q", tc.args, tc.name, stderr)
		}
	}
}

func TestHelpNamesTheFlags(t *testing.T) {
	status, stdout, stderr := runProgram(t, "-help")
	if status != exitOK || stderr != "" {
		t.Errorf("status %d, %q", status, stderr)
	}
	for _, flag := range []string{"-backplane", "-instances", "-listen", "-check", "-connect", "-kill"} {
		if !strings.Contains(stdout, flag) {
			t.Errorf("%s is not in %q", flag, stdout)
		}
	}
}

// What is right but cannot be had is status 1, also in one line that names the flag.
func TestWhatTheMachineRefuses(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().String()
	for _, args := range []string{
		"-listen " + taken,
		"-instances 1 -listen " + taken,
	} {
		status, _, stderr := runProgram(t, strings.Fields(args)...)
		if status != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "-listen "+taken+": the port is taken") {
			t.Errorf("%s: status %d, %q", args, status, stderr)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// Nobody listens there any more.
	for flag, args := range map[string]string{
		"-connect http://u:xxxxx@" + taken: "-check -connect http://u:secret@" + taken,
		"-backplane redis://" + taken:      "-check -backplane redis://u:secret@" + taken,
	} {
		status, _, stderr := runProgram(t, strings.Fields(args)...)
		if status != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, flag+": ") || strings.Contains(stderr, "secret") {
			t.Errorf("%s: status %d, %q", args, status, stderr)
		}
	}
}

// A signal ends the program cleanly: clients are told, nothing is logged, nothing is left.
func TestSignalEndsEverything(t *testing.T) {
	for _, instances := range []string{"1", "3"} {
		b := startBoard(t, "-instances", instances)
		nurse := dialTest(t, b.url, "4B")
		b.stop()
		nurse.wantClosed(t, websocket.StatusGoingAway)
		if status, stderr := b.end(); status != exitOK || stderr != "" {
			t.Errorf("%s instances: status %d, %q", instances, status, stderr)
		}
		wantNoGoroutines(t)
	}
}

// A client that does not answer the goodbye holds the end up for the 5 seconds that the WebSocket library waits for the
// answer, and no longer.
func TestSilentClientIsLeft(t *testing.T) {
	b := startBoard(t)
	dialTest(t, b.url, "4B") // and reads no more
	if status, stderr := b.end(); status != exitOK || stderr != "" {
		t.Errorf("status %d, %q", status, stderr)
	}
	wantNoGoroutines(t)
}

// wantNoGoroutines fails if a goroutine of this module is left, other than a test's.
func wantNoGoroutines(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		left := leftGoroutines()
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are left:\n%s", left)
		}
	}
}

func leftGoroutines() string {
	buf := make([]byte, 4<<20)
	var left []string
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "gobackplane/backplane") && !strings.Contains(g, "testing.tRunner") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}
