package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane/conformance/internal/mutant"
)

// A driver that ends the process, or never comes back, ends a run in a process of its own in red: its parent lives on, and
// says which property and which verb it was, and what happened.
func TestCrashes(t *testing.T) {
	t.Parallel()
	for _, c := range mutant.Crashes() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			p, err := find(c.Breaks)
			if err != nil {
				t.Fatal(err)
			}
			var saw ending
			p.Needs |= NeedChild
			p.ended = func(e ending) error {
				saw = e
				if e.late || e.err == nil {
					return nil
				}
				return fmt.Errorf("its process ended: %w", e.err)
			}
			s := newSuite(nil, []Option{Short(), Child(func(string) *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashInAChild$", "-test.timeout=1m")
				cmd.Env = append(cmd.Environ(), mutantEnv+"="+c.Name, "GOMAXPROCS=2") // with one, no write to a map meets another
				return cmd
			})})
			r := s.prove(t.Context(), p)
			var f *Failure
			if r.Verdict != Failed || !errors.As(r.Err, &f) {
				t.Fatalf("%s ends with %v, %v\n%s\n%s", c.Defect, r.Verdict, r.Err, saw.status(), saw.output)
			}
			said := false
			for _, words := range c.Words {
				said = said || strings.Contains(saw.output, words) || strings.Contains(f.Witness, words)
			}
			if !said || !strings.Contains(f.Error(), p.ID) || !strings.Contains(f.Witness, c.Verb) {
				t.Errorf("it does not say %q, %q and %q:\n%v\n%s", c.Words, p.ID, c.Verb, f, saw.output)
			}
			t.Log(f.Witness)
		})
	}
}

// TestCrashInAChild is the child process of TestCrashes.
func TestCrashInAChild(t *testing.T) {
	for _, c := range mutant.Crashes() {
		if c.Name != os.Getenv(mutantEnv) || os.Getenv(childEnv) != c.Breaks {
			continue
		}
		open, faults := opener(c.Mutant)
		opts := []Option{faults, Short(), Only(func(p Property) bool { return p.ID == c.Breaks })}
		if c.Name == "deadlock" {
			opts = append(opts, Patience(500*time.Millisecond))
		}
		Test(t, open, opts...)
	}
}

func TestUnderWay(t *testing.T) {
	t.Parallel()
	out := "x\n" + beginsText + "a of n1\n" + beginsText + "b of n1\nnoise\n" + endsText + "a of n1\n" + beginsText + "a of n2\n"
	if got := (ending{output: out}).underWay(); got != "a of n2; b of n1" {
		t.Errorf("under way: %q", got)
	}
}
