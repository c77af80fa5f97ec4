package backplane

import (
	"fmt"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// sink is the node as its transport sees it. Nothing here blocks: events go into the bounded queues of subscriptions.
type sink struct{ n *Node }

// Frame implements [transport.Sink].
func (k sink) Frame(id transport.Link, channel string, data []byte) {
	n := k.n
	n.stats.framesReceived.Add(1)
	l := n.link(id)
	if l == nil {
		return
	}
	l.hears()
	in := n.interests.get(channel)
	if in == nil {
		return
	}
	in.prove(n.proofAt(l.heardLast(), true))
	r, err := wire.NewReader(data)
	switch {
	case err != nil && in.own:
		n.complain(err)
	case err != nil:
		n.complain(err)
		in.mu.Lock()
		in.tellLoss(n)
		in.push([]Event{unreadable(in, err)})
		in.mu.Unlock()
	case in.own:
		n.hearOwn(l, in, &r)
	default:
		n.hear(in, &r)
	}
}

// hear hands the messages of a frame to the subscriptions of an interest.
func (n *Node) hear(in *interest, r *wire.Reader) {
	buf, ok := n.events.Get().(*[]Event)
	if !ok {
		buf = new([]Event)
	}
	events := (*buf)[:0]
	in.mu.Lock()
	if in.removed {
		in.mu.Unlock()
		n.events.Put(buf)
		return
	}
	in.tellLoss(n)
	var (
		m     wire.Message
		c     *counter
		fresh bool
		mine  bool // the address is this interest's, and not another one with the same hashed channel name
		slab  []Message
	)
	for r.Next(&m) {
		if !m.Same {
			mine = m.Kind == byte(in.addr.kind) && string(m.Name) == in.addr.name && string(m.Scope) == in.addr.scope
		}
		if !mine || m.Type != wire.Data && m.Type != wire.TailMark {
			continue
		}
		if c == nil {
			if c, fresh = in.counterOf(n, r.Publisher); c == nil { // the table is full: what is missing will not be noticed
				events = append(events, &Gap{Address: in.addr, Cause: GapOverflow, Since: time.Now(), Publisher: n.members.idOf(r.Publisher)})
				c = &counter{id: n.members.idOf(r.Publisher)}
			}
			if fresh && n.members.isGone(r.Publisher) { // its heartbeat, which tells everybody, comes later
				events = append(events, &Gap{Address: in.addr, Cause: GapMember, Since: time.Now(), Publisher: c.id})
			}
		}
		ours := fresh && n.members.beganAfter(r.Publisher, m.Epoch, in.since)
		var v verdict
		if m.Type == wire.TailMark {
			v = c.tail(m.Epoch, m.Number, fresh, ours)
		} else {
			if v = c.message(m.Epoch, m.Number, fresh, ours); !v.deliver {
				n.stats.repeatsDropped.Add(1)
			}
		}
		fresh = false
		if v.gap {
			events = append(events, &Gap{Address: in.addr, Cause: GapNumbers, Since: time.Now(), Publisher: c.id, Missed: v.missed})
		}
		if !v.deliver {
			continue
		}
		if err := wire.CheckFields(m.Fields, knownField); err != nil {
			n.complain(err)
			g := unreadable(in, err)
			g.Publisher, g.Missed = c.id, 1
			events = append(events, g)
			continue
		}
		if len(slab) == cap(slab) {
			slab = make([]Message, 0, min(2*cap(slab)+1, 64))
		}
		slab = append(slab, Message{Address: in.addr, Publisher: c.id, Payload: m.Payload})
		events = append(events, &slab[len(slab)-1])
	}
	if err := r.Err(); err != nil {
		n.complain(err)
		events = append(events, unreadable(in, err))
	}
	if len(events) > 0 {
		in.push(events)
	}
	in.mu.Unlock()
	clear(events)
	*buf = events[:0]
	n.events.Put(buf)
}

// knownField knows no fields yet: those that need not be understood are skipped.
func knownField(uint64, []byte) bool { return false }

// push hands events to all subscriptions. in.mu is held.
func (in *interest) push(events []Event) {
	for s := in.head; s != nil; s = s.next {
		s.push(events)
	}
}

// tellLoss tells what happened to the link before anything else is told. in.mu is held.
func (in *interest) tellLoss(n *Node) {
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
	l := n.link(id)
	if l == nil {
		return
	}
	what := &loss{cause: GapBroker, since: l.heardLast(), err: cause}
	n.interests.gap(n, l, channels, resubscribe, what)
}

// Down implements [transport.Sink].
func (k sink) Down(id transport.Link, cause error) {
	if l := k.n.link(id); l != nil {
		l.down(fmt.Errorf("%w: %w", ErrUnavailable, cause))
	}
}

func unreadable(in *interest, err error) *Gap {
	return &Gap{Address: in.addr, Cause: GapUnreadable, Since: time.Now(), Err: err}
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
