package backplane

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// goneMost is how many nodes that died are remembered, to notice when one speaks again.
const goneMost = 4096

// memberMost bounds the table of members; nobody has so many.
const memberMost = 1 << 16

// memberTable knows who is alive.
type memberTable struct {
	n *Node

	mu       sync.Mutex                 // guards what follows; taken with interest.mu held, never the other way round
	m        map[wire.Publisher]*member // without this node
	self     Member
	gone     map[wire.Publisher]time.Time // declared dead, not said goodbye: when a heartbeat last came
	left     map[wire.Publisher]struct{}  // said goodbye: a heartbeat that comes later is a late one
	settling time.Time                    // until then nobody is declared dead
	ids      map[wire.Publisher]NodeID    // of publishers heard, to have each id once
}

// member is another node.
type member struct {
	Member
	heard    time.Time // the last heartbeat
	beats    beats     // heartbeats on the members' channel
	number   uint64    // of the newest of them; 0 for none since this node's own link was connected
	settings settings
	differs  error // in what its settings could lose messages
}

func (t *memberTable) init(n *Node) {
	t.n = n
	t.m = map[wire.Publisher]*member{}
	t.gone = map[wire.Publisher]time.Time{}
	t.left = map[wire.Publisher]struct{}{}
	t.ids = map[wire.Publisher]NodeID{}
	t.self = Member{ID: n.id, Label: n.o.Label, Since: time.Now(), Self: true}
}

