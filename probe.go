package backplane

import (
	"fmt"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// probing is what a link knows of its probes: messages to itself, the whole way round. It is guarded by link.mu.
type probing struct {
	newest     uint64                      // counts the probes that were sent
	answered   uint64                      // the newest one that came back
	provenAt   time.Time                   // when it was sent
	sent       [probesRemembered]time.Time // when each of the last ones was sent
	unanswered time.Time                   // since when a probe is due to come back; zero if none is
	begun      bool                        // one was sent on the present connection
	proven     bool                        // one came back on the present connection
	told       bool                        // link.heard is closed
}

// probesRemembered bounds the probes whose times are known; more are under way only where the timeout is that many intervals.
const probesRemembered = 32

func (p *probing) sentAt(k uint64) time.Time { return p.sent[k%probesRemembered] }

// connected begins a new connection. The subscription that the first probe needs is due to be confirmed as well.
func (p *probing) connected(now time.Time) {
	p.begun, p.proven = false, false
	p.unanswered = now
}

// next counts a probe that is sent now.
func (p *probing) next(now time.Time) uint64 {
	p.newest++
	p.sent[p.newest%probesRemembered] = now
	if !p.begun || p.unanswered.IsZero() {
		p.unanswered = now
	}
	p.begun = true
	return p.newest
}

// back notes that a probe came back, and returns how long it took; 0 if that is not known. It returns false for one that
// was not sent, and for a repeat.
func (p *probing) back(k uint64, now time.Time) (took time.Duration, ok bool) {
	if k > p.newest || k <= p.answered {
		return 0, false
	}
	p.answered, p.proven = k, true
	switch {
	case k == p.newest:
		p.unanswered = time.Time{}
	case p.newest-k < probesRemembered:
		p.unanswered = p.sentAt(k + 1)
	default:
		p.unanswered = p.sentAt(p.newest)
	}
	if p.newest-k < probesRemembered {
		p.provenAt = p.sentAt(k)
		took = max(now.Sub(p.provenAt), 1)
	}
	return took, true
}

// overdue returns when the link counts as silent, and when it is given up; both zero if no probe is due. A link on which
// frames come in and publishes are answered is alive, though a probe may wait behind many frames; but not for ever: what we
// publish may go to another server than the one we hear.
func (p *probing) overdue(timeout time.Duration, lastFrame time.Time, mute bool) (silent, givenUp time.Time) {
	if p.unanswered.IsZero() {
		return silent, givenUp
	}
	silent = p.unanswered.Add(timeout)
	if givenUp = silent; mute {
		return silent, givenUp
	}
	if t := lastFrame.Add(timeout); t.After(givenUp) {
		givenUp = t
	}
	if last := p.unanswered.Add(3 * timeout); last.Before(givenUp) {
		givenUp = last
	}
	return silent, givenUp
}

// paused gives the probes under way their time again: this process did not run, and what came meanwhile is not read yet.
func (l *link) paused(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.probes.unanswered.IsZero() {
		l.probes.unanswered = now
	}
}

// sendProbe sends a probe once its channel is subscribed. It is called at the confirmation, and each probe interval.
func (l *link) sendProbe(now time.Time) {
	if !l.isUp() || !l.n.interests.confirmed(l.probe) {
		return
	}
	l.mu.Lock()
	payload := appendUint64(nil, l.probes.next(now))
	l.mu.Unlock()
	l.n.sendOwn(l.probe.addr, wire.Probe, payload)
}

// watch gives the link up when a probe is overdue for too long, and returns when to look again; zero if no probe is due.
func (l *link) watch(now time.Time) time.Time {
	l.mu.Lock()
	if !l.up {
		l.mu.Unlock()
		return time.Time{}
	}
	silent, givenUp := l.probes.overdue(l.n.o.ProbeTimeout, l.heardLast(), l.mute.Load())
	waited := now.Sub(l.probes.unanswered)
	l.mu.Unlock()
	switch {
	case silent.IsZero():
		return silent
	case now.Before(silent):
		return silent
	case now.Before(givenUp):
		l.n.health.look()
		return givenUp
	}
	l.fail(fmt.Errorf("%w: no probe came back for %v", ErrUnavailable, waited.Round(time.Millisecond)))
	return time.Time{}
}

// probeHeard is called when a probe has come back.
func (l *link) probeHeard(k uint64) {
	now := time.Now()
	l.mu.Lock()
	if !l.up {
		l.mu.Unlock()
		return
	}
	took, ok := l.probes.back(k, now)
	if took > 0 {
		l.lastProbe.Store(int64(took))
	}
	l.mu.Unlock()
	if ok {
		l.n.health.look()
		l.tellHeard()
	}
}

// tellHeard lets Open go on once the link is whole, after health has looked: a probe came back and every subscription was
// asked for, so that the node is Up when Open returns.
func (l *link) tellHeard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.probes.proven && l.restored && !l.probes.told {
		l.probes.told = true
		close(l.heard)
	}
}

// newestProbe returns the newest probe that was sent.
func (l *link) newestProbe() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.probes.newest
}

// provenAt returns when the newest probe was sent that came back; the zero time if none did.
func (l *link) provenAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.probes.provenAt
}

// probedAfter reports whether a probe came back that was sent after the given one.
func (l *link) probedAfter(k uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.probes.answered > k
}
