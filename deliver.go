package backplane

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// sink is the node as its transport sees it. Nothing here blocks: events go into the bounded queues of subscriptions.
type sink struct{ n *Node }

// link returns the link of a call by the transport; nil if no call for it may come, which the transport's Disconnect
// promises. Such a call is a fault of the transport: it is counted and dropped, since it would be taken for one of the
// next connection (a Down would give that up). What it carried is told as missed with the link's loss.
func (k sink) link(id transport.Link) *link {
	l := k.n.link(id)
	if l != nil && !l.expected.Load() {
		if k.n.stats.lateCalls.Add(1) == 1 {
			k.n.log.Error("the transport called after Disconnect had returned; this is a fault of the transport", "link", int(id))
		}
		return nil
	}
	return l
}

// Frame implements [transport.Sink].
func (k sink) Frame(id transport.Link, channel string, data []byte) {
	n := k.n
	n.stats.framesReceived.Add(1)
	l := k.link(id)
	if l == nil {
		return
	}
	now, before := l.hears()
	in := n.interests.get(channel)
	if in == nil {
		return
	}
	in.prove(n.proofAt(n.moment(now), true))
	r, err := wire.NewReader(data)
	switch {
	case err != nil && in.own:
		n.complain(err)
	case err != nil:
		n.complain(err)
		in.mu.Lock()
		in.tellLoss()
		in.push([]Event{unreadable(in, err, n.moment(before))})
		in.mu.Unlock()
	case in.own:
		n.hearOwn(l, in, &r)
	default:
		n.hear(in, &r, now, before)
	}
}

// hear hands the messages of a frame to the subscriptions of an interest. The times are those of this frame and of the one
// before it on its link, see link.hears.
func (n *Node) hear(in *interest, r *wire.Reader, now, before int64) {
	buf, ok := n.events.Get().(*[]Event)
	if !ok {
		buf = new([]Event)
	}
	in.mu.Lock()
	if in.removed {
		in.mu.Unlock()
		n.events.Put(buf)
		return
	}
	in.tellLoss()
	h := hearing{n: n, in: in, publisher: r.Publisher, before: before, events: (*buf)[:0], across: -1}
	var m wire.Message
	mine := false // the address is this interest's, and not another one with the same hashed channel name
	for r.Next(&m) {
		if !m.Same {
			mine = m.Kind == byte(in.addr.kind) && string(m.Name) == in.addr.name && string(m.Scope) == in.addr.scope
		}
		if mine && (m.Type == wire.Data || m.Type == wire.TailMark) {
			h.message(&m, r.Len())
		}
	}
	if err := r.Err(); err != nil {
		n.complain(err)
		h.events = append(h.events, unreadable(in, err, n.moment(before)))
	}
	if h.counter != nil {
		h.push()
		h.counter.at, h.counter.heard = n.ticks.Load(), now
	} else {
		in.push(h.events)
	}
	in.mu.Unlock()
	clear(h.events)
	*buf = h.events[:0]
	n.events.Put(buf)
}

// hearing turns the messages of one frame into events. interest.mu is held while it lives.
type hearing struct {
	n         *Node
	in        *interest
	publisher wire.Publisher
	before    int64    // when the link last heard something before this frame
	counter   *counter // the publisher's, nil before the first message
	fresh     bool     // the counter was made for this message
	doubtful  bool     // a gap was told for it, and for what may have come before
	events    []Event
	current   bool      // the frame has told a number, and counts go on from there
	across    int       // the event that counts what is missing since the frame before; -1 for none
	slab      []Message // what the next messages are put in: one allocation for many
}

func (h *hearing) gap(cause GapCause, since time.Time, missed uint64) {
	h.events = append(h.events, &Gap{Address: h.in.addr, Cause: cause, Since: since, Publisher: h.counter.id, Missed: missed})
}

// count finds the publisher's counter.
func (h *hearing) count() {
	h.counter, h.fresh = h.in.counterOf(h.n, h.publisher)
	if h.counter == nil { // the table is full: what is missing will not be noticed
		h.counter = &counter{id: h.n.members.idOf(h.publisher)}
		h.gap(GapOverflow, h.n.moment(h.in.at), 0)
	}
	if h.fresh {
		if last, gone := h.n.members.isGone(h.publisher); gone { // its heartbeat, which tells everybody, comes later
			h.gap(GapMember, last, 0)
		} else if since, owed := h.n.membersLink.barrier.doubtful(h.publisher); owed {
			h.gap(GapMember, since, 0)
			h.doubtful = true
		}
		h.counter.at, h.counter.heard = h.in.since, h.in.at
	}
}

