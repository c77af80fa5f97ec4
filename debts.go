package backplane

import (
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// Between two servers of a clustered broker messages are lost without a word to anybody: while a route is away, and after
// that until each server has heard again which subscriptions there are on the other side. Who finds a member that it had
// declared dead, or of which heartbeats are missing, or that had published before the two knew each other, owes its
// subscriptions a gap. It is told once the member has answered, and so its server knows the subscriptions: what is
// lost before that is covered, and after that nothing is lost. One that dies is a gap at once. See barrier.go.

// debt is what is to be done once a member has answered a question that was sent after its nonce was drawn.
type debt struct {
	nonce uint64
	since time.Time // since when messages of the member may be missing here
	tell  bool      // the member may have missed messages of this node, and does not know
	begun time.Time
}

func (d *debt) question() []byte {
	var flags barrierFlags
	if d.tell {
		flags = barrierMissed
	}
	return barrierQuestion(flags, d.nonce)
}

// owe notes that messages of a member may be missing since a time, zero for since the connection began.
func (b *barrier) owe(p wire.Publisher, since time.Time, tell bool) {
	now := time.Now()
	b.mu.Lock()
	if since.IsZero() {
		since = b.since
	}
	d := b.debts[p]
	if d == nil {
		d = &debt{since: since, begun: now}
		b.debts[p] = d
	}
	if since.Before(d.since) {
		d.since = since
	}
	d.tell = d.tell || tell
	b.newest++
	d.nonce = b.newest
	question := d.question()
	b.mu.Unlock()
	b.l.n.sendOwn(inboxAddress(nodeID(p)), wire.Barrier, question)
}

// doubtful reports whether messages of a node may be missing before the first one that is heard, and since when: a gap for it
// is still to be told, or it publishes and is no member here, so that nothing of its gate has come.
func (b *barrier) doubtful(p wire.Publisher) (since time.Time, doubtful bool) {
	n := b.l.n
	if b.cluster == nil || p == n.publisher {
		return since, false
	}
	stranger := n.members.unheard(p) && b.clustered()
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.debts[p]; d != nil {
		return d.since, true
	}
	return b.since, stranger
}

// paid tells the gap that was owed for a member; nonce is that of its answer, 0 where none will come any more, and epoch the
// newest that it had begun. Only what begins later is sure to be whole: heartbeats from before may have come by a server that
// did not know the subscriptions yet.
func (b *barrier) paid(p wire.Publisher, nonce, epoch uint64) {
	b.mu.Lock()
	d := b.debts[p]
	if d == nil || nonce != 0 && nonce != d.nonce {
		b.mu.Unlock()
		return
	}
	delete(b.debts, p)
	b.mu.Unlock()
	n := b.l.n
	if nonce == 0 {
		n.interests.deathGap(n.members.idOf(p), d.since)
		return
	}
	n.members.settled(p, epoch)
	n.interests.memberGap(p, n.members.idOf(p), d.since)
}

// died acts on a member that was declared dead. What its server had taken and not passed on is lost where both died, or where it
// died while a route was away, and no number will ever show it: its subscribers are told. So are all others, since it may have
// published to any address. Who subscribes from now on has missed nothing, nor has who waits for its answer still: what it
// publishes after this is covered when it speaks again. So this comes before gone, which puts them in force.
func (b *barrier) died(p wire.Publisher, m *member) {
	if !b.clustered() {
		return // the one server that there is passes on what it has taken
	}
	since := m.heard.Add(-2 * m.settings.tailMark) // what was lost before that, its tail mark has shown
	b.mu.Lock()
	d := b.debts[p]
	if d != nil && since.Before(d.since) {
		d.since = since
	}
	b.mu.Unlock()
	if d == nil { // else gone tells it
		b.l.n.interests.deathGap(m.ID, since)
	}
}

// dun asks those anew who have not answered, and tells the gaps of those who are not there any more.
func (b *barrier) dun(now time.Time) {
	if b.cluster == nil {
		return
	}
	n := b.l.n
	questions := map[wire.Publisher][]byte{}
	var old []wire.Publisher
	b.mu.Lock()
	for p, d := range b.debts {
		if now.Sub(d.begun) >= n.o.MemberTimeout {
			old = append(old, p)
		}
		questions[p] = d.question()
	}
	b.mu.Unlock()
	for _, p := range old {
		if n.members.unheard(p) {
			b.paid(p, 0, 0)
			delete(questions, p)
		}
	}
	for p, question := range questions {
		n.sendOwn(inboxAddress(nodeID(p)), wire.Barrier, question)
	}
}

// met acts on a member that was not known, or not any more: back is set where it had been declared dead, last heard at
// since. open says that it has published.
func (b *barrier) met(p wire.Publisher, direct, open, back bool, since time.Time) {
	passed := b.found(p, direct)
	switch {
	case back && b.clustered():
		b.owe(p, since, false)
	case back:
		b.l.n.interests.memberGap(p, b.l.n.members.idOf(p), since)
	case passed && open && b.clustered():
		b.l.n.log.Warn("a member has published before it was known here", "node", string(nodeID(p)))
		b.owe(p, time.Time{}, true) // and may have missed what was published here
	}
}

// missed is met for a member of which heartbeats did not come.
func (b *barrier) missed(p wire.Publisher, since time.Time) {
	if b.clustered() {
		b.owe(p, since, false)
		return
	}
	b.l.n.interests.memberGap(p, b.l.n.members.idOf(p), since)
}

// missedBy acts on a member that says that it published before it knew this node. What it missed to tell is before its answer to
// a question that is on its way already, since only who knows this node answers: that debt covers it. Were it owed anew, two
// that tell it one another at the same time would do so for ever.
func (b *barrier) missedBy(p wire.Publisher) {
	b.mu.Lock()
	passed := b.passed && b.ready
	d := b.debts[p]
	if d != nil && b.since.Before(d.since) {
		d.since = b.since
	}
	b.mu.Unlock()
	if passed && d == nil && b.clustered() { // else nothing is in force that could have missed it
		b.owe(p, time.Time{}, false)
	}
}

// slow returns since when a round that took long may have cost messages; zero for one that did not.
func (b *barrier) slow(r *round) time.Time {
	if time.Since(r.born) < b.l.n.o.ProbeInterval {
		return time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.since
}

// tellAgain tells those who were subscribed before the round that messages may be missing, where that was told already when
// something was heard: while they waited for the round, members may have come and gone of which nothing is known here. in.mu is held.
func (in *interest) tellAgain(since time.Time) {
	if in.loss == nil && in.head != nil {
		in.push([]Event{&Gap{Address: in.addr, Cause: GapMember, Since: since}})
	}
}
