package conformance

import (
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Soak makes the property model/random go on for d: random schedules until the time is up. Once a minute it calls tell,
// which may be nil, with a line for people. [Test] takes it from go test -conformance.soak=10m, which needs a -timeout
// beyond that. In a bubble made by the caller, d is of the bubble's clock.
func Soak(d time.Duration, tell func(line string)) Option {
	return func(s *settings) {
		s.soak, s.soakTold = d, tell
		s.positive("Soak", d)
	}
}

const (
	soakFlag = "conformance.soak"
	soakBeat = time.Minute
	soakRoom = time.Minute // what -timeout has to leave for the schedules under way, and for making a failing one smaller
)

// A flag has to be there before go test parses the command line, and so it is registered when the package is imported: in
// test binaries only, since no program should have it, and not where another version of this package has done it.
var _ = registerSoak()

func registerSoak() bool {
	if !testing.Testing() || flag.Lookup(soakFlag) != nil {
		return false
	}
	flag.Duration(soakFlag, 0, "how long model/random of package conformance runs random schedules; 0: about two seconds")
	return true
}

// soakOfGoTest returns the option that the command line gives.
func soakOfGoTest(t *testing.T) []Option {
	t.Helper()
	f := flag.Lookup(soakFlag)
	if f == nil {
		return nil
	}
	g, is := f.Value.(flag.Getter)
	if !is {
		return nil
	}
	if d, is := g.Get().(time.Duration); is && d != 0 {
		return []Option{Soak(d, func(line string) { t.Log(line) })}
	}
	return nil
}

// soakInTest begins a soak whose property runs in a bubble, where the clock is another one, and fails a test that would be
// ended by go test before the soak is over.
func (s *suite) soakInTest(t *testing.T) {
	t.Helper()
	if s.soak == 0 || s.inside != "" { // a child is there for another property
		return
	}
	if deadline, has := t.Deadline(); has && time.Until(deadline) < s.soak+soakRoom {
		t.Fatalf("a soak of %v does not fit into what go test gives it; say -timeout=%v", s.soak, s.soak+2*soakRoom)
	}
	if s.bubble {
		s.soaking.begin(s.soak, s.soakTold)
		t.Cleanup(s.soaking.end)
	}
}

// soak is the time for which random schedules run. Its clock is that of who began it.
type soak struct {
	over atomic.Bool
	runs atomic.Int64 // schedules

	mu      sync.Mutex
	begun   bool        // guarded by mu
	ended   bool        // guarded by mu
	minutes *time.Timer // guarded by mu
	finish  *time.Timer // guarded by mu
}

// begin starts a soak, unless it was begun before. It does nothing for a time of 0.
func (k *soak) begin(d time.Duration, tell func(line string)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.begun || d <= 0 {
		return
	}
	k.begun = true
	k.finish = time.AfterFunc(d, func() { k.over.Store(true) })
	start := time.Now()
	k.minutes = time.AfterFunc(soakBeat, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.ended || time.Since(start) >= d {
			return
		}
		if tell != nil {
			tell(fmt.Sprintf(modelID+": %d schedules in %v of %v", k.runs.Load(), time.Since(start).Round(time.Second), d))
		}
		k.minutes.Reset(soakBeat)
	})
}

// end ends a soak; nothing is told afterwards.
func (k *soak) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
	if k.begun {
		k.finish.Stop()
		k.minutes.Stop()
	}
}
