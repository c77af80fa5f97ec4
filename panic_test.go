package backplane_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// panics are the functions of a user that may panic, by the name under which the test runs itself.
var panics = map[string]func(t *testing.T, n *backplane.Node){
	"handler": func(t *testing.T, n *backplane.Node) {
		t.Helper()
		_, err := n.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) { panic("a user's panic") })
		wantIs(t, "subscribe", err)
		publish(t, n, ward, "1")
	},
	"answer": func(t *testing.T, n *backplane.Node) {
		t.Helper()
		n.Answer("s", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { panic("a user's panic") })
		_, _ = n.Ask(t.Context(), n.ID(), "s", nil) // it does not return
	},
	"watcher": func(_ *testing.T, n *backplane.Node) {
		n.OnHealth(func(backplane.Health) { panic("a user's panic") })
	},
}

// A panic of a user's function is not recovered: the process ends, with its stack. The test runs itself for that.
func TestPanicsEndTheProcess(t *testing.T) {
	if name := os.Getenv("BACKPLANE_TEST_PANIC"); name != "" {
		panics[name](t, openOnly(t, inmem.NewBroker().Opener(), backplane.Options{}))
		<-t.Context().Done() // the panic comes on another goroutine
		return
	}
	for name := range panics {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPanicsEndTheProcess$", "-test.timeout=30s")
			cmd.Env = append(os.Environ(), "BACKPLANE_TEST_PANIC="+name)
			out, err := cmd.CombinedOutput()
			if _, ok := errors.AsType[*exec.ExitError](err); !ok {
				t.Fatalf("the process ended with %v", err)
			}
			if text := string(out); !strings.Contains(text, "a user's panic") || !strings.Contains(text, "panic_test.go") || strings.Contains(text, "timed out") {
				t.Errorf("it said:\n%s", text)
			}
		})
	}
}
