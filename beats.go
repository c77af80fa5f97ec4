package backplane

import "github.com/gobackplane/backplane/internal/wire"

// beat is what a heartbeat tells about the numbers of its sender: an epoch greater than this one began after the tick.
// See numbers.go.
type beat struct{ tick, epoch uint64 }

// beats remembers the heartbeats of one member for as long as somebody may ask about them, in a bounded space: the first
// one and the newest ones, and of those between the fewer the older they are. A forgotten one makes the answer about a
// subscription of that time less sure, never wrong.
type beats struct {
	n  int
	at [12]beat // at[:n] is ascending in both
}

// add records a heartbeat. One that came late, with an epoch older than one before, tells nothing and is ignored.
func (s *beats) add(b beat) {
	if s.n > 0 {
		switch last := &s.at[s.n-1]; {
		case b.epoch < last.epoch:
			return
		case b.epoch == last.epoch:
			last.tick = b.tick // the same, for later subscriptions too
			return
		}
	}
	if s.n == len(s.at) { // every second one of the older half goes, but not the first
		kept := 1
		for i := 1; i < s.n; i++ {
			if i >= s.n/2 || i%2 == 0 {
				s.at[kept] = s.at[i]
				kept++
			}
		}
		s.n = kept
	}
	s.at[s.n] = b
	s.n++
}

// beganAfter reports whether it is sure that an epoch began after the given tick.
func (s *beats) beganAfter(epoch, tick uint64) bool {
	for _, b := range s.at[:s.n] {
		if b.tick > tick {
			return b.epoch < epoch // the first one after the tick is the lowest
		}
	}
	return false
}

// answered notes the epochs that members told in a round that is over. What they begin later began after it, for the subscriptions
// that it has put in force: they are at an earlier tick than these beats.
func (t *memberTable) answered(epochs map[wire.Publisher]beat) {
	tick := t.n.ticks.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	for p, b := range epochs {
		if m := t.m[p]; m != nil {
			m.beats.add(beat{tick, b.epoch})
		}
	}
}

// settled forgets what heartbeats of a member told of its epochs: only one that is newer than the given one is sure to have
// begun while its messages come here.
func (t *memberTable) settled(p wire.Publisher, epoch uint64) {
	tick := t.n.ticks.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.m[p]; m != nil {
		m.beats = beats{}
		m.beats.add(beat{tick, epoch})
	}
}
