package hubkit

import (
	"bytes"
	"context"
	"time"

	"github.com/gobackplane/backplane"
)

// copyBelow is the size below which a payload is copied out of the frame it came in: what waits in a stuck
// connection's outbox should not keep a frame of 64 KiB alive for each small message.
const copyBelow = 16 << 10

// hear is the handler of a topic's subscription: it brings what was sent to an address into the outboxes of the members
// here. It never waits for a connection.
func (t *topic) hear(_ context.Context, e backplane.Event) {
	h := t.hub
	switch e := e.(type) {
	case *backplane.Message:
		h.stats.received.Add(1)
		p, err := decode(e.Payload)
		if err != nil {
			h.unreadable(t, err)
			return
		}
		if len(p.payload) < copyBelow {
			p.payload = bytes.Clone(p.payload)
		}
		t.deliver(&p)
	case *backplane.Gap:
		h.gaps.report(t, Gap{Cause: e.Cause, Since: e.Since, Missed: e.Missed, Err: e.Err})
		if t.everyone() && loses(e.Cause) {
			h.grants.missed()
		}
	}
}

// deliver puts a parcel into the outboxes it is for. It returns how many connections it reached, repeats and those whose
// outbox was full included.
func (t *topic) deliver(p *parcel) (reached uint64) {
	h := t.hub
	var serial uint64
	if p.send.number != 0 {
		var ok bool
		if serial, ok = h.once.of(p.send); !ok {
			h.gaps.report(t, Gap{Cause: backplane.GapOverflow, Since: time.Now(), Missed: 1})
			return 0
		}
	}
	d := dispatch{
		msg:    &message{payload: p.payload, key: p.key},
		serial: serial,
		except: h.resolve(p.except),
	}
	switch {
	case len(p.connections) > 0:
		for id := range p.connections.all() {
			if c := h.connections.get(id); c != nil {
				d.to(c)
			}
		}
	case t == h.all:
		h.connections.each(d.to)
	default:
		t.each(d.to)
	}
	h.count(&d.tally)
	return d.tally.delivered + d.tally.repeats + d.tally.dropped + d.tally.slow
}

// dispatch is one message on its way into outboxes.
type dispatch struct {
	msg    *message
	serial uint64
	except exceptions
	tally  tally
}

func (d *dispatch) to(c *Connection) {
	if !d.except.has(c) {
		c.enqueue(d.msg, d.serial, &d.tally)
	}
}

// exceptions are the connections of this instance that a send leaves out.
type exceptions map[*Connection]struct{}

func (e exceptions) has(c *Connection) bool {
	if len(e) == 0 {
		return false
	}
	_, is := e[c]
	return is
}

// resolve finds the connections of an except-list that are here.
func (h *Hub) resolve(list idList) exceptions {
	var found exceptions
	for id := range list.all() {
		if c := h.connections.get(id); c != nil {
			if found == nil {
				found = make(exceptions)
			}
			found[c] = struct{}{}
		}
	}
	return found
}

// unreadable counts a message that cannot be read, and makes it a gap of its address.
func (h *Hub) unreadable(t *topic, err error) {
	if h.stats.unreadable.Add(1) == 1 {
		h.log.Warn("a message of another hub cannot be read; is a newer version running beside this one?", "err", err)
	}
	h.gaps.report(t, Gap{Cause: backplane.GapUnreadable, Since: time.Now(), Missed: 1, Err: err})
}
