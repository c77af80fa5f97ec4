package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wardboardPatience bounds every wait for the program and its page.
const wardboardPatience = 30 * time.Second

// TestWardboard runs the example as people do: as a process of its own, and with its page in a browser.
func TestWardboard(t *testing.T) {
	program := buildWardboard(t)
	t.Run("check", func(t *testing.T) {
		for _, tc := range []struct {
			args   []string
			status int
			last   string
		}{
			{nil, 0, "delivered 9 of 9"},
			{[]string{"-backplane", "none"}, 1, "delivered 3 of 9"},
		} {
			checkWardboard(t, program, tc.status, tc.last, tc.args...)
		}
	})
	t.Run("kill", func(t *testing.T) { checkWardboard(t, program, 0, "delivered 6 of 6", "-kill") })
	overEachBroker(t, func(t *testing.T, url string) { testWardboardOver(t, program, url) })
	t.Run("embedded", func(t *testing.T) { testWardboardEmbedded(t, program) })
	t.Run("browser", func(t *testing.T) { testWardboardPage(t, program) })
	t.Run("ward", func(t *testing.T) { testWardboardWard(t, program) })
}

// testWardboardOver runs processes that share a broker.
func testWardboardOver(t *testing.T, program, broker string) {
	t.Helper()
	// Three processes are a farm; a fourth checks them.
	t.Run("processes", func(t *testing.T) {
		var urls []string
		for range 3 {
			urls = append(urls, startWardboard(t, program, "-listen", "127.0.0.1:0", "-instances", "1", "-backplane", broker).url)
		}
		checkWardboard(t, program, 0, "delivered 9 of 9", "-connect", strings.Join(urls, ","))
		checkWardboard(t, program, 0, "delivered 9 of 9", "-backplane", broker)
	})
	t.Run("wrong password", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), program, "-check", "-backplane", strings.Replace(broker, "secret", "sesame", 1))
		said, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
			t.Errorf("it ended with %v", err)
		}
		if text := string(said); !strings.HasPrefix(text, "wardboard: -backplane ") || !strings.Contains(text, "denied") || strings.Contains(text, "sesame") {
			t.Errorf("it said %q", text)
		}
	})
	// One of three processes is killed in the middle of the check, with SIGKILL.
	t.Run("kill", func(t *testing.T) {
		out := checkWardboard(t, program, 0, "delivered 6 of 6", "-kill", "-backplane", broker+"?heartbeat=1s&memberTimeout=4s")
		if !strings.Contains(out, "s: 6 nurses; no answer from instance 127.0.0.1:") {
			t.Errorf("the dead instance was never missing:\n%s", out)
		}
	})
}

// testWardboardEmbedded runs one process, and three which find each other, that have their broker inside.
func testWardboardEmbedded(t *testing.T, program string) {
	t.Helper()
	checkWardboard(t, program, 0, "delivered 9 of 9", "-backplane", "nats+embedded:")
	var peers, urls []string
	for range 3 {
		peers = append(peers, closedPort(t))
	}
	for _, listen := range peers {
		u := "nats+embedded://" + listen + "?secret=hush&peers=" + strings.Join(peers, ",")
		urls = append(urls, startWardboard(t, program, "-listen", "127.0.0.1:0", "-instances", "1", "-backplane", u).url)
	}
	checkWardboard(t, program, 0, "delivered 9 of 9", "-connect", strings.Join(urls, ","))
}

func buildWardboard(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "wardboard")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./wardboard")
	cmd.Dir = filepath.Join("..", "examples")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// checkWardboard runs the program's own check and returns what it printed.
func checkWardboard(t *testing.T, program string, status int, last string, args ...string) (output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wardboardPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"-check"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(stdout), "\n"), "\n")
	if code := cmd.ProcessState.ExitCode(); code != status || lines[len(lines)-1] != last || stderr.Len() > 0 {
		t.Errorf("wardboard -check %v: status %d, want %d with %q\n%s%s", args, code, status, last, stdout, stderr.String())
	}
	return string(stdout)
}

// wardboard is a running process.
type wardboard struct {
	url    string
	cmd    *exec.Cmd
	stdout io.ReadCloser
	stderr bytes.Buffer
	ended  bool
	warns  bool // what is done to the others, or to it, may be logged
}

// startWardboard starts the program and returns when it says its URL. At the end of the test it is stopped by a signal,
// and has to end well.
func startWardboard(t *testing.T, program string, args ...string) *wardboard {
	t.Helper()
	w := &wardboard{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)}
	w.cmd.Stderr = &w.stderr
	var err error
	if w.stdout, err = w.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err = w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop(t) })
	line, err := bufio.NewReader(w.stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("wardboard %v said no URL: %v\n%s", args, err, w.stderr.String())
	}
	_, rest, _ := strings.Cut(line, "http://")
	address, _, _ := strings.Cut(rest, " ")
	w.url = "http://" + address
	return w
}

// stop ends the process as a supervisor does.
func (w *wardboard) stop(t *testing.T) {
	t.Helper()
	if w.ended {
		return
	}
	w.ended = true
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	late := time.AfterFunc(wardboardPatience, func() { _ = w.cmd.Process.Kill() }) // it may have ended by now
	defer late.Stop()
	if err := w.cmd.Wait(); err != nil || w.stderr.Len() > 0 && !w.warns {
		t.Errorf("wardboard %v ended with %v and said %q", w.cmd.Args[1:], err, w.stderr.String())
	}
}

// kill ends the process as a crash does: without a word to anybody.
func (w *wardboard) kill(t *testing.T) {
	t.Helper()
	w.ended = true
	if err := w.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = w.cmd.Wait() // killed: always an error
}

// browserPath finds a Chromium or Chrome.
func browserPath() (path string, ok bool) {
	names := []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	}
	i := slices.IndexFunc(names, func(name string) bool {
		var err error
		path, err = exec.LookPath(name)
		return err == nil
	})
	return path, i >= 0
}
