package backplane

import (
	"testing"
	"time"
)

// What does not fit is one gap: it begins with the earliest of what it stands for, and counts only what all of it can tell.
func TestSpill(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	s := &subscription{n: &Node{}, in: &interest{addr: Group("g")}}
	for i, c := range []struct {
		since     time.Time
		missed    uint64
		wantSince time.Time
		want      uint64
	}{
		{at(10), 1, at(10), 1},
		{at(11), 2, at(10), 3},
		{at(9), 1, at(9), 4},
		{at(12), 0, at(9), 0}, // a gap of unknown size
		{at(13), 1, at(9), 0},
	} {
		s.spill(c.since, c.missed)
		if g := s.overflow; g.Cause != GapOverflow || !g.Since.Equal(c.wantSince) || g.Missed != c.want || g.Address != Group("g") {
			t.Errorf("step %d: %+v", i, g)
		}
	}
	if len(s.queue) != 1 || s.n.stats.gaps.Load() != 1 {
		t.Errorf("%d events, %d gaps", len(s.queue), s.n.stats.gaps.Load())
	}
	s.overflow = nil // a message fitted in behind it
	s.spill(at(20), 1)
	if g := s.overflow; len(s.queue) != 2 || g.Missed != 1 || !g.Since.Equal(at(20)) {
		t.Errorf("the next one: %+v", g)
	}
}
