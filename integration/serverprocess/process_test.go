package serverprocess_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/integration/serverprocess"
)

var errNotYet = errors.New("not yet")

// server is a shell that writes a file when it is ready.
func server(t *testing.T, script string) *serverprocess.Process {
	t.Helper()
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready")
	return serverprocess.New(t, serverprocess.Config{
		Name: "shell", Dir: dir,
		Command: func() (*exec.Cmd, error) {
			return exec.CommandContext(context.WithoutCancel(t.Context()), "/bin/sh", "-c", script), os.RemoveAll(ready)
		},
		Answers: func() error {
			if _, err := os.Stat(ready); err != nil {
				return errNotYet
			}
			return nil
		},
	})
}

func TestServerIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	p := server(t, "touch ready; exec sleep 3600")
	if err := p.TryRestart(); err != nil {
		t.Fatal(err)
	}
	first, done := p.Pid(), p.Done()
	select {
	case <-done:
		t.Error("it ended by itself")
	default:
	}
	p.Restart()
	<-done
	if p.Pid() == first || p.Pid() == 0 {
		t.Errorf("process %d follows process %d", p.Pid(), first)
	}
	p.Kill()
	p.Kill()
	if p.Pid() != 0 {
		t.Errorf("process %d is left", p.Pid())
	}
}

func TestServerThatEnds(t *testing.T) {
	t.Parallel()
	p := server(t, "true")
	if err := p.TryRestart(); !errors.Is(err, serverprocess.ErrEnded) {
		t.Errorf("started: %v", err)
	}
	if p.Pid() != 0 {
		t.Errorf("process %d is left", p.Pid())
	}
}

// A port that was taken meanwhile is no reason to fail; everything else is.
func TestOnFreePort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcomes []error
		fails    bool
	}{
		{[]error{nil}, false},
		{[]error{serverprocess.ErrEnded, serverprocess.ErrEnded, nil}, false},
		{[]error{errNotYet}, true},
		{[]error{serverprocess.ErrEnded, errNotYet}, true},
		{[]error{serverprocess.ErrEnded, serverprocess.ErrEnded, serverprocess.ErrEnded, serverprocess.ErrEnded, serverprocess.ErrEnded}, true},
	} {
		fake, calls := &failures{TB: t}, 0
		serverprocess.OnFreePort(fake, "shell", func(addr string) error {
			if !strings.HasPrefix(addr, "127.0.0.1:") {
				t.Errorf("address %s", addr)
			}
			calls++
			return c.outcomes[calls-1]
		})
		if calls != len(c.outcomes) || fake.failed != c.fails {
			t.Errorf("%v: %d calls, failed: %v", c.outcomes, calls, fake.failed)
		}
	}
}

// failures is a test that notes that it fails.
type failures struct {
	testing.TB

	failed bool
}

func (f *failures) Fatalf(string, ...any) { f.failed = true }
