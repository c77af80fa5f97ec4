package hubkit

import (
	"math"
	"sync"
)

// message is one message as it waits in outboxes; all outboxes of a fan-out share it.
type message struct {
	payload  []byte
	key      string
	question *invocation // not nil for a question to the client, see Invoker
}

// mark says what is missing at a place in an outbox. The zero mark is nothing.
type mark struct {
	gap                *Gap
	missed, superseded uint32
}

// with joins a mark with one that follows it.
func (m mark) with(next mark) mark {
	m.gap = m.gap.and(next.gap)
	m.missed = addSaturated(m.missed, next.missed)
	m.superseded = addSaturated(m.superseded, next.superseded)
	return m
}

func addSaturated(a, b uint32) uint32 {
	if a > math.MaxUint32-b {
		return math.MaxUint32
	}
	return a + b
}

// slot is a waiting message and what is missing right before it.
type slot struct {
	msg  *message
	mark mark
}

// outbox is the bounded queue of one connection: a ring that grows as it is needed, up to its bound, and is given back
// when the connection closes, or is idle after a burst.
type outbox struct {
	limits *OutboxOptions // immutable

	mu    sync.Mutex
	slots []slot            // guarded by mu, as all that follows; its length is 0 or a power of two
	head  int               // the slot of the oldest message
	n     int               // messages that wait
	bytes int               // their payloads
	tail  mark              // what is missing after the last of them
	first uint64            // the position of the oldest message: how many left the ring before it
	keys  map[string]uint64 // KeepLatest: the positions of waiting messages with a key
	seen  *window           // nil until the first send that travels in several copies

	inFlight remains // what is being written
	lost     remains // what was discarded

	unasked *invocation // questions that were dropped just now, for enqueue to tell
}

// The bounds of one call of Conn.Write.
const (
	maxBatch      = 64
	maxBatchBytes = 64 << 10
)

// put takes a message in, or does what the policy says. It returns how many messages were dropped, and false where
// the policy is to disconnect. Called with mu held.
func (o *outbox) put(m *message) (dropped int, ok bool) {
	switch {
	case o.limits.Policy == KeepLatest:
		return o.putLatest(m), true
	case o.fits(m):
		o.push(m)
		return 0, true
	case o.limits.Policy == DropOldest:
		for !o.fits(m) {
			o.dropFront(mark{missed: 1})
			dropped++
		}
		o.push(m)
		return dropped, true
	case o.limits.Policy == DropNewest:
		o.tail = o.tail.with(mark{missed: 1})
		return 1, true
	default:
		return 0, false
	}
}

// putLatest is put for KeepLatest. Where the new value is so much larger than the old one that it does not fit in its
// place, the oldest messages make room, maybe the old value among them.
func (o *outbox) putLatest(m *message) (dropped int) {
	for {
		pos, waits := o.keys[m.key]
		if waits {
			s := &o.slots[o.index(pos)]
			grown := len(m.payload) - len(s.msg.payload)
			if o.n == 1 || o.bytes+grown <= o.limits.Bytes {
				o.bytes += grown
				s.msg = m
				s.mark = s.mark.with(mark{missed: 1, superseded: 1})
				return dropped + 1
			}
		} else if o.fits(m) {
			o.push(m)
			return dropped
		}
		loss := mark{missed: 1}
		if m.key != "" && o.slots[o.head].msg.key == m.key {
			loss.superseded = 1
		}
		o.dropFront(loss)
		dropped++
	}
}

func (o *outbox) fits(m *message) bool {
	return o.n == 0 || o.n < o.limits.Messages && o.bytes+len(m.payload) <= o.limits.Bytes
}

func (o *outbox) push(m *message) {
	if o.n == len(o.slots) {
		o.grow()
	}
	pos := o.first + uint64(o.n) //nolint:gosec // a count
	o.slots[o.index(pos)] = slot{msg: m, mark: o.tail}
	o.tail = mark{}
	o.n++
	o.bytes += len(m.payload)
	if m.key != "" && o.limits.Policy == KeepLatest {
		if o.keys == nil {
			o.keys = make(map[string]uint64)
		}
		o.keys[m.key] = pos
	}
}

