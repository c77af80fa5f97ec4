package relay_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gobackplane/backplane/examples/transports/relay"
)

// listenAt, in the environment, makes the test's own binary a relay.
const listenAt = "RELAY_LISTEN_AT"

func TestMain(m *testing.M) {
	if address := os.Getenv(listenAt); address != "" {
		os.Exit(listen(address))
	}
	os.Exit(m.Run())
}

// listen is the relay's process: it says where it listens, and ends when its input does, which is when the test's
// process ends.
func listen(address string) int {
	s, err := relay.Listen(context.Background(), address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = fmt.Fprintln(os.Stdout, s.Address())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// process is a relay in a process of its own, which can be killed and frozen like a real server.
type process struct {
	t       testing.TB
	address string // stays the same over a restart

	mu  sync.Mutex
	cmd *exec.Cmd // guarded by mu
	in  io.Closer // keeps it running; guarded by mu
}

// start starts a relay on a free port; it ends with the test.
func start(t testing.TB) *process {
	t.Helper()
	p := &process{t: t, address: "127.0.0.1:0"}
	t.Cleanup(func() { _ = p.kill() })
	if err := p.launch(); err != nil {
		t.Fatal(err)
	}
	return p
}

// launch starts the process and returns when it listens.
func (p *process) launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.CommandContext(context.WithoutCancel(p.t.Context()), os.Args[0])
	cmd.Env = append(os.Environ(), listenAt+"="+p.address)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.in = cmd, in
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "127.0.0.1:") {
		return fmt.Errorf("the relay did not start: %q, %w", line, err)
	}
	p.address = strings.TrimSpace(line)
	return nil
}

// kill ends the process as a crash does, and returns when it is gone.
func (p *process) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	p.cmd = nil
	return err
}

// stop and restart are what the suite does to a broker; the relay forgets everything.
func (p *process) stop(context.Context, string) error    { return p.kill() }
func (p *process) restart(context.Context, string) error { return p.launch() }

// freeze stops the process: its connections stay open and carry nothing. thaw lets it go on.
func (p *process) freeze() error { return p.signal(syscall.SIGSTOP) }
func (p *process) thaw() error   { return p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Signal(s)
}