// push hands the events to all subscriptions. A gap that counts what is missing since the frame before counts too much for
// a subscription that came into force since: some or all of it was before its time. It may have missed something; how much
// is not known.
func (h *hearing) push() {
	if h.across < 0 {
		h.in.push(h.events)
		return
	}
	var late []Event
	for s := h.in.head; s != nil; s = s.next {
		if s.joined <= h.counter.at {
			s.push(h.events)
			continue
		}
		if late == nil {
			late = slices.Clone(h.events)
			if g, is := late[h.across].(*Gap); is {
				unknown := *g
				unknown.Missed = 0
				late[h.across] = &unknown
			}
		}
		s.push(late)
	}
}

// message judges the number of a message or tail mark, and adds the events that follow. rest is what follows it in its frame,
// in bytes.
func (h *hearing) message(m *wire.Message, rest int) {
	if h.counter == nil {
		h.count()
	}
	ours := (h.fresh && !h.doubtful || m.Epoch < h.counter.epoch) && h.n.members.beganAfter(h.publisher, m.Epoch, h.in.since)
	var v verdict
	if m.Type == wire.TailMark {
		v = h.counter.tail(m.Epoch, m.Number, h.fresh, ours)
	} else if v = h.counter.message(m.Epoch, m.Number, h.fresh, ours); !v.deliver {
		h.n.stats.repeatsDropped.Add(1)
	}
	h.fresh = false
	if v.gap {
		if v.missed > 0 && !h.current {
			h.across = len(h.events)
		}
		h.gap(GapNumbers, h.n.moment(h.counter.heard), v.missed)
	}
	h.current = h.current || v.deliver || v.missed > 0
	if !v.deliver {
		return
	}
	if err := wire.CheckFields(m.Fields, knownField); err != nil {
		h.n.complain(err)
		g := unreadable(h.in, err, h.n.moment(h.before))
		g.Publisher, g.Missed = h.counter.id, 1
		h.events = append(h.events, g)
		return
	}
	if len(h.slab) == cap(h.slab) { // a place for each that follows, if they are as long as this one
		h.slab = make([]Message, 0, min(1+rest/(len(m.Payload)+2), 64))
	}
	h.slab = append(h.slab, Message{Address: h.in.addr, Publisher: h.counter.id, Payload: m.Payload})
	h.events = append(h.events, &h.slab[len(h.slab)-1])
}

// knownField knows no fields yet: those that need not be understood are skipped.
func knownField(uint64, []byte) bool { return false }

// push hands events to all subscriptions. in.mu is held.
func (in *interest) push(events []Event) {
	for s := in.head; s != nil; s = s.next {
		s.push(events)
	}
}

// tellLoss tells what happened to the link before anything else is told. Where a round of the members is still to come before
// the interest is in force (barrier.go), it is not told again after that, unless the round took long: what is missing between the
// two shows by its numbers or its tail mark. in.mu is held.
func (in *interest) tellLoss() {
	if in.loss == nil {
		return
	}
	w := in.loss
	in.loss = nil
	for _, c := range in.publishers {
		c.lost = true
	}
	if in.head != nil {
		in.push([]Event{&Gap{Address: in.addr, Cause: w.cause, Since: w.since, Err: w.err}})
	}
}

// lose notes that subscriptions of the interest may have missed something; tellLoss tells it.
func (in *interest) lose(what *loss) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.loss == nil && (in.head != nil || in.publishers != nil) {
		in.loss = what // an earlier one that is not told yet began earlier
	}
}

// Gap implements [transport.Sink].
func (k sink) Gap(id transport.Link, channels []string, resubscribe bool, cause error) {
	n := k.n
	l := k.link(id)
	if l == nil {
		return
	}
	what := &loss{cause: GapBroker, since: l.heardLast(), err: cause}
	n.interests.gap(n, l, channels, resubscribe, what)
}

// Down implements [transport.Sink].
func (k sink) Down(id transport.Link, cause error) {
	if l := k.link(id); l != nil {
		if !errors.Is(cause, ErrUnavailable) {
			cause = fmt.Errorf("%w: %w", ErrUnavailable, cause)
		}
		l.down(cause)
	}
}

func unreadable(in *interest, err error, since time.Time) *Gap {
	return &Gap{Address: in.addr, Cause: GapUnreadable, Since: since, Err: err}
}

// complain counts what could not be read, and logs the first of a burst.
func (n *Node) complain(err error) {
	n.stats.unreadable.Add(1)
	now := time.Now().UnixNano()
	if last := n.complained.Swap(now); now-last > int64(complaintPause) {
		n.log.Error("a frame could not be read; is a newer or a foreign program using this namespace?", "err", err)
	}
}

// complaintPause is the silence after which an unreadable frame is logged again.
const complaintPause = 10 * time.Second
