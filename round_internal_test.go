package backplane

import (
	"testing"
	"time"
)

// On a starved machine a question comes back late. A gate that lasts longer for it does not last for ever.
func TestGateOfASlowEchoEnds(t *testing.T) {
	n := &Node{o: Options{ProbeInterval: time.Second}}
	for took, most := range map[time.Duration]time.Duration{
		time.Millisecond: time.Second / gatePatience, 30 * time.Millisecond: time.Second, 5 * time.Second: time.Second,
	} {
		b := &barrier{l: &link{n: n}, wake: make(chan struct{}, 1)}
		r := newRound()
		r.nonce, r.gate, r.begun = 7, true, time.Now().Add(-took)
		b.current = r
		b.echoed(7)
		if least, until := time.Until(r.least), time.Until(r.until); least > most || until > most || least <= 0 || r.until.Before(r.least) {
			t.Errorf("a question that came back after %v: the gate lasts for %v at least, and alone for %v; want at most %v", took, least, until, most)
		}
	}
}