// Members lists the nodes known to be alive, this one included, sorted by id. A node is known from its first heartbeat,
// which it sends when it connects and then every [Options.Heartbeat], until it says goodbye or has been silent for
// [Options.MemberTimeout].
func (n *Node) Members() []Member {
	t := &n.members
	t.mu.Lock()
	defer t.mu.Unlock()
	members := make([]Member, 0, 1+len(t.m))
	members = append(members, t.self)
	for _, m := range t.m {
		members = append(members, m.Member)
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

// idOf returns the id of a publisher, the same string for each call where it can.
func (t *memberTable) idOf(p wire.Publisher) NodeID {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p == t.n.publisher {
		return t.n.id
	}
	if m := t.m[p]; m != nil {
		return m.ID
	}
	if id, ok := t.ids[p]; ok {
		return id
	}
	if len(t.ids) >= goneMost {
		clear(t.ids)
	}
	id := nodeID(p)
	t.ids[p] = id
	return id
}

// beganAfter reports whether it is sure that an epoch of a publisher began after the given tick.
func (t *memberTable) beganAfter(p wire.Publisher, epoch, tick uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p == t.n.publisher {
		return epoch > tick // of one counter
	}
	m := t.m[p]
	return m != nil && m.beats.beganAfter(epoch, tick)
}

// isGone reports whether a publisher was declared dead, and no heartbeat came from it since; and when one last did.
func (t *memberTable) isGone(p wire.Publisher) (last time.Time, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, gone = t.gone[p]
	return last, gone
}

// settle lets nobody be declared dead for a member timeout: this node was cut off or paused, so that the silence may
// have been its own.
func (n *Node) settle() {
	t := &n.members
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settling = time.Now().Add(n.o.MemberTimeout)
}

// beat records a heartbeat.
func (t *memberTable) beat(p wire.Publisher, flags heartbeatFlags, epoch uint64, s settings, label []byte) {
	n := t.n
	now := time.Now()
	tick := n.ticks.Add(1)
	t.mu.Lock()
	if flags&flagGoodbye != 0 {
		m := t.m[p]
		delete(t.m, p)
		if len(t.left) >= goneMost {
			clear(t.left)
		}
		t.left[p] = struct{}{}
		t.mu.Unlock()
		if m != nil {
			n.log.Info("member left", "node", string(m.ID), "label", m.Label)
			n.memberGone(p, goneError(ErrNodeLeft, p))
		}
		return
	}
	if _, left := t.left[p]; left { // a node that closes may still answer a hello: a rolling restart showed it
		t.mu.Unlock()
		return
	}
	m := t.m[p]
	fresh := m == nil
	if fresh && len(t.m) >= memberMost {
		t.mu.Unlock()
		return
	}
	last, back := t.gone[p]
	delete(t.gone, p)
	if fresh {
		m = &member{Member: Member{ID: nodeID(p), Label: string(label), Since: now}}
		t.m[p] = m
		delete(t.ids, p)
	}
	m.heard = now
	if flags&flagDirect == 0 { // the inbox may be on another link than the members' channel
		m.beats.add(beat{tick, epoch})
	}
	if fresh || m.settings != s {
		m.settings = s
		m.differs = n.settings.disagree(s)
	}
	differs := m.differs
	id := m.ID
	t.mu.Unlock()

	if flags&flagHello != 0 {
		n.sendOwn(inboxAddress(id), wire.Heartbeat, []byte{byte(flagDirect)})
	}
	if !fresh {
		return
	}
	n.log.Info("member found", "node", string(id), "label", string(label))
	if differs != nil {
		n.log.Error("a member's settings differ in a way that can lose messages", "node", string(id), "err", differs)
	}
	if back {
		n.log.Warn("a member that was declared dead speaks again", "node", string(id))
	}
	n.membersLink.barrier.met(p, flags&(flagDirect|flagHello) == flagDirect, flags&flagPublished != 0, back, last)
	n.health.look()
}

// check declares dead who has been silent for too long, while this node could hear: proven is when the newest probe was
// sent that came back on the link on which heartbeats come. Two heartbeats at least should have come before it. It returns
// when to look again: soon enough that what waits for a member waits no longer than the timeout.
func (t *memberTable) check(now, proven time.Time) (next time.Time) {
	n := t.n
	timeout := n.o.MemberTimeout
	var dead []*member
	var publishers []wire.Publisher
	next = now.Add(n.o.Heartbeat / 2)
	t.mu.Lock()
	if now.After(t.settling) {
		for p, m := range t.m {
			if now.Sub(m.heard) >= timeout && proven.Sub(m.heard) >= timeout*2/3 {
				delete(t.m, p)
				if len(t.gone) >= goneMost {
					clear(t.gone)
				}
				t.gone[p] = m.heard
				dead, publishers = append(dead, m), append(publishers, p)
			} else if due := m.heard.Add(timeout); due.After(now) && due.Before(next) {
				next = due
			}
		}
	}
	t.mu.Unlock()
	n.answerUnknown()
	for i, m := range dead {
		n.stats.membersLost.Add(1)
		n.log.Warn("member lost", "node", string(m.ID), "label", m.Label, "silent", now.Sub(m.heard))
		n.membersLink.barrier.died(publishers[i], m)
		n.memberGone(publishers[i], goneError(ErrNodeLost, publishers[i]))
	}
	return next
}

// memberGone ends what concerns a node that is not there any more.
func (n *Node) memberGone(p wire.Publisher, why error) {
	n.interests.memberGone(p)
	n.questions.memberGone(p, why)
	n.membersLink.barrier.gone(p)
	n.health.look()
}

// causes lists what the members give health to tell.
func (t *memberTable) causes(now time.Time) []Cause {
	t.mu.Lock()
	defer t.mu.Unlock()
	var causes []Cause
	for _, m := range t.m {
		if silent := now.Sub(m.heard); silent >= t.n.o.MemberTimeout/2 && now.After(t.settling) {
			err := fmt.Errorf("%w: no heartbeat for %v", ErrUnavailable, silent.Round(time.Millisecond))
			causes = append(causes, Cause{Kind: CauseMember, Node: m.ID, Err: err})
		}
		if m.differs != nil {
			causes = append(causes, Cause{Kind: CauseSettings, Node: m.ID, Err: m.differs})
		}
	}
	slices.SortFunc(causes, func(a, b Cause) int { return cmp.Compare(a.Node, b.Node) })
	return causes
}

// silence returns the publishers of all members, this node included, and for each how many sweeps of the counters it may be
// silent on an address without a tail mark.
func (t *memberTable) silence() map[wire.Publisher]int {
	o := &t.n.o
	sweeps := func(tailMark time.Duration) int {
		return 2 + int((2*tailMark+o.ProbeInterval+o.ProbeTimeout)/o.MemberTimeout)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	silence := make(map[wire.Publisher]int, 1+len(t.m))
	silence[t.n.publisher] = sweeps(o.TailMark)
	for p, m := range t.m {
		silence[p] = sweeps(m.settings.tailMark)
	}
	return silence
}

// others lists the members without this node.
func (t *memberTable) others() []wire.Publisher {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := make([]wire.Publisher, 0, len(t.m))
	for p := range t.m {
		ps = append(ps, p)
	}
	return ps
}

// unheard reports whether a node is no member: nothing came from it, or not for too long, or it left.
func (t *memberTable) unheard(p wire.Publisher) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[p] == nil
}

// since returns when a member was found.
func (t *memberTable) since(p wire.Publisher) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.m[p]; m != nil {
		return m.Since
	}
	return time.Now()
}

// appendList encodes members, at most so many and this node left out, for who has just come: how many, and of each its id and
// how long it has been silent in milliseconds.
func (t *memberTable) appendList(b []byte, most int) []byte {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	k := min(len(t.m), most)
	b = appendUint64(b, uint64(k)) //nolint:gosec // not negative
	for p, m := range t.m {
		if k--; k < 0 {
			break
		}
		b = append(b, p[:]...)
		b = appendUint64(b, uint64(max(now.Sub(m.heard), 0)/time.Millisecond))
	}
	return b
}

// find returns the publisher of a node's id, or why it cannot be asked.
func (t *memberTable) find(id NodeID) (wire.Publisher, error) {
	var p wire.Publisher
	if len(id) != hex.EncodedLen(len(p)) {
		return p, fmt.Errorf("%w: %w: %.64q is no id of a node", ErrUnavailable, ErrNodeLost, id)
	}
	if _, err := hex.Decode(p[:], []byte(id)); err != nil {
		return p, fmt.Errorf("%w: %w: %.64q is no id of a node", ErrUnavailable, ErrNodeLost, id)
	}
	return p, t.standing(p)
}

// standing returns why a node cannot answer: nil for a member, and for one that is not known while this is settling, since it
// may live without having been heard yet.
func (t *memberTable) standing(p wire.Publisher) error {
	settling := t.n.Settling()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[p] != nil {
		return nil
	}
	if _, left := t.left[p]; left {
		return goneError(ErrNodeLeft, p)
	}
	if _, lost := t.gone[p]; lost || !settling {
		return goneError(ErrNodeLost, p)
	}
	return nil
}

// goneError says that a node does not answer any more, and why.
func goneError(why error, p wire.Publisher) error {
	return fmt.Errorf("%w: %w: node %s", ErrUnavailable, why, nodeID(p))
}

// Settling reports whether this node may not know all others: until it has been connected for [Options.MemberTimeout], after
// Open, after an outage of its own, and after a pause of its process. Meanwhile it declares nobody dead, and what it
// learns from all members may be partial.
func (n *Node) Settling() bool {
	if !n.membersLink.isUp() {
		return true
	}
	t := &n.members
	t.mu.Lock()
	defer t.mu.Unlock()
	return !time.Now().After(t.settling)
}

// Settled waits until this node is not [Node.Settling] any more, so that what it then asks all members is whole. It is for
// programs that open a node, ask, and end; a server has no need to wait. The error is that of the context, with ErrUnavailable,
// or ErrClosed.
func (n *Node) Settled(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return n.error("settle", Address{}, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx)))
		case <-n.ctx.Done():
			return n.error("settle", Address{}, ErrClosed)
		}
		if n.closed() {
			return n.error("settle", Address{}, ErrClosed)
		}
		if !n.Settling() {
			return nil
		}
		timer.Reset(max(n.o.Heartbeat/settleLooks, time.Millisecond))
	}
}

// settleLooks is how often in a Heartbeat Settled looks.
const settleLooks = 8
