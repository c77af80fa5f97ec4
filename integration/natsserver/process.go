package natsserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
)

// Process is a nats-server process. Its methods may be called concurrently; they fail the test when something goes wrong
// that is not the test's subject.
type Process struct {
	settings

	mu   sync.Mutex
	cmd  *exec.Cmd     // guarded by mu
	done chan struct{} // closed when cmd's process is gone; guarded by mu
}

// StartProcess starts a nats-server on a free port and returns when it answers. It is killed when the test ends. The
// command is built on first use, in the version that this module requires.
func StartProcess(t testing.TB, o Options) *Process {
	t.Helper()
	s := newProcess(t, o)
	s.onFreePort(s.launch)
	return s
}

func newProcess(t testing.TB, o Options) *Process {
	t.Helper()
	if _, err := command(); err != nil {
		t.Fatalf("natsserver: build: %v", err)
	}
	s := &Process{settings: newSettings(t, o)}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("natsserver %s said:\n%s", s.Addr, s.output())
		}
	})
	return s
}

// Kill ends the process with SIGKILL, as a crash does, and returns when it is gone. Clients see their connections reset.
func (s *Process) Kill() {
	s.t.Helper()
	s.kill()
}

// Restart starts the server again on its port, after killing it if it runs, and returns when it answers.
func (s *Process) Restart() {
	s.t.Helper()
	if err := s.TryRestart(); err != nil {
		s.t.Fatalf("natsserver: restart: %v", err)
	}
}

// TryRestart is Restart for goroutines that must not end the test.
func (s *Process) TryRestart() error {
	s.kill()
	return s.launch()
}

// Freeze stops the process with SIGSTOP: its sockets stay open and silent. The end of the test is no reason to thaw it.
func (s *Process) Freeze() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Thaw lets a frozen process go on.
func (s *Process) Thaw() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

// LameDuck makes the server retire: it takes no new clients, closes the connections of those it has one by one, a second
// apart, and ends. It may be started again when [Process.Done] says so.
func (s *Process) LameDuck() {
	s.t.Helper()
	s.signal(syscall.SIGUSR2)
}

// Done is closed when the process that runs now has ended.
func (s *Process) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

// Version returns what the server calls itself: "nats-server 2.15.2".
func (s *Process) Version() string { return version }

// Pid is the process id of the running server, 0 if there is none.
func (s *Process) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

func (s *Process) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		s.t.Fatalf("natsserver: the server does not run")
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("natsserver: %v: %v", sig, err)
	}
}

// kill ends the process, if there is one, and waits for it.
func (s *Process) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Logf("natsserver: kill: %v", err)
	}
	<-s.done
	s.cmd = nil
}

// connect connects to the server as a user with all rights.
func (s *Process) connect() (*natsgo.Conn, error) {
	var o []natsgo.Option
	if s.opts.TLS {
		o = append(o, natsgo.RootCAs(s.CAFile), natsgo.ClientCert(s.CertFile, s.KeyFile))
	}
	return s.connected("nats://"+s.Addr, o...)
}

// runs reports whether the process was started and has not ended. It may be frozen.
func (s *Process) runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

func (s *Process) current() bool { return true } // it answers requests

// launch starts the process and waits until it answers.
func (s *Process) launch() error {
	path, err := command()
	if err != nil {
		return err
	}
	// A lame duck waits before it closes the first connection, for others that become lame too; there are none here.
	config, err := s.write(`lame_duck_grace_period: "1ms"`, `lame_duck_duration: "30s"`, s.cluster)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	//nolint:noctx // the process ends by kill, which the test's cleanup calls
	cmd := exec.Command(path, "-c", config)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	done := make(chan struct{})
	go func() { // ends with the process
		defer close(done)
		_ = cmd.Wait() // killed: always an error
	}()
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	if err := s.await(done); err != nil {
		s.kill()
		return err
	}
	return nil
}

// await returns when the server greets who connects.
func (s *Process) await(gone <-chan struct{}) error {
	const most = 200 * time.Millisecond
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	for wait := time.Millisecond; ; wait = min(2*wait, most) {
		err := s.greeted()
		if err == nil {
			return nil
		}
		select {
		case <-gone:
			return errEnded
		case <-deadline.C:
			return fmt.Errorf("not ready after %v: %w", startTimeout, err)
		case <-time.After(wait):
		}
	}
}

// greeted reads the first line that a server sends, before it asks for anything, TLS included.
func (s *Process) greeted() error {
	//nolint:noctx // bounded
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err = conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("set the deadline: %w", err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !strings.HasPrefix(line, "INFO {") {
		return fmt.Errorf("greeted with %q", line)
	}
	return nil
}

func (s *Process) logFile() string { return s.file("nats.log") }

// output is the end of what the server wrote.
func (s *Process) output() string {
	const most = 8 << 10
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// command is the path of the nats-server command.
//
//nolint:gochecknoglobals // built once a process
var command = sync.OnceValues(build)

// build builds the command once for all test runs of a clone, into the folder that the other tools of the tests live in.
func build() (string, error) {
	const patience = 10 * time.Minute // on a machine that is busy and has built nothing of it yet
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "..", ".tmp", "bin")
	path := filepath.Join(dir, "nats-server-"+server.VERSION)
	if _, err = os.Stat(path); err == nil {
		return path, nil
	}
	if err = os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make the folder of tools: %w", err)
	}
	built, err := os.MkdirTemp(dir, "build") // others may build it now, too: who is last replaces what is the same
	if err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(built) }()
	file := filepath.Join(built, "nats-server")
	compile := exec.CommandContext(ctx, "go", "build", "-o", file, "github.com/nats-io/nats-server/v2")
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	if err := os.Rename(file, path); err != nil {
		return "", fmt.Errorf("keep it: %w", err)
	}
	return path, nil
}
