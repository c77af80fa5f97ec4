// Package serverprocess runs servers as processes that tests kill, freeze and start again. The packages of the servers are made
// of it.
package serverprocess

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ErrEnded says that the server ended instead of answering. Its port may have been taken by another.
var ErrEnded = errors.New("the server ended")

// StartTimeout is how long a server may take until it answers.
const StartTimeout = 20 * time.Second

// FreeAddr finds a port of 127.0.0.1 that nobody listens on now.
func FreeAddr() (string, error) {
	//nolint:noctx // does not wait
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return addr, nil
}

// OnFreePort starts a server, of a package with this name, on a port that nobody listens on. Another process may take the
// port first: where start says [ErrEnded], it is called again with another one.
func OnFreePort(t testing.TB, name string, start func(addr string) error) {
	t.Helper()
	const attempts = 5
	var err error
	for range attempts {
		var addr string
		if addr, err = FreeAddr(); err != nil {
			break
		}
		if err = start(addr); err == nil {
			return
		}
		if !errors.Is(err, ErrEnded) {
			break
		}
	}
	t.Fatalf("%s: start: %v", name, err)
}

// Config says how to run a server.
type Config struct {
	// Name is that of the package whose server it is, for messages.
	Name string
	// Dir is a folder of the test's own. The server runs there.
	Dir string
	// Command makes the command, and what it needs beside it. It is called for each start.
	Command func() (*exec.Cmd, error)
	// Answers asks a server that was started whether it is ready. It is called until it returns nil.
	Answers func() error
}

// Process is a server. Its methods may be called concurrently; they fail the test when something goes wrong that is not the
// test's subject.
type Process struct {
	t    testing.TB
	conf Config

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil: there is none; guarded by mu
	done chan struct{} // closed when cmd's process is gone; guarded by mu
}

// New makes a server, which [Process.TryRestart] starts. It is killed when the test ends; where that failed, the end of
// what the server said is told.
func New(t testing.TB, c Config) *Process {
	t.Helper()
	p := &Process{t: t, conf: c}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", c.Name, p.output())
		}
	})
	return p
}

// Kill ends the process with SIGKILL, as a crash does, and returns when it is gone. Clients see their connections reset.
func (p *Process) Kill() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Logf("%s: kill: %v", p.conf.Name, err)
	}
	<-p.done
	p.cmd = nil
}

// Restart starts the server again, after killing it if it runs, and returns when it answers.
func (p *Process) Restart() {
	p.t.Helper()
	if err := p.TryRestart(); err != nil {
		p.t.Fatalf("%s: restart: %v", p.conf.Name, err)
	}
}

// TryRestart is Restart for goroutines that must not end the test.
func (p *Process) TryRestart() error {
	p.Kill()
	cmd, err := p.conf.Command()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd.Dir = p.conf.Dir
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
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	if err := p.await(done); err != nil {
		p.Kill()
		return err
	}
	return nil
}

// await returns when the server answers.
func (p *Process) await(gone <-chan struct{}) error {
	const most = 200 * time.Millisecond
	deadline := time.NewTimer(StartTimeout)
	defer deadline.Stop()
	for wait := time.Millisecond; ; wait = min(2*wait, most) {
		err := p.conf.Answers()
		if err == nil {
			return nil
		}
		select {
		case <-gone:
			return ErrEnded
		case <-deadline.C:
			return fmt.Errorf("not ready after %v: %w", StartTimeout, err)
		case <-time.After(wait):
		}
	}
}

// Freeze stops the process with SIGSTOP, and returns when it has stopped: its sockets stay open and silent. The end of the
// test is no reason to thaw it.
func (p *Process) Freeze() {
	p.t.Helper()
	p.with("freeze", Freeze)
}

// Freeze stops a process with SIGSTOP, and returns when it has stopped.
func Freeze(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return awaitStopped(p.Pid)
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() {
	p.t.Helper()
	p.Signal(syscall.SIGCONT)
}

// Signal sends a signal to the process.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	p.with(sig.String(), func(running *os.Process) error { return running.Signal(sig) })
}

// with does something to the process, which must run.
func (p *Process) with(what string, do func(*os.Process) error) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		p.t.Fatalf("%s: the server does not run", p.conf.Name)
	}
	if err := do(p.cmd.Process); err != nil {
		p.t.Fatalf("%s: %s: %v", p.conf.Name, what, err)
	}
}

// Done is closed when the process that runs now has ended.
func (p *Process) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Pid is the process id of the running server, 0 if there is none.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *Process) log() string { return filepath.Join(p.conf.Dir, "log") }

// output is the end of what the server wrote.
func (p *Process) output() string {
	const most = 8 << 10
	text, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
