package backplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// link supervises one link of the transport. Its goroutines, all ended with the node:
//
//   - supervise connects, keeps the broker's subscriptions equal to what is wanted, and starts over when the link fails;
//   - its lane's run sends what is published (lane.go);
//   - at most one check asks the broker for its role (duties.go starts it).
type link struct {
	n    *Node
	id   transport.Link
	lane *lane

	lastFrame atomic.Int64 // when a frame last came in, in UnixNano
	lastProbe atomic.Int64 // round trip of the newest probe that came back, in nanoseconds
	checking  atomic.Bool  // a check is under way
	mute      atomic.Bool  // the fate of all that was published last is unknown

	wake chan struct{} // interests wait to be reconciled
	// Set before the goroutines start.
	first   *interest     // subscribed before all others
	probe   *interest     // where this link's probes come back
	outcome chan<- error  // gets the outcome of the first attempt to connect; nil if nobody waits
	heard   chan struct{} // closed when the first probe has come back
	refused chan error    // the broker denied one of the engine's own channels, before the first probe came back

	mu         sync.Mutex // guards what follows
	up         bool
	failed     bool                    // an attempt to connect failed since the link was last up
	err        error                   // why it is not up
	give       context.CancelCauseFunc // gives the present connection up
	giveCause  error
	told       bool      // heard is closed
	probed     bool      // a probe came back on the present connection
	restored   bool      // every subscription was asked for on the present connection
	nonce      uint64    // of the newest probe
	answered   uint64    // of the newest probe that came back
	sent       time.Time // when it was sent
	unanswered time.Time // since when a probe is due to come back; zero if none is
	role       error     // what the last check found

	// Used by supervise only.
	later []*interest // to be tried again when retry fires
}

func newLink(n *Node, id transport.Link) *link {
	l := &link{
		n: n, id: id,
		wake:  make(chan struct{}, 1),
		heard: make(chan struct{}), refused: make(chan error, 1),
		err: errors.New("not connected yet"),
	}
	l.lane = newLane(n, l)
	return l
}

func (l *link) start() {
	l.n.work.Go(l.lane.run)
	l.n.work.Go(l.supervise)
}

// addProbe picks a channel of this link for its probes and wants it.
func (l *link) addProbe() {
	for k := 0; ; k++ {
		a := probeAddress(l.n.id, k)
		if l.n.t.Link(l.n.names.channel(a)) == l.id {
			l.probe = l.n.own(a)
			return
		}
	}
}

// supervise is the life of the link.
func (l *link) supervise() {
	n := l.n
	for failures := 0; n.ctx.Err() == nil; {
		ctx, cancel := context.WithTimeout(n.ctx, n.o.ProbeTimeout)
		err := n.t.Connect(ctx, l.id)
		cancel()
		if err == nil {
			if failures > 0 {
				n.log.Info("link connected", "link", int(l.id), "attempts", failures+1)
			}
			failures = 0
			err = l.serve()
			n.t.Disconnect(l.id)
			if n.ctx.Err() != nil {
				return
			}
			n.log.Warn("link lost; connecting anew", "link", int(l.id), "err", err)
			l.lost(err)
			n.stats.reconnects.Add(1)
			continue
		}
		if n.ctx.Err() != nil {
			return
		}
		failures++
		if failures == 1 {
			n.log.Warn("connecting failed; trying again", "link", int(l.id), "err", err)
		}
		l.setDown(err)
		l.sayOutcome(err)
		n.sleep(n.backoff(failures))
	}
}

// serve works on a connected link until it fails, and returns why.
func (l *link) serve() error {
	n := l.n
	ctx, give := context.WithCancelCause(n.ctx)
	defer give(nil)
	now := time.Now()
	l.lastFrame.Store(now.UnixNano())
	l.mu.Lock()
	l.up, l.failed, l.err, l.role = true, false, nil, nil
	l.probed, l.restored = false, false
	l.mute.Store(false)
	l.give = give
	l.unanswered = now // the first probe's subscription is due as well
	cause := l.giveCause
	l.mu.Unlock()
	if cause != nil { // the transport was faster than this line
		return cause
	}
	l.lane.setLink(true, nil)
	l.sayOutcome(nil)
	n.interests.wantAll(l)
	n.health.look()
	if l.first != nil {
		n.settle()
	}

	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	l.later = nil
	for {
		for l.reconcile(ctx) {
		}
		l.setRestored()
		if len(l.later) > 0 {
			retry.Reset(n.backoff(5))
		}
		select {
		case <-l.wake:
		case <-retry.C:
			n.interests.again(l, l.later)
			l.later = nil
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.giveCause
		}
	}
}

