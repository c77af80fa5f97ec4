package backplane

import (
	"fmt"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// Heartbeats go to all nodes, so their traffic grows with the square of the number of nodes: 200 nodes at one heartbeat
// in 2 s are 100 messages a second for the broker to take and 20,000 to hand out. They are kept small (about 50 bytes)
// and decoded without an allocation. A node that comes is answered by each member at its own inbox, not to all.

// heartbeatVersion is the version of a heartbeat's body.
const heartbeatVersion = 1

type heartbeatFlags byte

const (
	flagHello   heartbeatFlags = 1 // sent after each connect: who hears it answers with a heartbeat of its own
	flagGoodbye heartbeatFlags = 2 // the node closes
	flagDirect  heartbeatFlags = 4 // an answer to a hello, at its sender's inbox
	// flagPublished says that the sender may have published for its user: on a clustered broker only, see barrier.go.
	flagPublished heartbeatFlags = 8
	// flagOwed is not sent: Close waits until the broker has taken the heartbeat.
	flagOwed heartbeatFlags = 1 << 7
)

// heartbeat encodes a heartbeat: version, flags, newest epoch, settings, label, number.
func (n *Node) heartbeat(flags heartbeatFlags, number uint64) []byte {
	b := []byte{heartbeatVersion, byte(flags)}
	b = appendUint64(b, n.epochClock.Load())
	b = appendUint64(b, n.settings.wireMin)
	b = appendUint64(b, n.settings.wireMax)
	b = appendUint64(b, n.settings.maxPayload)
	for _, d := range []time.Duration{n.settings.heartbeat, n.settings.memberTimeout, n.settings.tailMark} {
		b = appendUint64(b, uint64(d/time.Millisecond)) //nolint:gosec // checked to be positive
	}
	b = appendBytes(b, n.o.Label)
	return appendUint64(b, number)
}

// sendHeartbeat sends one to all. Its content is encoded when it leaves: the epoch in it must not be older than what was
// sent before it.
func (n *Node) sendHeartbeat(flags heartbeatFlags) {
	n.sendOwn(membersAddress, wire.Heartbeat, []byte{byte(flags)})
}

// heartbeatHeard acts on a heartbeat.
func (n *Node) heartbeatHeard(p wire.Publisher, body []byte) error {
	if p == n.publisher {
		return nil
	}
	if len(body) < 2 {
		return fmt.Errorf("%w: a heartbeat of %d bytes", wire.ErrBroken, len(body))
	}
	if body[0] != heartbeatVersion {
		return fmt.Errorf("%w: heartbeat %d", wire.ErrVersion, body[0])
	}
	flags, rest := heartbeatFlags(body[1]), body[2:]
	var values [7]uint64
	for i := range values {
		var err error
		if values[i], rest, err = uint64At(rest); err != nil {
			return err
		}
	}
	label, rest, err := bytesAt(rest)
	if err != nil || len(label) > maxLabel {
		return fmt.Errorf("%w: a heartbeat's label", wire.ErrBroken)
	}
	number, _, err := uint64At(rest)
	if err != nil {
		return err
	}
	ms := func(v uint64) time.Duration { return time.Duration(min(v, 1<<40)) * time.Millisecond }
	s := settings{
		wireMin: values[1], wireMax: values[2], maxPayload: values[3],
		heartbeat: ms(values[4]), memberTimeout: ms(values[5]), tailMark: ms(values[6]),
	}
	if since, missing := n.members.missing(p, flags, number); missing {
		n.log.Warn("heartbeats of a member were lost, and messages of it may be", "node", string(n.members.idOf(p)))
		n.membersLink.barrier.missed(p, since)
	}
	n.members.beat(p, flags, values[0], s, label)
	return nil
}

// missing looks at the number of a heartbeat and reports whether others before it are missing, and since when. A message and
// its tail mark can be lost together, with nothing after them, where frames are lost for a while and no link fails. They are
// TailMark apart: where that is not shorter than Heartbeat, a heartbeat is then missing as well.
func (t *memberTable) missing(p wire.Publisher, flags heartbeatFlags, number uint64) (since time.Time, missing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.m[p]
	if m == nil || flags&flagDirect != 0 {
		return time.Time{}, false
	}
	last := m.number
	m.number = max(last, number)
	return m.heard, last > 0 && number > last+1
}

// forgetNumbers makes the next heartbeat of each member the first one: those before were lost with this node's own link, and
// the gap of the link covers what else was.
func (t *memberTable) forgetNumbers() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.m {
		m.number = 0
	}
}

// memberGap tells every subscription that messages of a node may be missing. What of them its next number shows need not be told
// again: nothing is lost after this.
func (t *interestTable) memberGap(p wire.Publisher, id NodeID, since time.Time) {
	t.tellAll(id, since, func(in *interest) {
		if c := in.publishers[p]; c != nil {
			c.lost = true
		}
	})
}

// deathGap is memberGap for a node that is not there any more, for all that is known. If it is, it goes on to publish, and more is
// lost before it is heard again: its next number tells that.
func (t *interestTable) deathGap(id NodeID, since time.Time) {
	t.tellAll(id, since, func(*interest) {})
}

func (t *interestTable) tellAll(id NodeID, since time.Time, also func(*interest)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, in := range t.m {
		in.mu.Lock()
		if in.head != nil {
			in.push([]Event{&Gap{Address: in.addr, Cause: GapMember, Since: since, Publisher: id}})
		}
		also(in)
		in.mu.Unlock()
	}
}
