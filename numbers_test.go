package backplane_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// lose drops the next k frames on a channel to a node.
func lose(broker *inmem.Broker, to *backplane.Node, k int, channel string) {
	broker.Drop(to.ID(), k, func(c string, _ []byte) bool { return c == channel })
}

func TestLostMessagesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atA, _ := listen(t, a, ward)
		var gaps []*backplane.Gap
		_, err := b.Subscribe(t.Context(), ward, func(_ context.Context, e backplane.Event) {
			if g, ok := e.(*backplane.Gap); ok {
				gaps = append(gaps, g)
			}
		})
		wantIs(t, "subscribe", err)
		atB, _ := listen(t, b, ward)
		publish(t, a, ward, "1")
		lose(broker, b, 2, wardChannel)
		publish(t, a, ward, "2", "3", "4")
		expect(t, "b", atB.heard(), "1", "gap:numbers:2", "4")
		if len(gaps) != 1 || gaps[0].Publisher != a.ID() || gaps[0].Address != ward || gaps[0].Since.IsZero() {
			t.Errorf("%+v", gaps)
		}
		lose(broker, a, 1, wardChannel)
		publish(t, a, ward, "5")
		time.Sleep(4 * time.Second) // twice the tail mark's time
		expect(t, "the publisher itself", atA.heard(), "1", "2", "3", "4", "gap:numbers:1")
		expect(t, "b", atB.heard(), "5")
		if s := b.Stats(); s.KnownMissed != 4 || s.Gaps != 2 { // for each of two subscriptions
			t.Errorf("%+v", s)
		}
	})
}

// The first message of an epoch can be lost like any other: who was subscribed before the publisher's last heartbeat knows.
func TestLostFirstMessage(t *testing.T) {
	for name, o := range map[string]backplane.Options{
		"as usual":                           {},
		"many heartbeats within a tail mark": {Heartbeat: 100 * time.Millisecond, TailMark: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				a, b := open(t, broker.Opener(), o), open(t, broker.Opener(), o)
				atA, _ := listen(t, a, ward)
				atB, _ := listen(t, b, ward)
				time.Sleep(10 * time.Second)
				lose(broker, b, 1, wardChannel)
				publish(t, a, ward, "1")
				time.Sleep(25 * time.Second)
				expect(t, "b", atB.heard(), "gap:numbers:1")
				lose(broker, a, 1, wardChannel)
				publish(t, a, ward, "2")
				time.Sleep(25 * time.Second)
				expect(t, "a, its own", atA.heard(), "1", "gap:numbers:1")
				expect(t, "b", atB.heard(), "2")
			})
		})
	}
}

// A message and the tail mark behind it can be lost together. That the mark is missing tells.
func TestLostMarkIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		publish(t, a, ward, "1")
		expect(t, "b", atB.heard(), "1")
		lose(broker, b, 2, wardChannel)
		publish(t, a, ward, "2")
		time.Sleep(time.Minute)
		expect(t, "b", atB.heard(), "gap:numbers:0")
		time.Sleep(10 * time.Minute)
		expect(t, "told once", atB.heard())
		publish(t, a, ward, "3")
		expect(t, "next epoch", atB.heard(), "3")
		// Not where a gap of the link has told it, and not after a silence of one's own.
		broker.Cut(b.ID())
		publish(t, a, ward, "4")
		time.Sleep(5 * time.Minute)
		broker.Heal(b.ID())
		time.Sleep(5 * time.Minute)
		expect(t, "after an outage", atB.heard(), "gap:link:0")
		synctest.Wait()
		if c := b.Stats().Counters; c > 2 {
			t.Errorf("%d counters", c)
		}
	})
}

// A subscription does not hear of what was lost to nobody: what was published before it.
func TestNoGapForWhatWasBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		for i := range 20 {
			publish(t, a, ward, "before")
			at, sub := listen(t, b, ward)
			publish(t, a, ward, strconv.Itoa(i))
			expect(t, "b", at.heard(), strconv.Itoa(i))
			wantIs(t, "close", sub.Close(t.Context()))
			time.Sleep(time.Duration(i) * 300 * time.Millisecond)
		}
	})
}