// setRestored records that the broker has answered for every subscription that was wanted at the connect.
func (l *link) setRestored() {
	l.mu.Lock()
	first := !l.restored
	l.restored = true
	l.mu.Unlock()
	if first {
		l.n.health.look()
	}
}

// fail gives the present connection up; it does nothing while there is none.
func (l *link) fail(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.give != nil && l.giveCause == nil {
		l.giveCause = cause
		l.give(cause)
	}
}

// down is fail for the transport, whose word may come before serve has begun.
func (l *link) down(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.giveCause == nil {
		l.giveCause = cause
	}
	if l.give != nil {
		l.give(cause)
	}
}

// lost marks every subscription of the link: messages may be missing from the last frame that came in.
func (l *link) lost(cause error) {
	since := time.Unix(0, l.lastFrame.Load())
	l.mu.Lock()
	l.up, l.err = false, cause
	l.give, l.giveCause = nil, nil
	l.unanswered = time.Time{}
	l.mu.Unlock()
	l.lane.setLink(false, nil) // publishes wait for one attempt
	l.n.interests.lost(l, &loss{cause: GapLink, since: since, err: cause})
	l.n.health.look()
}

// setDown records that an attempt to connect failed: from now on publishes fail at once, unless they are to wait.
func (l *link) setDown(err error) {
	l.mu.Lock()
	l.failed, l.err = true, err
	l.give, l.giveCause = nil, nil
	l.mu.Unlock()
	if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrDenied) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l.lane.setLink(false, err)
	l.n.health.look()
}

func (l *link) sayOutcome(err error) {
	if l.outcome != nil {
		l.outcome <- err
		l.outcome = nil
	}
}

// denied tells Open that the broker refuses what the engine itself needs.
func (l *link) denied(err error) {
	select {
	case l.refused <- err:
	default:
	}
}

// poke wakes supervise to reconcile.
func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// sendProbe sends a probe, and gives the link up when the earlier ones are overdue. It is called each probe interval.
func (l *link) sendProbe(now time.Time) {
	l.mu.Lock()
	if !l.up {
		l.mu.Unlock()
		return
	}
	if !l.unanswered.IsZero() {
		// A link on which frames come in and publishes are answered is alive, though a probe may wait behind many frames;
		// but not for ever: what we publish may go to another server than the one we hear.
		waited := now.Sub(l.unanswered)
		quiet := min(waited, now.Sub(time.Unix(0, l.lastFrame.Load())))
		limit := l.n.o.ProbeTimeout
		if quiet >= limit || waited >= limit && l.mute.Load() || waited >= 3*limit {
			l.mu.Unlock()
			l.fail(fmt.Errorf("%w: no probe came back for %v", ErrUnavailable, waited.Round(time.Millisecond)))
			return
		}
	}
	l.mu.Unlock()
	if !l.n.interests.confirmed(l.probe) {
		return
	}
	l.mu.Lock()
	l.nonce++
	l.sent = now
	if l.unanswered.IsZero() {
		l.unanswered = now
	}
	payload := appendUint64(nil, l.nonce)
	l.mu.Unlock()
	l.n.sendOwn(l.probe.addr, wire.Probe, payload)
}

// probeHeard is called when a probe has come back.
func (l *link) probeHeard(nonce uint64) {
	now := time.Now()
	l.mu.Lock()
	first := !l.told
	late := nonce != l.nonce // an earlier one: the newest is still under way
	if !l.up || nonce > l.nonce {
		l.mu.Unlock()
		return
	}
	l.told, l.probed = true, true
	l.answered = max(l.answered, nonce)
	if late {
		l.unanswered = l.sent
	} else {
		l.unanswered = time.Time{}
		l.lastProbe.Store(int64(max(now.Sub(l.sent), 1)))
	}
	l.mu.Unlock()
	if first {
		close(l.heard)
	}
	l.n.health.look()
}

var errRestoring = fmt.Errorf("%w: subscriptions are being restored", ErrUnavailable)

// newestProbe returns the newest probe that was sent.
func (l *link) newestProbe() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nonce
}

// probedAfter reports whether a probe came back that was sent after the given one.
func (l *link) probedAfter(nonce uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered > nonce
}

// condition is what health needs to know of a link.
func (l *link) condition(now time.Time) (up, silent bool, err, role error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	silent = l.up && (!l.probed || !l.unanswered.IsZero() && now.Sub(l.unanswered) >= l.n.o.ProbeTimeout)
	if err = l.err; l.up && !l.restored {
		return false, silent, errRestoring, l.role
	}
	return l.up, silent, err, l.role
}
