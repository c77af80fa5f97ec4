package natsserver

import (
	"bufio"
	"context"
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

	"github.com/gobackplane/backplane/integration/serverprocess"
)

// Process is a nats-server process. Its methods may be called concurrently; they fail the test when something goes wrong
// that is not the test's subject.
type Process struct {
	settings
	*serverprocess.Process
}

// StartProcess starts a nats-server on a free port and returns when it answers. It is killed when the test ends. The
// command is built on first use, in the version that this module requires.
func StartProcess(t testing.TB, o Options) *Process {
	t.Helper()
	s := newProcess(t, o)
	s.onFreePort(s.TryRestart)
	return s
}

func newProcess(t testing.TB, o Options) *Process {
	t.Helper()
	if _, err := built(); err != nil {
		t.Fatalf("natsserver: build: %v", err)
	}
	s := &Process{settings: newSettings(t, o)}
	s.Process = serverprocess.New(t, serverprocess.Config{Name: "natsserver", Dir: s.dir, Command: s.command, Answers: s.greeted})
	return s
}

// LameDuck makes the server retire: it takes no new clients, closes the connections of those it has one by one, a second
// apart, and ends. It may be started again when [serverprocess.Process.Done] says so.
func (s *Process) LameDuck() {
	s.t.Helper()
	s.Signal(syscall.SIGUSR2)
}

// Version returns what the server calls itself: "nats-server 2.15.2".
func (s *Process) Version() string { return version }

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
	select {
	case <-s.Done():
		return false
	default:
		return s.Pid() != 0
	}
}

func (s *Process) current() bool { return true } // it answers requests

// command makes the command and its configuration.
func (s *Process) command() (*exec.Cmd, error) {
	path, err := built()
	if err != nil {
		return nil, err
	}
	// A lame duck waits before it closes the first connection, for others that become lame too; there are none here.
	config, err := s.write(`lame_duck_grace_period: "1ms"`, `lame_duck_duration: "30s"`, s.cluster)
	if err != nil {
		return nil, err
	}
	//nolint:noctx // the process ends by kill, which the test's cleanup calls
	return exec.Command(path, "-c", config), nil
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

// built is the path of the nats-server command.
//
//nolint:gochecknoglobals // built once a process
var built = sync.OnceValues(build)

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
	folder, err := os.MkdirTemp(dir, "build") // others may build it now, too: who is last replaces what is the same
	if err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	file := filepath.Join(folder, "nats-server")
	compile := exec.CommandContext(ctx, "go", "build", "-o", file, "github.com/nats-io/nats-server/v2")
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	if err := os.Rename(file, path); err != nil {
		return "", fmt.Errorf("keep it: %w", err)
	}
	return path, nil
}