// Who subscribes where others have for long is not told of losses before its time, but that it may have missed something.
func TestCountIsNotForWhoCameLater(t *testing.T) {
	for name, loseOne := range map[string]func(*inmem.Broker, *backplane.Node) (healed func()){
		"lost on a healthy link": func(broker *inmem.Broker, to *backplane.Node) func() {
			lose(broker, to, 1, wardChannel)
			return func() {}
		},
		"lost in an outage": func(broker *inmem.Broker, to *backplane.Node) func() {
			broker.Cut(to.ID())
			return func() {
				synctest.Wait() // the loss is noticed before the link is back
				broker.Heal(to.ID())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
				early, _ := listen(t, b, ward)
				publish(t, a, ward, "1")
				heal := loseOne(broker, b)
				publish(t, a, ward, "2")
				heal()
				late, _ := listen(t, b, ward)
				publish(t, a, ward, "3")
				if got := early.heard(); len(got) < 3 || got[len(got)-2] != "gap:numbers:1" {
					t.Errorf("early: %q", got)
				}
				expect(t, "late", late.heard(), "gap:numbers:0", "3")
				lose(broker, b, 1, wardChannel)
				publish(t, a, ward, "4", "5")
				expect(t, "early", early.heard(), "gap:numbers:1", "5")
				expect(t, "late", late.heard(), "gap:numbers:1", "5")
			})
		})
	}
}

// Publishing to one address on and off, in epochs and out of them, never makes a gap by itself.
func TestEpochsMakeNoGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		var want []string
		for i := range 200 {
			want = append(want, strconv.Itoa(i))
			publish(t, a, ward, want[i])
			time.Sleep(time.Duration(i*37%5000) * time.Millisecond)
		}
		expect(t, "b", atB.heard(), want...)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := b.Stats(); s.Gaps != 0 || s.Counters > 2 {
			t.Errorf("%+v", s)
		}
	})
}

// A receiver that hears more addresses than it has counters for forgets closed ones, wherever they are, and tells no gap.
func TestReceiverForgetsClosedCountersFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{MaxCounters: 32})
		var heard, gaps atomic.Int64
		const addresses = 500
		for i := range addresses {
			_, err := b.Subscribe(t.Context(), backplane.Group(strconv.Itoa(i)), func(_ context.Context, e backplane.Event) {
				if _, ok := e.(*backplane.Message); ok {
					heard.Add(1)
				} else {
					gaps.Add(1)
				}
			})
			wantIs(t, "subscribe", err)
		}
		for i := range addresses {
			publish(t, a, backplane.Group(strconv.Itoa(i)), "x")
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if heard.Load() != addresses || gaps.Load() != 0 {
			t.Errorf("heard %d, gaps %d", heard.Load(), gaps.Load())
		}
		if c := b.Stats().Counters; c > 40 {
			t.Errorf("%d counters", c)
		}
	})
}

// A receiver whose table is full of open counters says so: it would not notice a loss.
func TestReceiverTellsWhatItCannotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{TailMark: time.Hour}), open(t, broker.Opener(), backplane.Options{MaxCounters: 16})
		ears := make([]*ear, 20)
		for i := range ears {
			ears[i], _ = listen(t, b, backplane.Group(strconv.Itoa(i)))
			publish(t, a, backplane.Group(strconv.Itoa(i)), "x")
		}
		told := 0
		for i, e := range ears {
			switch heard := strings.Join(e.heard(), " "); heard {
			case "x":
			case "gap:overflow:0 x":
				told++
			default:
				t.Errorf("address %d: %q", i, heard)
			}
		}
		if told != 4 {
			t.Errorf("%d of 20 were told, want 4", told)
		}
	})
}

// Publishers come and go: what is known of them goes too, also where they did not say goodbye or were never members.
func TestCountersOfTheGoneAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		b := open(t, broker.Opener(), backplane.Options{})
		_, _ = listen(t, b, ward)
		var cut []*backplane.Node
		for i := range 20 {
			n := openOnly(t, broker.Opener(), backplane.Options{TailMark: time.Hour})
			publish(t, n, ward, "x")
			if i%2 == 0 {
				wantIs(t, "close", n.Close(t.Context()))
			} else {
				broker.Cut(n.ID())
				cut = append(cut, n)
			}
		}
		s := joinStranger(t, broker)
		for i := range byte(20) {
			s.send(t, wardChannel, frameOf([8]byte{1, 2, 3, i}, 1, 1, "never a member"))
		}
		synctest.Wait()
		if c := b.Stats().Counters; c < 30 {
			t.Fatalf("%d counters while they are needed", c)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if c := b.Stats().Counters; c > 2 {
			t.Errorf("%d counters are left", c)
		}
		for _, n := range cut {
			wantIs(t, "close", n.Close(within(t, time.Second)))
		}
	})
}
