package backplane

import (
	"encoding/binary"
	"strconv"

	"github.com/gobackplane/backplane/internal/wire"
)

// The engine's own traffic travels on channels of its own kind, which no program can address:
//
//	members        heartbeats, and questions to all; every node hears it
//	inbox/<node>   questions and answers for one node
//	probe/<node>/k a link's probes, on a channel that uses that link
//
// It is not numbered: a message that is lost is sent again in time, or missed by who waits for it.

var membersAddress = Address{kind: kindSystem, name: "members"} //nolint:gochecknoglobals // a constant, but for the language

func inboxAddress(node NodeID) Address {
	return Address{kind: kindSystem, name: "inbox/" + string(node)}
}

func probeAddress(node NodeID, k int) Address {
	return Address{kind: kindSystem, name: "probe/" + string(node) + "/" + strconv.Itoa(k)}
}

// own wants a channel of the engine's own, for the node's life.
func (n *Node) own(a Address, l *link) *interest {
	channel := n.names.channel(a)
	t := &n.interests
	t.mu.Lock()
	defer t.mu.Unlock()
	in := t.m[channel]
	if in == nil {
		in = &interest{addr: a, channel: channel, link: l, own: true, refs: 1}
		t.m[channel] = in
		t.verifier.own = append(t.verifier.own, in)
		t.queue(in)
	}
	return in
}

// sendOwn queues a message of the engine's own. It is dropped where the link is not up.
func (n *Node) sendOwn(to Address, t wire.Type, payload []byte) {
	for range 2 { // an outlet may be dropped between finding and using it
		o := n.outletFor(to)
		if o.lane.addOwn(o, &item{typ: t, payload: payload}) || !o.isDead() {
			return
		}
	}
}

func (o *outlet) isDead() bool {
	o.lane.mu.Lock()
	defer o.lane.mu.Unlock()
	return o.dead
}

// hearOwn acts on a frame of the engine's own traffic.
func (n *Node) hearOwn(l *link, in *interest, r *wire.Reader) {
	var m wire.Message
	for r.Next(&m) {
		if m.Kind != byte(kindSystem) || string(m.Name) != in.addr.name {
			continue
		}
		var err error
		switch m.Type {
		case wire.Probe:
			if in == l.probe && r.Publisher == n.publisher {
				var nonce uint64
				if nonce, _, err = uint64At(m.Payload); err == nil {
					l.probeHeard(nonce)
				}
			}
		case wire.Heartbeat:
			err = n.heartbeatHeard(r.Publisher, m.Payload)
		case wire.Ask:
			err = n.questionHeard(r.Publisher, m.Payload)
		case wire.Answer:
			err = n.answerHeard(r.Publisher, m.Payload)
		case wire.Barrier:
			err = n.barrierHeard(l, r.Publisher, m.Payload)
		case wire.BarrierAnswer:
			err = n.barrierAnswerHeard(l, r.Publisher, m.Payload)
		case wire.Data, wire.TailMark:
		}
		if err != nil {
			n.complain(err)
		}
	}
	if err := r.Err(); err != nil {
		n.complain(err)
	}
}

// Bodies are made of uvarints and of strings with their length before them.

func appendUint64(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendBytes[T string | []byte](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func uint64At(b []byte) (v uint64, rest []byte, err error) {
	v, k := binary.Uvarint(b)
	if k <= 0 {
		return 0, nil, wire.ErrBroken
	}
	return v, b[k:], nil
}

func bytesAt(b []byte) (v, rest []byte, err error) {
	k, b, err := uint64At(b)
	if err != nil || k > uint64(len(b)) {
		return nil, nil, wire.ErrBroken
	}
	return b[:k:k], b[k:], nil
}