// pop takes the oldest message out.
func (o *outbox) pop() slot {
	s := o.slots[o.head]
	if s.msg.key != "" && o.keys[s.msg.key] == o.first {
		delete(o.keys, s.msg.key)
	}
	o.slots[o.head] = slot{}
	o.head = (o.head + 1) & (len(o.slots) - 1)
	o.first++
	o.n--
	o.bytes -= len(s.msg.payload)
	return s
}

// dropFront drops the oldest message and leaves the loss at its place.
func (o *outbox) dropFront(loss mark) {
	s := o.pop()
	if i := s.msg.question; i != nil {
		i.next, o.unasked = o.unasked, i
	}
	loss = s.mark.with(loss)
	if o.n == 0 {
		o.tail = loss.with(o.tail)
		return
	}
	next := &o.slots[o.head]
	next.mark = loss.with(next.mark)
}

// index returns the slot of a position.
func (o *outbox) index(pos uint64) int {
	return (o.head + int(pos-o.first)) & (len(o.slots) - 1) //nolint:gosec // less than n
}

func (o *outbox) grow() {
	const least = 4
	slots := make([]slot, max(least, 2*len(o.slots)))
	k := copy(slots, o.slots[o.head:])
	copy(slots[k:], o.slots[:o.head])
	o.slots, o.head = slots, 0
}

// waits reports whether there is something to write, be it a notice only.
func (o *outbox) waits() bool { return o.n > 0 || o.tail != mark{} }

// take moves what may be written in one call into batch, which has room for it. A loss after the last waiting message
// is told without waiting for a next one. Called with mu held.
func (o *outbox) take(batch []Delivery) []Delivery {
	bytes := 0
	for o.n > 0 && len(batch) < cap(batch) {
		if first := &o.slots[o.head]; first.msg.question != nil {
			if first.mark != (mark{}) { // told first, by itself
				batch = append(batch, delivery(nil, first.mark))
				first.mark = mark{}
			}
			return batch
		}
		size := len(o.slots[o.head].msg.payload)
		if len(batch) > 0 && bytes+size > maxBatchBytes {
			return batch
		}
		bytes += size
		s := o.pop()
		batch = append(batch, delivery(s.msg.payload, s.mark))
		o.inFlight.messages++
		o.inFlight.bytes += size
	}
	if o.n == 0 && o.tail != (mark{}) && len(batch) < cap(batch) {
		batch = append(batch, delivery(nil, o.tail))
		o.tail = mark{}
	}
	return batch
}

// takeQuestion takes the oldest message out if it is a question and nothing is missing before it; else nil. Called with mu
// held.
func (o *outbox) takeQuestion() *message {
	if o.n == 0 || o.slots[o.head].msg.question == nil || o.slots[o.head].mark != (mark{}) {
		return nil
	}
	m := o.pop().msg
	o.inFlight.messages, o.inFlight.bytes = 1, len(m.payload)
	return m
}

func delivery(payload []byte, m mark) Delivery {
	return Delivery{Payload: payload, Missed: uint64(m.missed), Superseded: uint64(m.superseded), Gap: m.gap}
}

// keptSlots is how large a ring an idle connection keeps.
const keptSlots = 16

// rest gives back what a burst has made large: one slow moment must not cost each of 100,000 connections a full ring for
// good. Called with mu held, when nothing waits.
func (o *outbox) rest() {
	if len(o.slots) > keptSlots {
		o.slots, o.head, o.keys = nil, 0, nil
	}
}

// remains is a number of messages and their payloads.
type remains struct{ messages, bytes int }

// discard gives everything back, and counts it. Called with mu held, when the connection has closed.
func (o *outbox) discard() {
	o.lost = remains{o.n + o.inFlight.messages, o.bytes + o.inFlight.bytes}
	o.slots, o.head, o.n, o.bytes, o.tail, o.keys, o.seen = nil, 0, 0, 0, mark{}, nil, nil
}
