package backplane

import (
	"fmt"
	"slices"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

const (
	// barrierVersion is the version of a question's and of an answer's body.
	barrierVersion = 1
	// listMost is how many members an answer lists: in a larger farm each answer lists others.
	listMost = 256
)

type barrierFlags byte

const (
	// barrierGate asks for a list of the members as well.
	barrierGate barrierFlags = 1
	// barrierMissed says that the sender published before it knew who is asked.
	barrierMissed barrierFlags = 2
)

// barrierQuestion encodes a question: version, flags, nonce. A list of addresses may follow, see baseline.go.
func barrierQuestion(flags barrierFlags, nonce uint64) []byte {
	return appendUint64([]byte{barrierVersion, byte(flags)}, nonce)
}

// barrierHeard answers a question, at once and behind every subscription that this node has made: the answer leaves on the
// same link.
func (n *Node) barrierHeard(l *link, p wire.Publisher, body []byte) error {
	flags, nonce, list, err := barrierBody(body)
	if err != nil {
		return err
	}
	if p == n.publisher {
		l.barrier.echoed(nonce)
		return nil
	}
	if n.greet(p) { // it asks again; answered now, it could pass its gate while others are not told of it yet
		return nil
	}
	answer := barrierQuestion(0, nonce)
	if flags&barrierGate != 0 {
		answer = n.members.appendList(answer, listMost)
	} else {
		answer = appendUint64(answer, 0)
	}
	n.sendOwn(inboxAddress(nodeID(p)), wire.BarrierAnswer, append(appendBytes(nil, answer), list...))
	if flags&barrierGate != 0 {
		l.barrier.gateOf(p, nonce)
	}
	if flags&barrierMissed != 0 {
		l.barrier.missedBy(p)
	}
	return nil
}

// barrierReply is what an answer says: which question it answers, the members that the answering node knows and how long each
// has been silent, the newest epoch that it had begun when the answer left, and where its numbers on the listed addresses stood.
type barrierReply struct {
	nonce   uint64
	named   map[wire.Publisher]time.Duration
	epoch   uint64
	numbers []baseline
}

// barrierAnswer completes an answer when it leaves: what was queued is its beginning, with its length before it, and the list
// of the question. The lane's mutex is held.
func (n *Node) barrierAnswer(queued []byte) []byte {
	answer, list, _ := bytesAt(queued)
	return n.appendBaselines(appendUint64(slices.Clip(answer), n.epochClock.Load()), list)
}

// barrierAnswerHeard acts on an answer: what a question begins with, then how many members follow that the answering node
// knows, of each its id and how long it has been silent in milliseconds, the newest epoch, and the numbers.
func (n *Node) barrierAnswerHeard(l *link, p wire.Publisher, body []byte) error {
	a, err := barrierReplyIn(body)
	if err != nil {
		return err
	}
	_ = n.greet(p)
	if !l.barrier.answered(p, a) {
		l.barrier.paid(p, a.nonce, a.epoch)
	}
	return nil
}

// barrierReplyIn decodes an answer.
func barrierReplyIn(body []byte) (a barrierReply, err error) {
	_, a.nonce, body, err = barrierBody(body)
	if err != nil {
		return a, err
	}
	if a.named, body, err = namedIn(body); err != nil {
		return a, err
	}
	if a.epoch, body, err = uint64At(body); err != nil {
		return a, err
	}
	a.numbers, err = baselinesIn(body)
	return a, err
}

// greet makes a node that is no member one, and this node one of it: it answers a hello. Of what it said to all nothing may have
// come here. It returns false for a member.
func (n *Node) greet(p wire.Publisher) bool {
	if !n.members.unheard(p) {
		return false
	}
	n.sendOwn(inboxAddress(nodeID(p)), wire.Heartbeat, []byte{byte(flagHello | flagDirect)})
	return true
}

// barrierBody decodes what questions and answers begin with.
func barrierBody(body []byte) (flags barrierFlags, nonce uint64, rest []byte, err error) {
	switch {
	case len(body) == 0 || body[0] != barrierVersion:
		return 0, 0, nil, fmt.Errorf("%w of a barrier", wire.ErrVersion)
	case len(body) == 1:
		return 0, 0, nil, fmt.Errorf("%w: a barrier of one byte", wire.ErrBroken)
	}
	if nonce, rest, err = uint64At(body[2:]); err == nil && nonce == 0 {
		err = fmt.Errorf("%w: a barrier without a number", wire.ErrBroken)
	}
	return barrierFlags(body[1]), nonce, rest, err
}

// namedIn decodes the list of members in an answer.
func namedIn(b []byte) (named map[wire.Publisher]time.Duration, rest []byte, err error) {
	count, b, err := uint64At(b)
	if err == nil && count > memberMost {
		err = fmt.Errorf("%w: a list of %d members", wire.ErrBroken, count)
	}
	if err != nil {
		return nil, nil, err
	}
	named = map[wire.Publisher]time.Duration{}
	for range count {
		var p wire.Publisher
		if len(b) < len(p) {
			return nil, nil, fmt.Errorf("%w: a list of members", wire.ErrBroken)
		}
		b = b[copy(p[:], b):]
		var silent uint64
		if silent, b, err = uint64At(b); err != nil {
			return nil, nil, err
		}
		named[p] = time.Duration(min(silent, 1<<32)) * time.Millisecond
	}
	return named, b, nil
}
