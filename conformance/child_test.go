package conformance

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestEndsTellsHowAProcessEnded(t *testing.T) {
	shell := func(script string) *exec.Cmd {
		if _, err := exec.LookPath("sh"); err != nil {
			t.Fatal(err)
		}
		return exec.CommandContext(t.Context(), "sh", "-c", script)
	}
	e := ends(t.Context(), shell("echo out; echo $WORD >&2; exit 3"), time.Minute, "WORD=err")
	if e.late || e.err == nil || e.status() != "exit status 3" || !strings.Contains(e.output, "out\n") || !strings.Contains(e.output, "err\n") {
		t.Errorf("%+v", e)
	}
	torn := "printf 'fatal ' >&2; echo between; echo error >&2" // a crash is told in several writes
	if e := ends(t.Context(), shell(torn), time.Minute); e.output != "between\nfatal error\n" {
		t.Errorf("%q", e.output)
	}
	if e := ends(t.Context(), shell("exit 0"), time.Minute); e.late || e.err != nil || e.status() != "exit status 0" {
		t.Errorf("%+v", e)
	}
	if e := ends(t.Context(), shell("exec cat"), time.Minute); e.late || e.err != nil { // nothing to read
		t.Errorf("%+v", e)
	}
	hung := shell("echo begin; exec cat")
	pipe, err := hung.StdinPipe() // never written to
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pipe.Close() }()
	if e := ends(t.Context(), hung, time.Millisecond); !e.late {
		t.Errorf("%+v", e)
	}
	if e := ends(t.Context(), exec.CommandContext(t.Context(), "no-such-program"), time.Minute); e.err == nil {
		t.Errorf("%+v", e)
	}
}

func TestLastBytesKeepsTheEnd(t *testing.T) {
	var l lastBytes
	chunk := []byte(strings.Repeat("x", childOutput))
	for range 5 {
		_, _ = l.Write(chunk)
	}
	_, _ = l.Write([]byte("the end"))
	if s := l.String(); !strings.HasSuffix(s, "the end") || len(s) > 2*childOutput {
		t.Errorf("%d bytes", len(s))
	}
}

// What nobody can start in a process of its own is not exercised, and neither is what a child never came to.
func TestChildThatNeverComesToItProvesNothing(t *testing.T) {
	open, faults := toys(nil)
	if r := Run(t.Context(), "handler/panic", open, faults, Short()); r.Verdict != NotExercised {
		t.Errorf("without Child: %v, %v", r.Verdict, r.Err)
	}
	other := Child(func(string) *exec.Cmd { return exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$") })
	if r := Run(t.Context(), "handler/panic", open, faults, Short(), other); r.Verdict != NotExercised {
		t.Errorf("with a command that does something else: %v, %v", r.Verdict, r.Err)
	}
	none := Child(func(string) *exec.Cmd { return exec.CommandContext(t.Context(), "no-such-program") })
	if r := Run(t.Context(), "handler/panic", open, faults, Short(), none); r.Verdict != NotExercised || !strings.Contains(r.Err.Error(), "no-such-program") {
		t.Errorf("without a program: %v, %v", r.Verdict, r.Err)
	}
}

// A child process is there for one property only, whatever it is asked for.
func TestChildDoesNothingElse(t *testing.T) {
	open, faults := toys(nil)
	s := newSuite(open, []Option{faults, Short()})
	var said strings.Builder
	s.inside, s.stderr = "deliver/self", &said
	report := s.check(t.Context(), Properties())
	if said.String() != childAtIt+"deliver/self\n" {
		t.Errorf("it says %q", &said)
	}
	for _, r := range report.Results {
		switch {
		case r.Property.ID == "deliver/self" && r.Verdict != Proven,
			r.Property.ID != "deliver/self" && r.Verdict != NotExercised && r.Verdict != Skipped:
			t.Errorf("%s: %v, %v", r.Property.ID, r.Verdict, r.Err)
		}
	}
}

// What only a child process can prove is marked, judged and told like all else.
func TestVerdictsOnChildren(t *testing.T) {
	open, faults := toys(nil)
	lives := Child(func(string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "sh", "-c", "echo "+childAtIt+"handler/panic; exit 0")
	})
	r := Run(t.Context(), "handler/panic", open, faults, Short(), lives)
	if r.Verdict != Failed || strings.Contains(r.Err.Error(), "not put to the test") || r.flags != " -short" {
		t.Errorf("%v, %v, flags %q", r.Verdict, r.Err, r.flags)
	}
	known := Known("handler/panic", "https://example.org/7")
	if r := Run(t.Context(), "handler/panic", open, faults, Short(), lives, known); r.Verdict != KnownFailing {
		t.Errorf("known: %v, %v", r.Verdict, r.Err)
	}
	told := 0
	if r := Run(t.Context(), "handler/panic", open, faults, Short(), Strict(), Progress(func(Result) { told++ })); r.Verdict != Failed || told != 1 {
		t.Errorf("strict, without Child: %v, %v; told %d times", r.Verdict, r.Err, told)
	}
}

// A soak is not the child's, however the flag was written.
func TestFlagsOfAChild(t *testing.T) {
	args := []string{"-test.v=true", "-test.run", "X", "-colour", "-conformance.soak", "10h", "--conformance.soak=10h", "-test.v", "rest"}
	if own := strings.Join(ofTheTest(args), " "); own != "-colour rest" {
		t.Errorf("%q", own)
	}
	s := newSuite(nil, []Option{Soak(1000*time.Hour, nil), Bubble()})
	s.inside = "handler/panic"
	if s.soakInTest(t); s.soaking.begun {
		t.Error("a child soaks")
	}
}
