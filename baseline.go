package backplane

import (
	"fmt"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// A round of the members (barrier.go) lists the addresses that are about to be in force, and a member's answer tells the last
// number of each one on which it has an epoch under way. Counts go on from there, so that the loss of the very first message
// that a new subscription would have heard is told as well. What a member begins later it begins with number 1, see numbers.go.
//
// The answer is written when it leaves. What leaves after it finds the asking node's subscription at every server, since the
// question came behind that; what left before it may not have, and was published before Subscribe returned.

// baseline is the last number that a member had given to an address when its answer left.
type baseline struct {
	index       int // of the address in the question
	epoch, last uint64
}

// listBytes bounds the addresses in a question, and so what is told of them in an answer. It is more than thousands of joins
// at a time need; those beyond it are for the next round.
const listBytes = 256 << 10

// questionMost bounds them for a node: neither a question nor an answer is larger than a frame may be.
func (n *Node) questionMost() int { return min(listBytes, n.o.MaxPayload+frameRoom/2) }

// baselineBytes is what a baseline takes at most in an answer.
const baselineBytes = 24

// listed is what an address counts in a list.
func listed(a Address) int { return max(len(a.scope)+len(a.name)+8, baselineBytes) }

// full reports whether an address is for a later round than r.
func (r *round) full(a Address, most int) bool { return r.bytes > 0 && r.bytes+listed(a) > most }

// appendAddresses lists the addresses of interests: how many, and of each its kind, scope and name.
func appendAddresses(b []byte, ins []*interest) []byte {
	b = appendUint64(b, uint64(len(ins)))
	for _, in := range ins {
		b = append(b, byte(in.addr.kind))
		b = appendBytes(b, in.addr.scope)
		b = appendBytes(b, in.addr.name)
	}
	return b
}

// appendBaselines answers a list of addresses: how many of them have an epoch under way, and of each its place in the list, the
// epoch, and the last number. A list that is broken has none. The lane's mutex is held, and nothing of a user is under way: the
// engine's own traffic is packed first.
func (n *Node) appendBaselines(b, list []byte) []byte {
	var found []byte
	count, list, err := uint64At(list)
	k, now := uint64(0), time.Now()
	for i := uint64(0); err == nil && i < count; i++ {
		var a Address
		if a, list, err = addressAt(list); err != nil {
			break
		}
		o := n.outlets.get(a)
		if o == nil || n.expired(o, now) {
			continue
		}
		at := position{o.epoch, o.last}
		if o.retry != nil {
			at = o.retry.before // it will be sent again
		}
		if at.epoch != 0 {
			found = appendUint64(appendUint64(appendUint64(found, i), at.epoch), at.last)
			k++
		}
	}
	return append(appendUint64(b, k), found...)
}

// addressAt decodes an address of a list.
func addressAt(b []byte) (a Address, rest []byte, err error) {
	if len(b) == 0 {
		return a, nil, fmt.Errorf("%w: a list of addresses", wire.ErrBroken)
	}
	kind := Kind(b[0])
	scope, b, err := bytesAt(b[1:])
	if err != nil {
		return a, nil, err
	}
	name, b, err := bytesAt(b)
	return Address{kind: kind, scope: string(scope), name: string(name)}, b, err
}

// baselinesIn decodes what an answer tells of addresses. Older nodes tell nothing.
func baselinesIn(b []byte) ([]baseline, error) {
	if len(b) == 0 {
		return nil, nil
	}
	count, b, err := uint64At(b)
	if err == nil && count > listBytes/baselineBytes {
		err = fmt.Errorf("%w: numbers of %d addresses", wire.ErrBroken, count)
	}
	var told []baseline
	for ; err == nil && count > 0; count-- {
		var index uint64
		var t baseline
		if index, b, err = uint64At(b); err != nil {
			break
		}
		if t.epoch, b, err = uint64At(b); err != nil {
			break
		}
		if t.last, b, err = uint64At(b); err != nil {
			break
		}
		t.index = int(min(index, listBytes))
		told = append(told, t)
	}
	return told, err
}

// countFrom makes counts of the interests of a round that is over go on from what members told, where nothing was heard of them
// since. What was lost before is told first, since slow in addition where that is not zero, and needs no count. It is called
// before they are in force. interestTable.mu is held.
func (l *link) countFrom(r *round, tick uint64, slow time.Time) {
	n, now := l.n, int64(time.Since(l.n.opened))
	for _, in := range r.ins {
		if in.round != r || in.link != l {
			continue
		}
		in.keepHeardSince(n, r.epochs)
		in.mu.Lock()
		if !slow.IsZero() {
			in.tellAgain(slow)
		}
		in.tellLoss()
		in.mu.Unlock()
	}
	for p, told := range r.told {
		for _, t := range told {
			if t.index >= len(r.ins) || r.ins[t.index].round != r || r.ins[t.index].link != l {
				continue
			}
			in := r.ins[t.index]
			in.mu.Lock()
			c := in.publishers[p]
			switch {
			case c == nil:
				c, _ = in.counterOf(n, p)
			case !c.lost || c.at >= r.epochs[p].tick || t.epoch < c.epoch || t.epoch == c.epoch && t.last < c.last:
				c = nil // it is exact, or newer
			}
			if c != nil {
				c.move(t.epoch, t.last)
				c.at, c.heard = tick, now
			}
			in.mu.Unlock()
		}
	}
}
