package backplane_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// slowEar is an ear whose handler waits for a permission before each event but the first.
type slowEar struct {
	ear
	mu   sync.Mutex
	gaps []*backplane.Gap
	next chan struct{}
}

func listenSlowly(t *testing.T, n *backplane.Node, to backplane.Address) *slowEar {
	t.Helper()
	e := &slowEar{ear: ear{events: make(chan string, 100_000)}, next: make(chan struct{})}
	_, err := n.Subscribe(t.Context(), to, func(_ context.Context, ev backplane.Event) {
		switch ev := ev.(type) {
		case *backplane.Message:
			e.events <- string(ev.Payload)
		case *backplane.Gap:
			e.mu.Lock()
			e.gaps = append(e.gaps, ev)
			e.mu.Unlock()
			e.events <- fmt.Sprintf("gap:%v:%d", ev.Cause, ev.Missed)
		}
		<-e.next
	})
	wantIs(t, "subscribe", err)
	return e
}

func numbers(from, to int) []string {
	var s []string
	for i := from; i <= to; i++ {
		s = append(s, strconv.Itoa(i))
	}
	return s
}

// What a slow handler misses is counted, in its place; nobody else is disturbed; and it goes on when the handler does.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{QueueMessages: 3})
		slow := listenSlowly(t, n, ward)
		quick, _ := listen(t, n, ward)
		other, _ := listen(t, n, backplane.User("u"))
		for i := 1; i <= 10; i++ { // the handler has 1, three wait, six do not fit
			publish(t, n, ward, strconv.Itoa(i))
			synctest.Wait()
		}
		publish(t, n, backplane.User("u"), "undisturbed")
		expect(t, "quick", quick.heard(), numbers(1, 10)...)
		expect(t, "other", other.heard(), "undisturbed")
		expect(t, "slow", slow.heard(), "1")
		if s := n.Stats(); s.ReceiveQueueMessages != 3 || s.KnownMissed != 6 || s.Gaps != 1 {
			t.Errorf("%+v", s)
		}
		slow.next <- struct{}{}
		expect(t, "slow", slow.heard(), "2")
		publish(t, n, ward, "11", "12") // one fits, one does not
		close(slow.next)
		expect(t, "slow", slow.heard(), "3", "4", "gap:overflow:6", "11", "gap:overflow:1")
		publish(t, n, ward, "13")
		expect(t, "slow", slow.heard(), "13")
		if s := n.Stats(); s.ReceiveQueueMessages != 0 || s.ReceiveQueueBytes != 0 {
			t.Errorf("left: %+v", s)
		}
	})
}

func TestOverflowOfBytes(t *testing.T) {
	kilo := string(make([]byte, 1000))
	for name, o := range map[string]backplane.Options{
		"QueueBytes":   {QueueBytes: 2500},
		"ReceiveBytes": {ReceiveBytes: 2500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				n := open(t, broker.Opener(), o)
				slow := listenSlowly(t, n, ward)
				publish(t, n, ward, "begin")
				synctest.Wait()
				publish(t, n, ward, kilo, kilo, kilo, kilo, "small")
				synctest.Wait()
				if b := n.Stats().ReceiveQueueBytes; b > 2500 {
					t.Errorf("%d bytes wait", b)
				}
				close(slow.next)
				expect(t, "slow", slow.heard(), "begin", kilo, kilo, "gap:overflow:2", "small")
				publish(t, n, ward, string(make([]byte, 100_000)), "after") // one message of any size fits
				heard := slow.heard()
				if len(heard) != 2 || len(heard[0]) != 100_000 {
					t.Errorf("heard %d events", len(heard))
				}
			})
		})
	}
}

// ReceiveBytes is shared: what one slow subscription holds, the others cannot.
func TestReceiveBytesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{ReceiveBytes: 5000})
		kilo := string(make([]byte, 1000))
		const many = 20
		slow := make([]*slowEar, many)
		for i := range slow {
			slow[i] = listenSlowly(t, n, ward)
		}
		publish(t, n, ward, "begin")
		synctest.Wait()
		publish(t, n, ward, kilo, kilo, kilo)
		synctest.Wait()
		if b := n.Stats().ReceiveQueueBytes; b > 5000+1064 { // one more where nothing waits yet
			t.Errorf("%d bytes wait", b)
		}
		for _, e := range slow {
			close(e.next)
		}
		for i, e := range slow {
			heard := e.heard()
			k := len(heard)
			if k < 2 || heard[0] != "begin" || heard[k-1] == kilo && k != 4 {
				t.Errorf("subscription %d heard %d events and no gap", i, k)
			}
		}
	})
}

// Gaps are bounded as messages are: a stuck handler in a storm of broken frames costs a bounded queue.
func TestGapsDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{QueueMessages: 10})
		slow := listenSlowly(t, n, ward)
		publish(t, n, ward, "begin")
		synctest.Wait()
		s := joinStranger(t, broker)
		for range 10_000 {
			s.send(t, wardChannel, []byte("garbage"))
		}
		close(slow.next)
		heard := slow.heard()
		if len(heard) > 100 {
			t.Fatalf("%d gaps were kept", len(heard))
		}
		if last := heard[len(heard)-1]; last != "gap:overflow:0" {
			t.Errorf("the last one is %q: a count that is not known must not be claimed", last)
		}
		publish(t, n, ward, "after")
		expect(t, "slow", slow.heard(), "after")
	})
}

// A gap that falls into a full queue becomes a part of the overflow's gap, which then begins as early and counts no more.
func TestOverflowTakesOtherGapsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n, other := open(t, broker.Opener(), backplane.Options{QueueMessages: 1}), open(t, broker.Opener(), backplane.Options{})
		slow := listenSlowly(t, n, ward)
		publish(t, other, ward, "1")
		synctest.Wait()
		publish(t, other, ward, "2")
		synctest.Wait()
		broker.Cut(n.ID())
		cut := time.Now()
		time.Sleep(time.Second)
		broker.Heal(n.ID())
		time.Sleep(3 * time.Second) // "2" and the link's gap wait
		publish(t, other, ward, "3", "4")
		broker.Cut(n.ID())
		time.Sleep(time.Second)
		broker.Heal(n.ID())
		time.Sleep(3 * time.Second)
		close(slow.next)
		expect(t, "slow", slow.heard(), "1", "2", "gap:link:0", "gap:overflow:0")
		slow.mu.Lock()
		defer slow.mu.Unlock()
		for _, g := range slow.gaps {
			if g.Since.Before(cut.Add(-3*time.Second)) || g.Since.After(cut.Add(4*time.Second)) {
				t.Errorf("%v since %v, the cut was at %v", g.Cause, g.Since, cut)
			}
		}
	})
}
