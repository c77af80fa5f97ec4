package conformance

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
)

// toyCannot are the properties that a toy cannot be put to: it does not dial, and tells neither its
// health nor the time.
func toyCannot() []string {
	return []string{"link/slow", "link/torn", "open/fails-clean", "link/half-open", "link/one-way", "link/last-words", "clock/skew"}
}

// A foreign backplane, which shares nothing with this module's engine, is proven by the same suite.
func TestForeignBackplane(t *testing.T) {
	open, faults := toys(nil)
	opts := []Option{faults, Claims(), Bubble(), Strict(toyCannot()...)}
	if underRace { // which would take a minute; without the race detector it is in full
		opts = append(opts, Short())
	}
	Test(t, open, opts...)
}

func TestForeignBackplaneOutsideABubble(t *testing.T) {
	open, faults := toys(nil)
	Test(t, open, faults, Claims(), Strict(toyCannot()...), Short())
}

// broken is a toy with verbs replaced.
type broken struct {
	backplane.Backplane
	publish func(ctx context.Context, to backplane.Address, payload []byte) error
	handler func(backplane.Handler) backplane.Handler
	close   func(ctx context.Context) error
}

func (b *broken) Publish(ctx context.Context, to backplane.Address, payload []byte) error {
	if b.publish != nil {
		return b.publish(ctx, to, payload)
	}
	return b.Backplane.Publish(ctx, to, payload) //nolint:wrapcheck // it stands in for the toy
}

func (b *broken) Subscribe(ctx context.Context, to backplane.Address, h backplane.Handler) (backplane.Subscription, error) {
	if b.handler != nil {
		h = b.handler(h)
	}
	return b.Backplane.Subscribe(ctx, to, h) //nolint:wrapcheck // it stands in for the toy
}

func (b *broken) Close(ctx context.Context) error {
	if b.close != nil {
		return b.close(ctx)
	}
	return b.Backplane.Close(ctx) //nolint:wrapcheck // it stands in for the toy
}

// prove runs one property over broken toys, in a bubble.
func prove(t *testing.T, id string, breakIt func(*broken), opts ...Option) Result {
	t.Helper()
	open, faults := toys(func(bp backplane.Backplane) backplane.Backplane {
		b := &broken{Backplane: bp}
		breakIt(b)
		return b
	})
	var r Result
	synctest.Test(t, func(t *testing.T) {
		r = Run(t.Context(), id, open, append([]Option{faults, Bubble(), Short()}, opts...)...)
	})
	return r
}

// swapping hears each second message before the one in front of it.
func swapping(h backplane.Handler) backplane.Handler {
	var held backplane.Event
	return func(ctx context.Context, e backplane.Event) {
		if held == nil {
			held = e
			return
		}
		h(ctx, e)
		h(ctx, held)
		held = nil
	}
}

func TestFailureReads(t *testing.T) {
	r := prove(t, "order/per-publisher", func(b *broken) { b.handler = swapping })
	if r.Verdict != Failed {
		t.Fatalf("verdict %v, err %v", r.Verdict, r.Err)
	}
	var f *Failure
	if !errors.As(r.Err, &f) {
		t.Fatalf("%T is no *Failure", r.Err)
	}
	if f.Rule != "order" || f.Witness != `n1 heard n1#1 after n1#2 on group "room".` {
		t.Errorf("rule %q, witness %q", f.Rule, f.Witness)
	}
	if len(f.Timeline) == 0 || len(f.Timeline) > timelineLines {
		t.Errorf("%d lines", len(f.Timeline))
	}
	lines := strings.Split(f.Error(), "\n")
	if !strings.Contains(lines[0], "broke order/per-publisher: "+f.Property.Says) {
		t.Errorf("the first line is %q, not the promise", lines[0])
	}
	for _, want := range []string{f.Witness, "<- here", f.Property.Often} {
		if !strings.Contains(f.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, f)
		}
	}
	t.Logf("\n%v", f)
}

// A backplane that logs in a loop does not bury its failure: what is shown is what had come by then, within bounds.
func TestLogsAreBounded(t *testing.T) {
	l := &logs{start: time.Now()}
	logger := l.logger("n1")
	for i := range 3 * logLines {
		logger.Info("flood", "i", i, "long", strings.Repeat("x", 2*logWidth))
	}
	for range 3 {
		logger.Warn("again\xff")
	}
	_, _ = l.Write([]byte("late\n"))
	shown := strings.Split(l.String(), "\n")
	if len(l.lines) > logLines || len(shown) != logShown || len(shown[0]) > logWidth+30 || strings.Contains(l.String(), "time=") {
		t.Errorf("%d lines are kept, %d shown:\n%s", len(l.lines), len(shown), l)
	}
	if end := shown[logShown-3:]; !strings.Contains(end[0], "n1  level=WARN") || !strings.Contains(end[1], "that 2 more times") || !strings.Contains(end[2], "late") {
		t.Errorf("it ends with\n%s", strings.Join(end, "\n"))
	}
	if got := l.until(-1); got != "" {
		t.Errorf("before it began there was %q", got)
	}
}

// A failure of a call shows the call, and the fault before it, although nothing was subscribed.
func TestTimelineOfACallShowsIt(t *testing.T) {
	var at int64
	tick := func() stamp { at++; return stamp{Tick: at} }
	h := history{Nodes: []nodeRecord{{Name: "n1"}}, Marks: []markRecord{{Kind: markCut, Node: 0, Sub: -1, Start: tick()}}}
	for range 3 * timelineLines {
		h.Pubs = append(h.Pubs, pubRecord{Place: place{"a", group("room")}, call: call{Call: tick(), Return: tick(), Result: outcome{Class: undocumented}}})
	}
	x := violation{Sub: -1, Node: 0, At: h.Pubs[30].Return.Tick}
	lines, _ := timeline(newView(h), x)
	text := strings.Join(lines, "\n")
	if len(lines) != timelineLines || !strings.Contains(lines[0], "cut") || strings.Count(text, "undocumented   <- here") != 1 {
		t.Errorf("\n%s", text)
	}
}

