package backplane

import (
	"math"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// A publisher numbers its messages to an address 1, 2, 3 … within an epoch. When it has been silent on the address for
// a while it sends a tail mark, the last number, which closes the epoch, and forgets the counter; its next message to the
// address begins a new epoch. Epochs are counted for the node as a whole, so that a later one has a greater number.
//
// A receiver keeps a counter for each publisher it hears on an address: from it follow repeats and exact gaps. What it
// cannot know by a counter is whether it missed the beginning of an epoch of which it hears, say, number 5 first: 1 to 4
// may have been sent before it subscribed. Heartbeats settle that. Each carries the number of the newest epoch its
// sender had begun when the heartbeat left; heartbeats and messages of a sender leave in order on one link, so an
// epoch newer than a heartbeat that came in after the subscription was confirmed began after it as well.

// counter is what a receiver knows of one publisher on one address.
type counter struct {
	id     NodeID
	epoch  uint64 // the newest epoch heard
	before uint64 // the epoch heard before that; 0 for none
	last   uint64 // the last number heard in it
	at     uint64 // the tick since which a count is exact: when last was heard, or the first number is sure to be missed
	heard  int64  // and the time since which something may be missing, see link.hears
	closed bool   // the epoch is closed, and all of it was heard or told missing
	lost   bool   // a gap of unknown size was told after last was heard
	gone   bool   // the publisher died or left, and nothing came from it since
	idle   uint16 // sweeps since something came, or since it was found closed or gone
}

// newEpoch draws the number of an epoch. It is a tick, so that of this node's own epochs it is known which began after a
// subscription was confirmed.
func (n *Node) newEpoch() uint64 {
	epoch := n.ticks.Add(1)
	for {
		newest := n.epochClock.Load()
		if newest >= epoch || n.epochClock.CompareAndSwap(newest, epoch) {
			return epoch
		}
	}
}

// verdict is what a number means for the subscriptions.
type verdict struct {
	deliver bool
	gap     bool   // tell a gap first
	missed  uint64 // its count, 0 for unknown
}

// message judges number k of an epoch. fresh: the counter has just been made, and ours tells whether the epoch began
// while we were subscribed.
func (c *counter) message(epoch, k uint64, fresh, ours bool) verdict {
	var v verdict
	switch {
	case fresh:
		if ours && k > 1 {
			v = verdict{gap: true, missed: k - 1}
		}
	case epoch < c.epoch:
		return c.old(epoch, ours)
	case epoch == c.epoch && k <= c.last:
		return verdict{} // a repeat, or so late that it was told missing
	case epoch == c.epoch:
		if k > c.last+1 {
			v = verdict{gap: true, missed: k - c.last - 1}
		}
	case !c.closed && !c.lost: // a new epoch, and the end of the old one is not known
		v.gap = true
	default:
		v = verdict{gap: k > 1, missed: k - 1}
	}
	c.move(epoch, k)
	v.deliver = true
	return v
}

// tail judges a tail mark: number k was the last of its epoch.
func (c *counter) tail(epoch, k uint64, fresh, ours bool) verdict {
	var v verdict
	switch {
	case fresh:
		if ours && k > 0 {
			v = verdict{gap: true, missed: k}
		}
	case epoch < c.epoch:
		return c.old(epoch, ours && k > 0)
	case epoch == c.epoch:
		if k > c.last {
			v = verdict{gap: true, missed: k - c.last}
		}
		k = max(k, c.last)
	case !c.closed && !c.lost:
		v.gap = true
	default:
		v = verdict{gap: k > 0, missed: k}
	}
	c.move(epoch, k)
	c.closed = true
	return v
}

// old judges what comes from an epoch older than the newest: most often it is a repeat. But where nothing was heard of an
// epoch in its turn, all of it was lost or comes too late; ours tells whether it began while we were subscribed.
func (c *counter) old(epoch uint64, ours bool) verdict {
	if epoch <= c.before || c.before == 0 && !ours {
		return verdict{}
	}
	c.before = epoch // told once
	return verdict{gap: true}
}

// move makes a number the last one heard.
func (c *counter) move(epoch, k uint64) {
	before := c.before
	if epoch != c.epoch {
		before = c.epoch
	}
	*c = counter{id: c.id, epoch: epoch, before: before, last: k, at: c.at, heard: c.heard}
}

// counterOf returns the counter of a publisher on an interest, making it if there is none. It returns nil when the
// table is full. in.mu is held.
func (in *interest) counterOf(n *Node, p wire.Publisher) (c *counter, fresh bool) {
	if c = in.publishers[p]; c != nil {
		return c, false
	}
	if n.stats.receivingCounters.Load() >= int64(n.o.MaxCounters) && !in.forgetClosed(n) && !n.interests.makeRoom(n, in) {
		return nil, true
	}
	if in.publishers == nil {
		in.publishers = make(map[wire.Publisher]*counter, 1)
		n.interests.counted.add(in)
	}
	c = &counter{id: n.members.idOf(p)}
	in.publishers[p] = c
	n.stats.receivingCounters.Add(1)
	return c, true
}

// forgetClosed drops the counters of an interest that would be forgotten soon, to make room. in.mu is held.
func (in *interest) forgetClosed(n *Node) bool {
	dropped := false
	for p, c := range in.publishers {
		if c.closed || c.gone {
			delete(in.publishers, p)
			n.stats.receivingCounters.Add(-1)
			dropped = true
		}
	}
	return dropped
}

// roomTries bounds how many interests are looked at for a counter that can be forgotten.
const roomTries = 256

// makeRoom drops the counters of some other interest that would be forgotten soon. The lock of in is held, so those of others
// are only tried.
func (t *interestTable) makeRoom(n *Node, in *interest) bool {
	t.counted.mu.Lock()
	defer t.counted.mu.Unlock()
	tries := 0
	for other := range t.counted.m {
		if tries++; tries > roomTries {
			return false
		}
		if other == in || !other.mu.TryLock() {
			continue
		}
		dropped := other.forgetClosed(n)
		if len(other.publishers) == 0 {
			other.publishers = nil
			delete(t.counted.m, other)
		}
		other.mu.Unlock()
		if dropped {
			return true
		}
	}
	return false
}

// forgetPublishers drops all counters of an interest that is not in force.
func (in *interest) forgetPublishers(n *Node) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n.stats.receivingCounters.Add(-int64(len(in.publishers)))
	in.publishers = nil
	n.interests.counted.remove(in)
}

