package integration_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The command proves a real server by URL, through connections that the suite can cut, and shows no password.
func TestCommandConform(t *testing.T) {
	program := filepath.Join(t.TempDir(), "backplane")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/gobackplane/backplane/cmd/backplane").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	overEachBroker(t, func(t *testing.T, url string) { testCommandConform(t, program, url) })
}

func testCommandConform(t *testing.T, program, url string) {
	t.Helper()
	conform := func(url string, args ...string) (int, string) {
		cmd := exec.CommandContext(t.Context(), program, append([]string{"conform", "-v", "-short"}, args...)...)
		cmd.Env = append(os.Environ(), "BACKPLANE_URL="+url)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			t.Fatalf("%v: %v", exit, err)
		}
		return cmd.ProcessState.ExitCode(), out.String()
	}
	status, out := conform(url, "-run", "^(deliver/once|link/used|link/loss-is-loud|handler/panic)$")
	if status != 0 || !strings.Contains(out, ": 4 proven") {
		t.Errorf("status %d\n%s", status, out)
	}
	denied, said := conform(strings.Replace(url, "secret", "sesame", 1))
	if denied != 2 || !strings.Contains(said, "no backplane to put to the test") {
		t.Errorf("with a wrong password: status %d\n%s", denied, said)
	}
	if strings.Contains(out+said, "secret") || strings.Contains(out+said, "sesame") {
		t.Errorf("a password is shown:\n%s\n%s", out, said)
	}
}
