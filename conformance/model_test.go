package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance/internal/mutant"
)

var testScale = scale{instances: 4, steps: 40, pause: time.Second}

var testFaults = []verb{doCut, doHang, doDeafen, doMute, doTear, doRestart}

func TestSeedRepeatsSchedule(t *testing.T) {
	used := map[verb]int{}
	for seed := range uint64(200) {
		one, again := draw(seed, testFaults, testScale), draw(seed, testFaults, testScale)
		if !reflect.DeepEqual(one, again) {
			t.Fatalf("seed %d draws\n%s\nand\n%s", seed, strings.Join(one.lines(), "\n"), strings.Join(again.lines(), "\n"))
		}
		if one.instances < minInstances || one.instances > testScale.instances || len(one.steps) > testScale.steps {
			t.Errorf("seed %d: %d instances, %d steps", seed, one.instances, len(one.steps))
		}
		for _, st := range one.steps {
			used[st.verb]++
			if st.node >= one.instances || st.String() == "" || st.verb != doPause && st.verb != doPublish && st.pause != 0 {
				t.Errorf("seed %d: %+v", seed, st)
			}
		}
	}
	for _, v := range []verb{
		doSubscribe, doUnsubscribe, doPublish, doAsk, doClose, doReopen, doStall, doRelease, doCut, doHang, doDeafen, doMute, doTear, doRestart,
		doHeal, doPause,
	} {
		if used[v] == 0 {
			t.Errorf("200 schedules without %s", v)
		}
	}
}

func TestStepsRead(t *testing.T) {
	s := schedule{steps: []step{
		{verb: doPublish, node: 1, address: 2, count: 3, size: 1000, callers: 4, beside: true},
		{verb: doReopen}, {verb: doPause, pause: 3 * time.Millisecond}, {verb: doCut, node: 2}, {verb: doTear, size: 7}, {verb: doRestart},
	}}
	want := `  1  n2 publishes 3 to user "a", 1000 bytes each, from 4 goroutines (while the next steps go on)
  2  n1 closes, and another opens in its place
  3  3ms pass
  4  n3's link: cut
  5  n1's link: tear after 7 bytes
  6  the broker restarts, with an empty memory`
	if got := strings.Join(s.lines(), "\n"); got != want {
		t.Errorf("%s", got)
	}
}

// shrink finds the steps that matter, whatever they are, within its bound.
func TestShrink(t *testing.T) {
	for seed := range uint64(50) {
		full := draw(seed, testFaults, testScale)
		r := full.rand("needed")
		var needed []step
		for i, st := range full.steps {
			if len(needed) < 3 && st.verb != doPublish && r.IntN(len(full.steps)-i) < 3 {
				st.beside = false
				needed = append(needed, st)
			}
		}
		runs := 0
		fails := func(s schedule) bool { // as long as it has the needed steps, in their order
			runs++
			k := 0
			for _, st := range s.steps {
				if k < len(needed) && st.verb == needed[k].verb && st.address == needed[k].address {
					k++
				}
			}
			return k == len(needed)
		}
		small := shrink(full, fails, func() bool { return runs < 1000 })
		if len(small.steps) != len(needed) {
			t.Errorf("seed %d: %d runs left\n%s", seed, runs, strings.Join(small.lines(), "\n"))
		}
		runs = 0
		if shrink(full, fails, func() bool { return runs < 7 }); runs != 7 {
			t.Errorf("%d runs, and 7 were allowed", runs)
		}
	}
}

func TestWithoutInstance(t *testing.T) {
	s := schedule{instances: 3, steps: []step{{verb: doCut, node: 0}, {verb: doCut, node: 1}, {verb: doPause, pause: 1}, {verb: doHang, node: 2}}}
	got := s.withoutInstance(1)
	want := schedule{instances: 2, steps: []step{{verb: doCut, node: 0}, {verb: doPause, pause: 1}, {verb: doHang, node: 1}}}
	if !reflect.DeepEqual(got, want) || len(s.steps) != 4 {
		t.Errorf("%+v", got)
	}
}

// A failure shows the smallest schedule: for a defect that takes a cut, an instance that opens meanwhile, and a message of
// it to a subscription that is there, just these.
func TestFailureShowsSmallestSchedule(t *testing.T) {
	p, err := find("model/random")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(mutant.All(), func(m mutant.Mutant) bool { return m.Name == "newcomers-are-strangers" })
	k := face(t, p, mutant.All()[i])
	var f *Failure
	if !errors.As(k.err, &f) || len(f.Schedule) == 0 {
		t.Fatalf("%v: %v", k.verdict, k.err)
	}
	wantSteps(t, f, "subscribes to", "link: cut", "another opens in its place", "publishes 1 to")
	if !strings.HasPrefix(f.Schedule[0], "with 2 instances; the smallest that fails") {
		t.Errorf("%q", f.Schedule[0])
	}
	if text := f.Error(); !strings.Contains(text, "Schedule: "+f.Schedule[0]) || !strings.Contains(text, "What broke is (deliver/once)") {
		t.Error(text)
	}
}

