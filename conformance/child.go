package conformance

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Some promises end the process when they are kept: a handler's panic is not swallowed. Such a property runs in a child
// process, and what became of that one is judged here.

const (
	// childEnv holds the id of the property that a child process is there for. It does nothing else.
	childEnv = "CONFORMANCE_CHILD"
	// childAtIt is what a child prints when it has come to the property, so that one that never did is not taken for an answer.
	childAtIt = "conformance: here a child process begins with "
	// beginsText and endsText are what a child prints with each call and wait, so that what was under way at its end is known.
	beginsText = "conformance: begins: "
	endsText   = "conformance: ends: "
	// childOutput bounds what is kept of a child's output: its end.
	childOutput = 1 << 20
)

// Child tells how to run one property in a process of its own, which is for properties that end it. The command has to
// come to [Test], [Check] or [Run] with the same opener, where the environment tells what to do: with Run, the id as well.
// What the process starts should end with it, for it is not there to clean up.
//
// [Test] has a default that runs the test binary again for the one subtest. With Check and Run and without Child such
// properties are not exercised.
func Child(command func(id string) *exec.Cmd) Option {
	return func(s *settings) { s.child = command }
}

// ending is what became of a child process.
type ending struct {
	output string // of stdout and then of stderr, the end of each
	err    error  // nil for status 0
	late   bool   // it was killed, because it took too long
}

// status tells how it ended.
func (e ending) status() string {
	switch {
	case e.late:
		return "had to be killed"
	case e.err == nil:
		return "exit status 0"
	default:
		return e.err.Error()
	}
}

// underWay tells which calls and waits had begun and not ended; "" for none.
func (e ending) underWay() string {
	open := map[string]int{}
	for line := range strings.Lines(e.output) {
		line = strings.TrimSuffix(line, "\n")
		if what, is := strings.CutPrefix(line, beginsText); is {
			open[what]++
		} else if what, is := strings.CutPrefix(line, endsText); is {
			open[what]--
		}
	}
	maps.DeleteFunc(open, func(_ string, n int) bool { return n <= 0 })
	return strings.Join(slices.Sorted(maps.Keys(open)), "; ")
}

// trace prints what a child process does. It goes to stdout: what the runtime says of a crash goes to stderr in several
// writes, and a line between two of them would tear it.
func (s *suite) trace(text, what string) {
	if s.inside != "" {
		_, _ = fmt.Fprintln(os.Stdout, text+what)
	}
}

// ends runs a command, with additions to its environment, and kills it after some time or when ctx ends. It must not be
// called in a bubble, where the time does not pass while something runs outside.
func ends(ctx context.Context, cmd *exec.Cmd, within time.Duration, env ...string) ending {
	var stdout, stderr lastBytes
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // what it started itself may hold its output open
	if err := cmd.Start(); err != nil {
		return ending{err: err}
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	limit := time.NewTimer(within)
	defer limit.Stop()
	var e ending
	select {
	case e.err = <-done:
	case <-limit.C:
		e.late = true
	case <-ctx.Done():
		e.late = true
	}
	if e.late {
		_ = cmd.Process.Kill() // it may have ended just now
		e.err = <-done
	}
	e.output = stdout.String() + stderr.String()
	return e
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > 2*childOutput {
		l.b = bytes.Clone(l.b[len(l.b)-childOutput:])
	}
	return len(p), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

// apart reports whether a property is to be run in a child of this process.
func (s *suite) apart(p Property) bool { return p.Needs&NeedChild != 0 && s.inside == "" }

// childTime is how long a child may take: a server may have to be started, and then each wait takes one patience at most.
func (s *suite) childTime() time.Duration {
	const least, waits = 30 * time.Second, 6
	return max(least, waits*s.patience)
}

var errNoChild = errors.New("it ends the process it runs in, and there is no command that runs it in one of its own: give Child")

// proveApart proves a property in a child process.
func (s *suite) proveApart(ctx context.Context, r *Result) {
	p := r.Property
	if s.child == nil {
		r.Verdict, r.Err = NotExercised, errNoChild
		return
	}
	start := time.Now()
	e := ends(ctx, s.child(p.ID), s.childTime(), childEnv+"="+p.ID, fmt.Sprintf("CONFORMANCE_SEED=%#x", s.seed), "GOTRACEBACK=single")
	r.Took = time.Since(start)
	if ctx.Err() != nil {
		r.Verdict, r.Err = NotExercised, stopped(ctx)
		return
	}
	w := newWorld(ctx, s, p)
	defer w.cancel()
	for line := range strings.Lines(e.output) {
		if !strings.HasPrefix(line, childAtIt) {
			_, _ = w.logs.Write([]byte(line)) // it keeps the last ones
		}
	}
	if !strings.Contains(e.output, childAtIt+p.ID) {
		r.Verdict, r.Err = NotExercised, fmt.Errorf("its child process ended before it came to it: %s\n%v", e.status(), w.logs)
		return
	}
	if err := p.ended(e); err != nil {
		if doing := e.underWay(); doing != "" {
			err = fmt.Errorf("%w; under way: %s", err, doing)
		}
		w.fail(err, false)
	}
	s.verdict(r, w, "")
}

// itself makes the commands that run one subtest of a test in another process of this test binary.
func (s *suite) itself(t *testing.T) func(id string) *exec.Cmd {
	t.Helper()
	test := t.Name()
	return func(id string) *exec.Cmd {
		binary, err := os.Executable()
		if err != nil {
			binary = os.Args[0]
		}
		var pattern []string
		for part := range strings.SplitSeq(test+"/"+id, "/") {
			pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
		}
		args := []string{"-test.run=" + strings.Join(pattern, "/"), "-test.timeout=" + s.childTime().String()}
		if testing.Short() {
			args = append(args, "-test.short")
		}
		args = append(args, ofTheTest(os.Args[1:])...)
		return exec.Command(binary, args...) //nolint:gosec,noctx // this very program; proveApart bounds it
	}
}

// ofTheTest returns those of a test binary's arguments that are the test's own: a child has its own flags of go test, and a
// soak is of another property.
func ofTheTest(args []string) []string {
	var own []string
	for i := 0; i < len(args); i++ {
		name, _, whole := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-"), "=")
		if !strings.HasPrefix(args[i], "-") || name != soakFlag && !strings.HasPrefix(name, "test.") {
			own = append(own, args[i])
			continue
		}
		if f := flag.Lookup(name); f != nil && !whole && !isSwitch(f) {
			i++ // its value
		}
	}
	return own
}

// isSwitch reports whether a flag takes no value.
func isSwitch(f *flag.Flag) bool {
	b, is := f.Value.(interface{ IsBoolFlag() bool })
	return is && b.IsBoolFlag()
}