// keepHeardSince forgets what was heard of members before they answered the round that the interest waited for, if nobody was
// subscribed: it may have missed something in between, and was nobody's. What came later is whole.
func (in *interest) keepHeardSince(n *Node, answers map[wire.Publisher]beat) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.head != nil {
		return
	}
	for p, c := range in.publishers {
		if a, answered := answers[p]; p != n.publisher && (!answered || c.at < a.tick) {
			delete(in.publishers, p)
			n.stats.receivingCounters.Add(-1)
		}
	}
}

// A publisher that lives and is silent on an address sends its tail mark. Where none came although it is long overdue, the mark
// is lost, and perhaps messages before it: that is a gap, and the end of the epoch. So the loss of a last message is told also
// where its mark was lost with it, and no counter stays for ever.

// closedSweeps is how many sweeps a counter is kept that is closed or whose publisher is gone, so that a late repeat of its
// epoch is still known as one: between two and three member timeouts. A publisher does not send a frame again later than that.
const closedSweeps = 3

// sweep forgets counters that were closed, or whose publisher was gone, some sweeps ago. It is called every member timeout.
func (t *interestTable) sweep(n *Node) {
	now := time.Now()
	silence := n.members.silence()
	for _, in := range t.counted.all() {
		in.mu.Lock()
		for p, c := range in.publishers {
			if c.idle < math.MaxUint16 {
				c.idle++
			}
			silent, alive := silence[p]
			switch {
			case c.closed || c.gone || !alive: // it may never have been a member
				if c.idle >= closedSweeps {
					delete(in.publishers, p)
					n.stats.receivingCounters.Add(-1)
				}
			case int(c.idle) > silent && in.loss == nil:
				if !c.lost {
					since := now.Add(-time.Duration(c.idle+1) * n.o.MemberTimeout)
					in.push([]Event{&Gap{Address: in.addr, Cause: GapNumbers, Since: since, Publisher: c.id}})
				}
				c.closed, c.idle = true, 0
			}
		}
		if len(in.publishers) == 0 {
			in.publishers = nil
			t.counted.remove(in)
		}
		in.mu.Unlock()
	}
}

// memberGone lets the counters of a node that is dead or has left be forgotten some sweeps later. Not at once: a node that
// was only cut off sends what it could not finish again.
func (t *interestTable) memberGone(p wire.Publisher) {
	for _, in := range t.counted.all() {
		in.mu.Lock()
		if c := in.publishers[p]; c != nil {
			c.gone, c.idle = true, 0
		}
		in.mu.Unlock()
	}
}