func TestForeignRuleIsNamed(t *testing.T) {
	twice := func(h backplane.Handler) backplane.Handler {
		return func(ctx context.Context, e backplane.Event) {
			h(ctx, e)
			h(ctx, e)
		}
	}
	r := prove(t, "order/per-publisher", func(b *broken) { b.handler = twice })
	if r.Verdict != Failed || !strings.Contains(r.Err.Error(), "another promise broke (deliver/once)") {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
}

func TestWaitsAreBoundedAndNamed(t *testing.T) {
	deaf := func(backplane.Handler) backplane.Handler { return func(context.Context, backplane.Event) {} }
	r := prove(t, "subscribe/barrier", func(b *broken) { b.handler = deaf })
	var f *Failure
	if !errors.As(r.Err, &f) || f.Rule != "must" {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
	if r.Took > 2*defaultPatience+2*bubbleLinger {
		t.Errorf("it took %v", r.Took)
	}
}

func TestUnexpectedErrorIsTheWitness(t *testing.T) {
	oops := errors.New("oops")
	r := prove(t, "deliver/once", func(b *broken) {
		b.publish = func(context.Context, backplane.Address, []byte) error { return oops }
	})
	if r.Verdict != Failed || !errors.Is(r.Err, oops) {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
}

// A verb that ignores its context does not hang the suite: the watchdog names what it waits for.
func TestWatchdog(t *testing.T) {
	let := make(chan struct{})
	open, faults := toys(func(bp backplane.Backplane) backplane.Backplane {
		return &broken{Backplane: bp, publish: func(context.Context, backplane.Address, []byte) error {
			<-let
			return nil
		}}
	})
	r := Run(t.Context(), "deliver/once", open, faults, Short(), Patience(20*time.Millisecond))
	close(let)
	if r.Verdict != Failed || !strings.Contains(r.Err.Error(), "Publish of n1") || !strings.Contains(r.Err.Error(), "Goroutines and output:") {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
}

func TestCloseThatHangs(t *testing.T) {
	let := make(chan struct{})
	open, faults := toys(func(bp backplane.Backplane) backplane.Backplane {
		return &broken{Backplane: bp, close: func(context.Context) error {
			<-let
			return nil
		}}
	})
	r := Run(t.Context(), "deliver/self", open, faults, Short(), Patience(20*time.Millisecond))
	close(let)
	if r.Verdict != Failed || !strings.Contains(r.Err.Error(), "Close has not returned") {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
}

func TestWhatNobodyCanExerciseIsNotProven(t *testing.T) {
	open, _ := toys(nil)
	synctest.Test(t, func(t *testing.T) {
		r := Run(t.Context(), "link/loss-is-loud", open, Bubble(), Short())
		if r.Verdict != NotExercised || r.Err == nil {
			t.Errorf("%v: %v", r.Verdict, r.Err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		report := Check(t.Context(), open, Bubble(), Short(), Strict())
		if report.Count(NotExercised) != 0 || report.Count(Failed) == 0 || report.Err() == nil {
			t.Errorf("strict: %s", report.Summary())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		report := Check(t.Context(), open, Bubble(), Short())
		if report.Count(Failed) != 0 || !strings.Contains(report.Summary(), "not exercised, because") {
			t.Errorf("%s\n%v", report.Summary(), report.Err())
		}
		if skipped := report.Count(Skipped); skipped == 0 {
			t.Error("a short run left out nothing")
		}
	})
}

func TestKnownMustFail(t *testing.T) {
	known := Known("order/per-publisher", "https://example.org/7")
	if r := prove(t, "order/per-publisher", func(b *broken) { b.handler = swapping }, known); r.Verdict != KnownFailing ||
		!strings.Contains(r.Err.Error(), "https://example.org/7") {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
	if r := prove(t, "order/per-publisher", func(*broken) {}, known); r.Verdict != Failed {
		t.Errorf("a stale mark: %v", r.Verdict)
	}
}

func TestUnknownProperty(t *testing.T) {
	open, _ := toys(nil)
	if r := Run(t.Context(), "no/such", open); r.Verdict != Failed || r.Err == nil {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
}

func TestStoppedRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	open, faults := toys(nil)
	if r := Run(ctx, "deliver/once", open, faults, Short()); r.Verdict == Proven {
		t.Error("a run that was stopped has proven something")
	}
}

func TestHistoryIsWritten(t *testing.T) {
	r := prove(t, "deliver/self", func(*broken) {})
	var b strings.Builder
	if err := r.WriteHistory(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"node":0`, `"pub":0`, `"sub":0`, `"run":0`, `"mark":0`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in the history", want)
		}
	}
}

func TestGoroutinesAreKnownByOwner(t *testing.T) {
	gate := make(chan struct{})
	underLabel(t.Context(), "world", "n1", func() {
		for range 3 {
			go func() { <-gate }()
		}
	})
	if n, stacks := goroutines(`world/n1"`); n != 3 || !strings.Contains(stacks, "TestGoroutinesAreKnownByOwner") {
		t.Errorf("%d goroutines:\n%s", n, stacks)
	}
	if n, _ := goroutines(`world/n"`); n != 0 {
		t.Errorf("%d goroutines of another owner", n)
	}
	close(gate)
}
