package backplane

import (
	"testing"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// A tail mark whose fate is not known may have been heard, and who heard it forgets the epoch some member timeouts later. From then on
// neither the mark nor a later number of the epoch may come: it would be taken for the first that came of it. Random schedules
// found it: a gap of what had been heard, where a node waited long at its gate.
func TestEpochEndsWhereItsMarkIsInDoubt(t *testing.T) {
	for _, c := range []struct {
		ago  time.Duration
		ends bool
	}{{time.Second, false}, {12 * time.Second, false}, {13 * time.Second, true}, {time.Hour, true}} {
		fresh := func() (*lane, *outlet) {
			n := &Node{o: Options{MemberTimeout: 8 * time.Second, ProbeTimeout: 3 * time.Second}, maxFrame: 1 << 20}
			l := newLane(n, nil)
			o := &outlet{addr: Group("room"), lane: l, epoch: 5, last: 3, doubted: time.Now().Add(-c.ago)}
			o.aged = l.aged.PushBack(o)
			n.epochClock.Store(5)
			n.outlets.m = map[Address]*outlet{o.addr: o}
			return l, o
		}
		l, o := fresh()
		if marked := l.mark(o); marked == c.ends || o.dead != c.ends {
			t.Errorf("%v after it was sent the mark goes out again: %t, the numbers are forgotten: %t", c.ago, marked, o.dead)
		}
		l, o = fresh()
		l.put(o, &item{typ: wire.TailMark})
		l.unschedule(o)
		if again := l.pack(o, time.Now()) != nil; again == c.ends {
			t.Errorf("%v after it was sent a mark that waited goes out again: %t", c.ago, again)
		}
		l, o = fresh()
		l.put(o, &item{typ: wire.Data, payload: []byte("4")})
		l.unschedule(o)
		if l.pack(o, time.Now()); (o.epoch != 5) != c.ends || (o.last == 1) != c.ends {
			t.Errorf("%v after its mark the next message is number %d of epoch %d", c.ago, o.last, o.epoch)
		}
	}
}
