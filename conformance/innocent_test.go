package conformance_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/conformance"
)

// A suite that blames a healthy backplane now and then is switched off by those who run it. So the healthy one is proven
// again and again, in child processes: as it is, with one processor, and beside processes that take the processors away.

const (
	innocentRuns = "CONFORMANCE_INNOCENT"      // how often in each condition; make innocent sets it
	innocentFull = "CONFORMANCE_INNOCENT_FULL" // in full size; else in the short one
	innocentWork = "CONFORMANCE_INNOCENT_WORK" // what a child process is there for: a number of runs, or "hog"
	innocentReal = "CONFORMANCE_INNOCENT_REAL" // outside a bubble, where a starved process misses deadlines
)

// innocence is what a child process has to put up with.
type innocence struct {
	name  string
	env   []string
	hogs  int // processes beside it that never rest
	share int // of the runs, in tenths
}

const shares = 10

func conditions() []innocence {
	return []innocence{
		{"as it is", nil, 0, 3},
		{"with one processor", []string{"GOMAXPROCS=1"}, 0, 3},
		{"beside hogs", nil, runtime.NumCPU(), 2},
		{"in real time", []string{innocentReal + "=1"}, 0, 1},
		{"in real time, beside hogs", []string{innocentReal + "=1"}, runtime.NumCPU(), 1},
	}
}

func TestInnocent(t *testing.T) {
	if os.Getenv(innocentWork) != "" {
		return // a child does nothing else
	}
	runs, each := 5, false // enough to see that it works
	if text := os.Getenv(innocentRuns); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", innocentRuns, err)
		}
		each = os.Getenv(innocentFull) != ""
	}
	for _, c := range conditions() {
		n := runs
		if !each { // the conditions share the runs
			n = runs * c.share / shares
		}
		if n == 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			for range c.hogs {
				stop := child(t, "hog").start()
				defer stop()
			}
			began := time.Now()
			var wg sync.WaitGroup
			const atOnce = 2
			for i := range atOnce {
				if share := (n + i) / atOnce; share > 0 {
					wg.Go(func() {
						if out, err := child(t, strconv.Itoa(share), c.env...).run(); err != nil {
							t.Errorf("%v\n%s", err, out)
						}
					})
				}
			}
			wg.Wait()
			t.Logf("%d runs in %v", n, time.Since(began).Round(time.Second))
		})
	}
}

// innocentChild is a process that runs this test binary.
type innocentChild struct {
	*exec.Cmd
	out bytes.Buffer
}

func child(t *testing.T, work string, env ...string) *innocentChild {
	t.Helper()
	c := &innocentChild{Cmd: exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInnocentInAChild$", "-test.timeout=2h")}
	c.Env = append(append(c.Environ(), innocentWork+"="+work), env...)
	c.Stdout, c.Stderr = &c.out, &c.out
	return c
}

func (c *innocentChild) run() (string, error) {
	err := c.Run()
	return c.out.String(), err
}

// start starts a process that does not end by itself.
func (c *innocentChild) start() (stop func()) {
	if err := c.Start(); err != nil {
		return func() {}
	}
	return func() {
		_ = c.Process.Kill()
		_ = c.Wait() // it was killed
	}
}

// TestInnocentInAChild is the child process of TestInnocent.
func TestInnocentInAChild(t *testing.T) {
	work := os.Getenv(innocentWork)
	switch work {
	case "":
		return
	case "hog":
		hog(os.Getppid())
		return
	}
	runs, err := strconv.Atoi(work)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv(innocentReal) != "" {
		innocentInRealTime(t, runs)
		return
	}
	var failures []string
	for range runs {
		for _, p := range conformance.Properties() {
			if p.Needs&(conformance.NeedChild|conformance.NeedWire) != 0 || p.ID == "clock/skew" || p.ID == "link/lost-first" {
				continue // a process for each run, and it is not asked here who ends it; or what this one cannot do, does not ask, or is for clusters
			}
			open, faults := inMemory()
			opts := append([]conformance.Option{conformance.Bubble()}, faults...)
			if os.Getenv(innocentFull) == "" {
				opts = append(opts, conformance.Short())
			}
			var r conformance.Result
			synctest.Test(t, func(t *testing.T) { r = conformance.Run(t.Context(), p.ID, open, opts...) })
			inPart := p.ID == "open/fails-clean" && r.Verdict == conformance.NotExercised // nothing is dialled that could fail
			if r.Verdict != conformance.Proven && r.Verdict != conformance.Skipped && !inPart {
				failures = append(failures, fmt.Sprintf("%v, seed %#x: %v", r.Verdict, r.Seed, r.Err))
			}
		}
	}
	if len(failures) > 0 {
		t.Fatalf("the healthy backplane was blamed %d times:\n%s", len(failures), strings.Join(failures, "\n"))
	}
}

// innocentInRealTime runs the whole suite side by side, as over a network.
func innocentInRealTime(t *testing.T, runs int) {
	t.Helper()
	for range runs {
		open, opts := inMemory()
		opts = append(opts, conformance.Only(func(p conformance.Property) bool { return p.Needs&conformance.NeedChild == 0 }))
		if os.Getenv(innocentFull) == "" {
			opts = append(opts, conformance.Short())
		}
		if report := conformance.Check(t.Context(), open, opts...); report.Err() != nil {
			t.Fatalf("the healthy backplane was blamed: %s\n%v", report.Summary(), report.Err())
		}
	}
}

// hog takes a processor away, for as long as its parent lives.
func hog(parent int) {
	for n := uint64(1); ; n++ {
		if n%(1<<30) == 0 && os.Getppid() != parent {
			return
		}
	}
}
