package hubkit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func box(p Policy, messages, bytes int) *outbox {
	return &outbox{limits: &OutboxOptions{Messages: messages, Bytes: bytes, Policy: p}}
}

// drain takes everything, shown as "payload", or "payload-3" or "payload-3(1)" with what is missing before it and how
// much of that was superseded.
func drain(o *outbox) string {
	var out []string
	for o.waits() {
		for _, d := range o.take(make([]Delivery, 0, maxBatch)) {
			s := string(d.Payload)
			if d.Payload == nil {
				s = "notice"
			}
			if d.Missed > 0 {
				s += fmt.Sprintf("-%d", d.Missed)
			}
			if d.Superseded > 0 {
				s += fmt.Sprintf("(%d)", d.Superseded)
			}
			if d.Gap != nil {
				s += "!" + d.Gap.Cause.String()
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// fill puts messages given as "payload" or "key=payload".
func fill(o *outbox, words string) (refused int) {
	for w := range strings.FieldsSeq(words) {
		m := &message{payload: []byte(w)}
		if key, _, ok := strings.Cut(w, "="); ok {
			m.key = key
		}
		if _, ok := o.put(m); !ok {
			refused++
		}
	}
	return refused
}

func TestOutboxPolicies(t *testing.T) {
	for _, c := range []struct {
		name            string
		policy          Policy
		messages, bytes int
		put, want       string
		refused         int
	}{
		{"disconnect fits", Disconnect, 3, 100, "a b c", "a b c", 0},
		{"disconnect by count", Disconnect, 3, 100, "a b c d", "a b c", 1},
		{"disconnect by bytes", Disconnect, 9, 4, "aa bb c", "aa bb", 1},
		{"one larger message", Disconnect, 9, 4, "aaaaaaaa", "aaaaaaaa", 0},
		{"drop oldest by count", DropOldest, 3, 100, "a b c d e", "c-2 d e", 0},
		{"drop oldest by bytes", DropOldest, 9, 4, "a b c dddd e", "e-4", 0},
		{"drop oldest for a larger one", DropOldest, 9, 4, "a b cccccccc", "cccccccc-2", 0},
		{"drop newest by count", DropNewest, 3, 100, "a b c d e", "a b c notice-2", 0},
		{"keep latest replaces", KeepLatest, 9, 100, "k=1 x k=2 k=3", "k=3-2(2) x", 0},
		{"keep latest without keys", KeepLatest, 2, 100, "a b c", "b-1 c", 0},
		{"keep latest, full of other keys", KeepLatest, 2, 100, "a=1 b=1 c=1 b=2", "b=2-2(1) c=1", 0},
		{"keep latest, the new value is larger", KeepLatest, 9, 6, "x k=1 yy k=22", "k=22-2(1) yy", 0},
		{"keep latest, larger than fits in place", KeepLatest, 9, 8, "k=1 xxxx k=4444", "k=4444-2(1)", 0},
		{"keep latest, larger than all", KeepLatest, 9, 8, "x k=1 k=123456789", "k=123456789-2(1)", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := box(c.policy, c.messages, c.bytes)
			if got := fill(o, c.put); got != c.refused {
				t.Errorf("%d refused, want %d", got, c.refused)
			}
			if got := drain(o); got != c.want {
				t.Errorf("%q was put, %q came out, want %q", c.put, got, c.want)
			}
			if o.bytes != 0 || o.n != 0 || len(o.keys) != 0 {
				t.Errorf("empty, but %d bytes, %d messages, keys %v", o.bytes, o.n, o.keys)
			}
		})
	}
}

// A loss is told at its place: after what waits, before what comes later.
func TestOutboxTellsLossAtItsPlace(t *testing.T) {
	o := box(DropNewest, 2, 100)
	fill(o, "a b x y")
	batch := o.take(make([]Delivery, 0, 1))
	if len(batch) != 1 || batch[0].Lost() {
		t.Fatalf("the first delivery is %+v", batch)
	}
	fill(o, "c")
	if got, want := drain(o), "b c-2"; got != want {
		t.Errorf("then %q, want %q", got, want)
	}
}

func TestOutboxKeepsGapOfDropped(t *testing.T) {
	o := box(DropOldest, 2, 100)
	fill(o, "a")
	o.tail = o.tail.with(mark{gap: &Gap{Cause: 1}})
	fill(o, "b c d")
	if got, want := drain(o), "c-2!link d"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOutboxTakesInBounds(t *testing.T) {
	o := box(Disconnect, 1000, 1<<30)
	big := strings.Repeat("x", maxBatchBytes/2)
	fill(o, big+" "+big+" "+big)
	for i, want := range []int{2, 1} {
		if got := len(o.take(make([]Delivery, 0, maxBatch))); got != want {
			t.Errorf("batch %d has %d deliveries, want %d", i, got, want)
		}
	}
	fill(o, strings.Repeat("a ", maxBatch+1))
	for i, want := range []int{maxBatch, 1} {
		if got := len(o.take(make([]Delivery, 0, maxBatch))); got != want {
			t.Errorf("batch %d has %d deliveries, want %d", i, got, want)
		}
	}
}

// Whatever is put and taken: each message comes out or is counted, in order, and the bounds hold.
func TestOutboxLosesNothingSilently(t *testing.T) {
	for _, policy := range []Policy{DropOldest, DropNewest, KeepLatest} {
		t.Run(policy.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, uint64(policy)))
			o := box(policy, 8, 64)
			put, got, missed := 0, 0, uint64(0)
			var last []int
			take := func(n int) {
				for _, d := range o.take(make([]Delivery, 0, n)) {
					missed += d.Missed
					if d.Superseded > d.Missed {
						t.Fatalf("%d superseded of %d missed", d.Superseded, d.Missed)
					}
					if d.Payload == nil {
						continue
					}
					got++
					if last = append(last, len(d.Payload)); policy != KeepLatest && got+int(missed) > put {
						t.Fatalf("%d came out and %d were missed of %d", got, missed, put)
					}
				}
			}
			for range 100_000 {
				if r.IntN(3) == 0 {
					take(1 + r.IntN(4))
					continue
				}
				m := &message{payload: make([]byte, r.IntN(20))}
				if r.IntN(2) == 0 {
					m.key = string(rune('a' + r.IntN(6)))
				}
				put++
				o.put(m)
				if o.n > 8 || o.n > 1 && o.bytes > 64 {
					t.Fatalf("%d messages of %d bytes wait", o.n, o.bytes)
				}
			}
			for o.waits() {
				take(maxBatch)
			}
			if got+int(missed) != put {
				t.Errorf("%d put, %d came out, %d missed", put, got, missed)
			}
			if slices.Max(last) > 20 {
				t.Error("a payload was changed")
			}
		})
	}
}
