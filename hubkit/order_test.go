package hubkit

import (
	"errors"
	"testing"
)

func TestIssuedNumbersKnowWhatIsUnderWay(t *testing.T) {
	var i issued
	begin := func(number, floor uint64) {
		t.Helper()
		if n, f := i.begin(); n != number || f != floor {
			t.Errorf("number %d, floor %d; want %d, %d", n, f, number, floor)
		}
	}
	begin(1, 1)
	begin(2, 1)
	i.end(2)
	begin(3, 1) // 1 is under way still
	i.end(1)
	begin(4, 3)
	i.end(3)
	i.end(4)
	begin(5, 5)
	if len(i.ended) != 1 {
		t.Errorf("%d are remembered", len(i.ended))
	}
	i.end(5)
	if i.ended != nil {
		t.Error("something is remembered of nothing")
	}
}

func TestOrderAppliesNothingBelowItsFloor(t *testing.T) {
	var s orders
	mine, other := s.of(origin{1}), s.of(origin{2})
	ran := 0
	apply := func(o *order, number uint64) error { return o.apply(number, func() { ran++ }) }
	mine.advance(7)
	mine.advance(3) // late
	if err := apply(mine, 6); !errors.Is(err, errSuperseded) {
		t.Errorf("below the floor: %v", err)
	}
	for _, err := range []error{apply(mine, 7), apply(mine, 8), apply(other, 1), apply(s.of(origin{1}), 7)} {
		if err != nil {
			t.Error(err)
		}
	}
	if ran != 4 {
		t.Errorf("%d were applied", ran)
	}
	if err := apply(s.of(origin{1}), 6); !errors.Is(err, errSuperseded) {
		t.Errorf("the floor is not remembered: %v", err)
	}
	for k := range 2 * maxOrders {
		s.of(origin{3, byte(k), byte(k >> 8)})
	}
	if len(s.m) > maxOrders {
		t.Errorf("%d hubs are remembered", len(s.m))
	}
}
