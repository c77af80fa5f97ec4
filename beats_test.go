package backplane

import "testing"

func TestBeatsKnowWhichEpochsBeganAfterATick(t *testing.T) {
	var b beats
	if b.beganAfter(1, 0) {
		t.Error("no heartbeat was heard, and yet it is sure")
	}
	b.add(beat{tick: 10, epoch: 5})
	for _, c := range []struct {
		epoch, tick uint64
		want        bool
	}{
		{6, 9, true},   // newer than a heartbeat that came after the tick
		{5, 9, false},  // it had begun when the heartbeat left, perhaps before the tick
		{6, 10, false}, // no heartbeat came after the tick
	} {
		if got := b.beganAfter(c.epoch, c.tick); got != c.want {
			t.Errorf("beganAfter(%d, %d) = %v", c.epoch, c.tick, got)
		}
	}
	b.add(beat{tick: 20, epoch: 4}) // late
	if b.beganAfter(5, 15) {
		t.Error("a late heartbeat was believed")
	}
	b.add(beat{tick: 30, epoch: 5})
	if !b.beganAfter(6, 20) {
		t.Error("a heartbeat with the epoch of the one before does not count for later subscriptions")
	}
	if b.n != 1 {
		t.Errorf("%d entries for one epoch", b.n)
	}
}

// Whatever was forgotten: an answer is never wrong, and about the past it stays right for what began in the newer half.
func TestBeatsForgetOnlySureness(t *testing.T) {
	var b beats
	const all = 1000 // heartbeat i came at tick 10·i with epoch i
	for i := uint64(1); i <= all; i++ {
		b.add(beat{tick: 10 * i, epoch: i})
		if b.n > len(b.at) || b.at[0].epoch != 1 || b.at[b.n-1].epoch != i {
			t.Fatalf("after %d: %v", i, b.at[:b.n])
		}
	}
	for tick := uint64(0); tick < 10*all; tick += 7 {
		first := tick/10 + 1 // the first heartbeat after the tick
		for _, epoch := range []uint64{first, first + 1, first + (all-first)/2 + 2, all + 1} {
			sure, right := b.beganAfter(epoch, tick), epoch > first
			if sure && !right {
				t.Fatalf("epoch %d after tick %d: sure, and wrong", epoch, tick)
			}
			if !sure && epoch > all {
				t.Fatalf("epoch %d after tick %d: a new epoch is always sure", epoch, tick)
			}
		}
	}
	if !b.beganAfter(2, 5) {
		t.Error("the first heartbeat was forgotten: who subscribed before a member came knows all its epochs")
	}
}
