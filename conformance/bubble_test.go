package conformance

import (
	"context"
	"errors"
	"flag"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
)

func waitsForNobody(nobody <-chan time.Time) { <-nobody }

// leaking returns toys whose Close leaves a goroutine behind, which waits for what f returns.
func leaking(f func() <-chan time.Time) (Opener, Option) {
	return toys(func(bp backplane.Backplane) backplane.Backplane {
		return &broken{Backplane: bp, close: func(ctx context.Context) error {
			go waitsForNobody(f())
			return bp.Close(ctx) //nolint:wrapcheck // it stands in for the toy
		}}
	})
}

func mustFind(t *testing.T, id string) Property {
	t.Helper()
	p, err := find(id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What a backplane leaves behind in a bubble ends no test binary: if it ends late nobody but close/clean minds, and if it
// never does, that is a failure that shows it.
func TestLeaksInABubble(t *testing.T) {
	late := func() <-chan time.Time { return time.After(afterglow / 2) }
	never := func() <-chan time.Time { return make(chan time.Time) }
	for _, c := range []struct {
		name, id string
		leak     func() <-chan time.Time
		want     Verdict
	}{
		{"ends late", "deliver/self", late, Proven},
		{"ends late", "close/clean", late, Failed},
		{"never ends", "deliver/self", never, Failed},
	} {
		open, faults := leaking(c.leak)
		r := newSuite(open, []Option{faults, Bubble(), Short()}).inBubble(t, mustFind(t, c.id))
		if r.Verdict != c.want {
			t.Errorf("%s, %s: %v, %v", c.name, c.id, r.Verdict, r.Err)
		}
		if c.want == Failed && !strings.Contains(r.Err.Error(), "waitsForNobody") {
			t.Errorf("%s, %s: the goroutine is not named in\n%v", c.name, c.id, r.Err)
		}
		if c.id == "deliver/self" && c.want == Failed && !errors.Is(r.Err, errLeak) {
			t.Errorf("%s: %v", c.name, r.Err)
		}
	}

	open, faults := leaking(never)
	known := Known("deliver/self", "https://example.org/7")
	if r := newSuite(open, []Option{faults, Bubble(), Short(), known}).inBubble(t, mustFind(t, "deliver/self")); r.Verdict != KnownFailing {
		t.Errorf("a known leak: %v, %v", r.Verdict, r.Err)
	}

	if err := bubble(t, func(context.Context) { <-make(chan struct{}) }); !errors.Is(err, errLeak) || !strings.Contains(err.Error(), "never came") {
		t.Errorf("a bubble that hangs: %v", err)
	}
}

// What go test is asked to leave out costs nothing: no broker is stopped for it.
func TestWhatIsSkippedDoesNotRunAhead(t *testing.T) {
	for _, c := range []struct {
		run, skip string
		want      bool
	}{
		{"", "", false},
		{"^TestX$", "^TestY$", false},
		{"^TestX$/order", "", true},
		{"", "/restart", true},
	} {
		set(t, "test.run", c.run)
		set(t, "test.skip", c.skip)
		if selective() != c.want {
			t.Errorf("-run %q -skip %q: %v", c.run, c.skip, !c.want)
		}
	}
}

// set sets a flag of go test, which has read them all already, until the test is over.
func set(t *testing.T, name, value string) {
	t.Helper()
	before := flag.Lookup(name).Value.String()
	t.Cleanup(func() { _ = flag.Set(name, before) }) // it was that
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
}

// With -failfast nobody asks for what comes after a failure. It is stopped then, and nothing stays open.
func TestWhatRunsAheadIsStopped(t *testing.T) {
	var open atomic.Int64
	opener, faults := toys(func(bp backplane.Backplane) backplane.Backplane {
		open.Add(1)
		return &broken{Backplane: bp, close: func(ctx context.Context) error {
			defer open.Add(-1)
			return bp.Close(ctx) //nolint:wrapcheck // it stands in for the toy
		}}
	})
	begun := make(chan struct{}, 1)
	hang := func(w *world) {
		w.openAll(2)
		begun <- struct{}{}
		<-w.ctx.Done()
	}
	s := newSuite(opener, []Option{faults, Short()})
	results, stop := s.proveAhead(t.Context(), []Property{{ID: "test/hangs", run: hang}, {ID: "test/restart", Needs: NeedRestart, run: hang}})
	<-begun
	stop()
	if n := open.Load(); n != 0 {
		t.Errorf("%d instances are open", n)
	}
	for _, result := range results {
		if r := <-result; r.Verdict != NotExercised || !errors.Is(r.Err, errStopped) {
			t.Errorf("%s: %v, %v", r.Property.ID, r.Verdict, r.Err)
		}
	}
}
