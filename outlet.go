package backplane

import (
	"container/list"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// outlet is one address as a publisher sees it: what waits for it, and the last number spent on it. An outlet lives from
// the first message to an address until a tail mark has closed its epoch.
type outlet struct {
	addr    Address
	channel string

	// Guarded by the mutex of the lane the outlet is on; lane itself changes only while nothing waits or is under way.
	lane     *lane
	queue    itemList  // what waits, in order
	retry    *parcel   // a frame whose fate is unknown, to be sent again before anything else
	flight   bool      // a frame is under way
	ready    bool      // in one of the lane's lists of outlets that have something to send
	resting  bool      // will be, when it has rested
	failures int       // attempts in a row that failed
	rested   time.Time // when it has rested
	next     *outlet   // in the lane's list
	prev     *outlet
	dead     bool          // removed from the table: look up again
	closing  bool          // a tail mark waits or is under way
	epoch    uint64        // 0: none begun
	last     uint64        // the last number spent in the epoch
	doubted  time.Time     // when a tail mark of the epoch was first sent whose fate is unknown; zero for never
	lastUsed time.Time     // when a message was last packed
	aged     *list.Element // place in the lane's list by lastUsed; nil for the engine's own outlets
}

// item is one message on its way out.
type item struct {
	call    *call // who waits; nil for the engine's own traffic
	outlet  *outlet
	payload []byte // the caller's, until its call returns
	typ     wire.Type

	// Guarded by the mutex of the outlet's lane.
	state itemState
	err   error
	next  *item // in the outlet's queue or in a parcel
	prev  *item
}

type itemState uint8

const (
	itemNew       itemState = iota
	itemQueued              // waits; may be taken back
	itemSent                // in a frame
	itemAbandoned           // in a frame, and nobody waits for its fate any more
	itemDone                // fate known, or taken back
)

// owed reports whether a node must not close before the item's fate is known: somebody waits for it, or it is a last word.
func (it *item) owed() bool {
	return it.call != nil || it.typ == wire.TailMark || it.typ == wire.Heartbeat && heartbeatFlags(it.payload[0])&(flagGoodbye|flagOwed) != 0
}

// size is what an item counts in the publish queue.
func (it *item) size() int { return len(it.payload) + itemOverhead }

// itemOverhead is what an item without payload counts: about what it and its share of a frame take.
const itemOverhead = 64

// parcel is one frame with the items in it. It is kept as it is for a retry, so that every attempt sends the same bytes
// under the same numbers, and receivers drop the repeats.
type parcel struct {
	outlet *outlet
	frame  []byte
	items  itemList
	beats  uint64 // heartbeats to all among the items
	next   bool   // the last message has an address and a number that the next one goes on from
	// unknown is set once an attempt's fate is unknown: from then on the numbers are spent. sent is when that one began.
	unknown bool
	sent    time.Time
	// before is the outlet's position before this frame, restored when the frame is surely not taken: a number is spent
	// only when bytes may be on the wire, so that nothing needs to be declared void.
	before position
}

// endEpoch forgets the numbers: the next message begins an epoch. The lane's mutex is held.
func (o *outlet) endEpoch() { o.epoch, o.last, o.doubted = 0, 0, time.Time{} }

type position struct{ epoch, last uint64 }

// itemList is a queue of items. An item is in at most one.
type itemList struct{ front, back *item }

func (q *itemList) empty() bool { return q.front == nil }

func (q *itemList) push(it *item) {
	it.prev = q.back
	if q.back == nil {
		q.front = it
	} else {
		q.back.next = it
	}
	q.back = it
}

func (q *itemList) remove(it *item) {
	if it.prev == nil {
		q.front = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		q.back = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.next, it.prev = nil, nil
}

// pop takes the first item off the list; nil if there is none.
func (q *itemList) pop() *item {
	it := q.front
	if it != nil {
		q.remove(it)
	}
	return it
}

// append moves all items of another list behind those of q.
func (q *itemList) append(other *itemList) {
	switch {
	case other.front == nil:
	case q.back == nil:
		*q = *other
	default:
		q.back.next, other.front.prev = other.front, q.back
		q.back = other.back
	}
	*other = itemList{}
}

// outletList is a queue of outlets. An outlet is in at most one.
type outletList struct{ front, back *outlet }

func (q *outletList) push(o *outlet) {
	o.prev = q.back
	if q.back == nil {
		q.front = o
	} else {
		q.back.next = o
	}
	q.back = o
}

func (q *outletList) remove(o *outlet) {
	if o.prev == nil {
		q.front = o.next
	} else {
		o.prev.next = o.next
	}
	if o.next == nil {
		q.back = o.prev
	} else {
		o.next.prev = o.prev
	}
	o.next, o.prev = nil, nil
}

// outletTable finds outlets by address.
type outletTable struct {
	mu sync.RWMutex
	m  map[Address]*outlet // guarded by mu
}

func (t *outletTable) get(a Address) *outlet {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[a]
}

func (t *outletTable) count() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.m)
}

// outletFor returns the outlet of an address, making it if there is none.
func (n *Node) outletFor(a Address) *outlet {
	if o := n.outlets.get(a); o != nil {
		return o
	}
	channel := n.names.channel(a)
	o := &outlet{addr: n.names.owned(a, channel), channel: channel, lane: n.linkOf(channel).lane}
	n.outlets.mu.Lock()
	defer n.outlets.mu.Unlock()
	if there := n.outlets.m[a]; there != nil {
		return there
	}
	n.outlets.m[o.addr] = o
	return o
}

// forget removes an outlet from the table. The lane's mutex is held.
func (n *Node) forget(o *outlet) {
	o.dead = true
	n.outlets.mu.Lock()
	delete(n.outlets.m, o.addr)
	n.outlets.mu.Unlock()
}
