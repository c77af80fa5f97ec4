package conformance

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestClockJumps(t *testing.T) {
	var c clock
	before := time.Now()
	if now := c.now(); now.Before(before) || time.Since(now) < 0 {
		t.Errorf("a healthy clock tells %v at %v", now, before)
	}
	c.skew(-time.Hour)
	if off := time.Until(c.now()); off > -time.Hour || off < -time.Hour-time.Minute {
		t.Errorf("a clock an hour behind is %v off", off)
	}
	if !c.asked.Load() {
		t.Error("nobody asked for the time")
	}
}

// A broker that cannot be stopped is no proof, and one that fails to start is a failure, not a hang.
func TestBrokerHooks(t *testing.T) {
	open, hooks := toys(nil)
	schedule := Property{ID: "test/restart", Says: "it restarts.", Needs: NeedRestart, run: func(w *world) {
		w.needRestart()
		n := w.openAll(1)[0]
		s := n.subscribe(group("room"))
		w.restartBroker(func() {})
		w.awaitGap(s, 1)
	}}
	in := func(opts ...Option) (r Result) {
		synctest.Test(t, func(t *testing.T) { r = newSuite(open, append(opts, Bubble())).prove(t.Context(), schedule) })
		return r
	}
	if r := in(hooks); r.Verdict != Proven {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
	if r := in(); r.Verdict != NotExercised || !strings.Contains(r.Err.Error(), "Broker") {
		t.Errorf("without hooks: %v: %v", r.Verdict, r.Err)
	}
	oops := errors.New("oops")
	var starts atomic.Int64
	broken := Broker(func(context.Context, string) error { return oops }, func(context.Context, string) error {
		starts.Add(1)
		return nil
	})
	if r := in(hooks, broken); r.Verdict != Failed || !errors.Is(r.Err, oops) || starts.Load() != 1 {
		t.Errorf("%v: %v; %d starts", r.Verdict, r.Err, starts.Load())
	}
}

// What takes the broker from all runs when nobody else does.
func TestRestartsRunAlone(t *testing.T) {
	open, hooks := toys(nil)
	var running, most atomic.Int64
	run := func(alone bool) func(*world) {
		return func(*world) {
			k := running.Add(1)
			defer running.Add(-1)
			if alone && k > 1 {
				most.Store(k)
			}
		}
	}
	var all []Property
	for range 4 {
		all = append(all, Property{ID: "test/restart", Needs: NeedRestart, run: run(true)}, Property{ID: "test/other", run: run(false)})
	}
	s := newSuite(open, []Option{hooks, Short(), Linger(time.Millisecond)})
	for _, result := range s.proveAll(t.Context(), all) {
		if r := <-result; r.Verdict != Proven {
			t.Errorf("%v: %v", r.Verdict, r.Err)
		}
	}
	if most.Load() > 0 {
		t.Errorf("%d ran at once", most.Load())
	}
}

func TestStrictButFor(t *testing.T) {
	s := newSuite(nil, []Option{Strict("link/used"), Strict("link/no-repeat")})
	for id, want := range map[string]Verdict{"link/used": NotExercised, "link/half-open": Failed} {
		if r := s.strictly(Result{Property: Property{ID: id}, Verdict: NotExercised}); r.Verdict != want {
			t.Errorf("%s: %v, want %v", id, r.Verdict, want)
		}
	}
}

func TestNoFaultIsNotGreen(t *testing.T) {
	open, _ := toys(nil)
	r := newSuite(open, []Option{Short(), Linger(time.Millisecond)}).prove(t.Context(), Property{ID: "test/faults", run: func(w *world) {
		if n := w.openAll(1)[0]; n.canDeafen() || n.canMute() || n.canLose() {
			w.fatalf("it can do what nobody gave")
		}
	}})
	if r.Verdict != Proven {
		t.Error(r.Err)
	}
}
