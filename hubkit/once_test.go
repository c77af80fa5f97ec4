package hubkit

import (
	"math/rand/v2"
	"testing"
)

func TestOnceTableGivesCopiesOneSerial(t *testing.T) {
	var table onceTable
	a, b := sendID{origin{1}, 1}, sendID{origin{2}, 1}
	first, ok := table.of(a)
	if !ok || first != 1 {
		t.Fatalf("the first serial is %d, %v", first, ok)
	}
	if other, _ := table.of(b); other != 2 {
		t.Errorf("another hub's send of the same number has serial %d, want 2", other)
	}
	if again, _ := table.of(a); again != first {
		t.Errorf("a second copy has serial %d, want %d", again, first)
	}
}

func TestOnceTableForgets(t *testing.T) {
	var table onceTable
	slow := sendID{origin{1}, 1}
	for n := uint64(1); n <= onceWindow; n++ {
		table.of(sendID{origin{1}, n})
	}
	if serial, ok := table.of(slow); !ok || serial != 1 {
		t.Fatalf("within the window: serial %d, %v", serial, ok)
	}
	table.of(sendID{origin{1}, onceWindow + 1})
	if _, ok := table.of(slow); ok {
		t.Error("a copy of a forgotten send was taken for a new send")
	}
	if _, ok := table.of(sendID{origin{2}, 1}); !ok {
		t.Error("a new hub's first send was taken for a forgotten one")
	}
	if len(table.known) > onceWindow {
		t.Errorf("%d sends are known, the bound is %d", len(table.known), onceWindow)
	}
}

func TestOnceTableBoundsOrigins(t *testing.T) {
	var table onceTable
	for i := range 3 * maxOrigins {
		table.of(sendID{origin{byte(i), byte(i >> 8), byte(i >> 16)}, 1})
	}
	if len(table.passed) > maxOrigins {
		t.Errorf("%d hubs are remembered, the bound is %d", len(table.passed), maxOrigins)
	}
}

// The window agrees with a set, whatever the order.
func TestWindowIsASet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var w window
	got := make(map[uint64]bool)
	top := uint64(0)
	for range 200_000 {
		serial := top + 1 + r.Uint64N(3)
		switch r.IntN(10) {
		case 0:
			serial = top + r.Uint64N(2*onceWindow)
		case 1, 2, 3, 4, 5:
			serial = top - min(top, r.Uint64N(onceWindow+10))
		}
		if serial == 0 {
			continue
		}
		top = max(top, serial)
		want := markedNow
		switch {
		case top-serial >= onceWindow:
			want = markedTooOld
		case got[serial]:
			want = markedBefore
		}
		if is := w.mark(serial); is != want {
			t.Fatalf("serial %d, top %d: %d, want %d", serial, top, is, want)
		}
		got[serial] = true
	}
}

// What cannot be judged is not delivered, and told.
func TestConnectionToldOfWhatCannotBeJudged(t *testing.T) {
	c := &Connection{out: outbox{limits: &OutboxOptions{Messages: 8, Bytes: 8}}, writing: true}
	var got tally
	c.enqueue(&message{payload: []byte("new")}, onceWindow+1, &got)
	c.enqueue(&message{payload: []byte("old")}, 1, &got)
	if want := (tally{delivered: 1, dropped: 1}); got != want {
		t.Errorf("tally %+v, want %+v", got, want)
	}
	if got, want := drain(&c.out), "new notice-1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
