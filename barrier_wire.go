package backplane

import (
	"fmt"
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

// barrierQuestion encodes a question: version, flags, nonce.
func barrierQuestion(flags barrierFlags, nonce uint64) []byte {
	return appendUint64([]byte{barrierVersion, byte(flags)}, nonce)
}

// barrierHeard answers a question, at once and behind every subscription that this node has made: the answer leaves on the
// same link.
func (n *Node) barrierHeard(l *link, p wire.Publisher, body []byte) error {
	flags, nonce, _, err := barrierBody(body)
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
	n.sendOwn(inboxAddress(nodeID(p)), wire.BarrierAnswer, answer)
	if flags&barrierGate != 0 {
		l.barrier.gateOf(p, nonce)
	}
	if flags&barrierMissed != 0 {
		l.barrier.missedBy(p)
	}
	return nil
}

// barrierAnswerHeard acts on an answer: what a question begins with, then how many members follow that the answering node
// knows, of each its id and how long it has been silent in milliseconds, and last the newest epoch that it had begun when the
// answer left.
func (n *Node) barrierAnswerHeard(l *link, p wire.Publisher, body []byte) error {
	_, nonce, rest, err := barrierBody(body)
	if err != nil {
		return err
	}
	named, rest, err := namedIn(rest)
	if err != nil {
		return err
	}
	epoch, _, err := uint64At(rest)
	if err != nil {
		return err
	}
	_ = n.greet(p)
	if !l.barrier.answered(p, nonce, epoch, named) {
		l.barrier.paid(p, nonce)
	}
	return nil
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