// wantSteps compares the steps of a failure, in any order, by what is in them.
func wantSteps(t *testing.T, f *Failure, parts ...string) {
	t.Helper()
	if len(f.Schedule) != len(parts)+1 {
		t.Errorf("%d steps, not %d:\n%s", len(f.Schedule)-1, len(parts), strings.Join(f.Schedule, "\n"))
	}
	for _, part := range parts {
		if !strings.Contains(strings.Join(f.Schedule[1:], "\n"), part) {
			t.Errorf("no step that %q:\n%s", part, strings.Join(f.Schedule, "\n"))
		}
	}
}

// The failing schedule is made smaller where time is real as well, and its seed finds the same.
func TestSeedRepeatsFailure(t *testing.T) {
	odd := func(h backplane.Handler) backplane.Handler {
		return func(ctx context.Context, e backplane.Event) {
			if m, is := e.(*backplane.Message); is && m.Address.Kind() != backplane.KindConnection && len(m.Payload) > 10_000 {
				h(ctx, e) // heard twice, and not at another address
			}
			h(ctx, e)
		}
	}
	open, faults := toys(func(bp backplane.Backplane) backplane.Backplane { return &broken{Backplane: bp, handler: odd} })
	opts := []Option{faults, Linger(time.Millisecond)}
	first := Run(t.Context(), "model/random", open, append(opts, Seed(1))...)
	again := Run(t.Context(), "model/random", open, append(opts, Seed(first.Seed))...)
	var f, g *Failure
	if !errors.As(first.Err, &f) || !errors.As(again.Err, &g) || f.Rule != "once" {
		t.Fatalf("%v: %v\nand again %v: %v", first.Verdict, first.Err, again.Verdict, again.Err)
	}
	wantSteps(t, f, "subscribes to", "publishes 1 to")
	if first.Seed != again.Seed || !slices.Equal(f.Schedule[1:], g.Schedule[1:]) {
		t.Errorf("seed %#x found\n%s\nand then seed %#x\n%s", first.Seed, strings.Join(f.Schedule, "\n"), again.Seed, strings.Join(g.Schedule, "\n"))
	}
	if len(first.history.Pubs) == 0 {
		t.Error("the history of the smallest schedule is not there")
	}
}

func TestWhatFailsOnceIsToldAsItWas(t *testing.T) {
	failed := false // in the whole run, of all worlds
	once := func(h backplane.Handler) backplane.Handler {
		return func(ctx context.Context, e backplane.Event) {
			if _, is := e.(*backplane.Message); is && !failed {
				failed = true
				h(ctx, e)
			}
			h(ctx, e)
		}
	}
	open, faults := toys(func(bp backplane.Backplane) backplane.Backplane { return &broken{Backplane: bp, handler: once} })
	var r Result
	synctest.Test(t, func(t *testing.T) {
		r = Run(t.Context(), "model/random", open, faults, Bubble(), Seed(1))
	})
	var f *Failure
	if !errors.As(r.Err, &f) || f.Rule != "once" || !strings.Contains(f.Schedule[0], "did not fail again") {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
}

func TestKnownAppliesToRandomSchedules(t *testing.T) {
	known := Known("model/random", "https://example.org/8")
	twice := func(h backplane.Handler) backplane.Handler {
		return func(ctx context.Context, e backplane.Event) {
			h(ctx, e)
			h(ctx, e)
		}
	}
	open, faults := toys(func(bp backplane.Backplane) backplane.Backplane { return &broken{Backplane: bp, handler: twice} })
	synctest.Test(t, func(t *testing.T) { // in full size: in a single schedule it can happen that nobody hears anything
		if r := Run(t.Context(), "model/random", open, faults, Bubble(), known, Seed(1)); r.Verdict != KnownFailing {
			t.Errorf("%v: %v", r.Verdict, r.Err)
		}
	})
	if r := prove(t, "model/random", func(*broken) {}, known); r.Verdict != Failed || !strings.Contains(fmt.Sprint(r.Err), "can go") {
		t.Errorf("a stale mark: %v: %v", r.Verdict, r.Err)
	}
}

func TestRepeatingTakesTheSameFlags(t *testing.T) {
	open, _ := toys(nil)
	if flags := newSuite(open, []Option{Short(), Soak(time.Hour, nil)}).flags(Property{ID: modelID}); flags != " -short -conformance.soak=1s" {
		t.Errorf("%q", flags)
	}
	if flags := newSuite(open, []Option{Soak(time.Hour, nil)}).flags(Property{ID: "order/per-publisher"}); flags != "" {
		t.Errorf("%q", flags)
	}
}

func TestSoak(t *testing.T) {
	if flag.Lookup(soakFlag) == nil {
		t.Error("go test does not know -" + soakFlag)
	}
	open, faults := toys(nil)
	var lines []string
	start := time.Now()
	synctest.Test(t, func(t *testing.T) {
		start = time.Now()
		soak := Soak(5*time.Minute, func(line string) { lines = append(lines, line) })
		r := Run(t.Context(), "model/random", open, faults, Bubble(), soak)
		if r.Verdict != Proven || time.Since(start) < 5*time.Minute || r.Took > 10*time.Minute {
			t.Errorf("%v after %v: %v", r.Verdict, r.Took, r.Err)
		}
	})
	if len(lines) != 4 || !strings.Contains(lines[0], "schedules in 1m0s of 5m0s") {
		t.Errorf("%q", lines)
	}
}
