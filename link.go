package backplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// link supervises one link of the transport. Its goroutines, all ended with the node:
//
//   - supervise connects, keeps the broker's subscriptions equal to what is wanted, and starts over when the link fails;
//   - its lane's run sends what is published (lane.go);
//   - its barrier's run makes rounds of the members, where the broker can be several servers (barrier.go);
//   - at most one check asks the broker for its role (duties.go starts it).
type link struct {
	n    *Node
	id   transport.Link
	lane *lane

	barrier barrier // rounds are made on the members' link only

	lastFrame atomic.Int64 // when a frame last came in, in nanoseconds since the node was opened
	lastProbe atomic.Int64 // round trip of the newest probe that came back, in nanoseconds
	checking  atomic.Bool  // a check is under way
	mute      atomic.Bool  // the fate of all that was published last is unknown
	expected  atomic.Bool  // the transport may call the sink: from before Connect until Disconnect has returned

	wake chan struct{} // interests wait to be reconciled
	// Set before the goroutines start.
	first   *interest     // subscribed before all others
	probe   *interest     // where this link's probes come back
	outcome chan<- error  // gets the outcome of the first attempt to connect; nil if nobody waits
	heard   chan struct{} // closed when the first probe has come back
	refused chan error    // the broker denied one of the engine's own channels, before the first probe came back

	mu        sync.Mutex // guards what follows
	up        bool
	err       error                   // why it is not up
	give      context.CancelCauseFunc // gives the present connection up
	giveCause error
	restored  bool // every subscription was asked for on the present connection
	probes    probing
	role      error // what the last check found

	// Used by supervise only.
	later  []*interest // to be tried again when retry fires
	unsure int         // how many of them may be in force or not
}

func newLink(n *Node, id transport.Link) *link {
	l := &link{
		n: n, id: id,
		wake:  make(chan struct{}, 1),
		heard: make(chan struct{}), refused: make(chan error, 1),
		err: errors.New("not connected yet"),
	}
	l.lane = newLane(n, l)
	l.barrier.init(l)
	return l
}

func (l *link) start() {
	l.n.work.Go(l.lane.run)
	l.n.work.Go(l.supervise)
	if l.barrier.cluster != nil {
		l.n.work.Go(l.barrier.run)
	}
}

// addProbe picks a channel of this link for its probes and wants it.
func (l *link) addProbe() {
	for k := 0; ; k++ {
		a := probeAddress(l.n.id, k)
		if l.n.t.Link(l.n.names.channel(a)) == l.id {
			l.probe = l.n.own(a, l)
			return
		}
	}
}

// supervise is the life of the link.
func (l *link) supervise() {
	n := l.n
	for failures := 0; n.ctx.Err() == nil; {
		l.expected.Store(true)
		ctx, cancel := context.WithTimeout(n.ctx, n.o.ProbeTimeout)
		err := n.t.Connect(ctx, l.id)
		cancel()
		if err != nil {
			l.expected.Store(false)
		} else {
			if failures > 0 {
				n.log.Info("link connected", "link", int(l.id), "attempts", failures+1)
			}
			began := time.Now()
			var useful bool
			useful, err = l.serve()
			n.t.Disconnect(l.id)
			l.expected.Store(false)
			if n.ctx.Err() != nil {
				return
			}
			lived := time.Since(began)
			n.log.Warn("link lost; connecting anew", "link", int(l.id), "err", err, "lived", lived.Round(time.Millisecond))
			l.lost(err)
			n.stats.reconnects.Add(1)
			switch {
			case useful && lived >= n.o.ReconnectMax:
				failures = 0
				continue
			case useful: // who is turned away soon, again and again, must not come back in a loop
				failures++
				n.sleep(n.backoff(failures))
				continue
			}
			err = fmt.Errorf("the connection was lost before a probe came back: %w", err)
		}
		if n.ctx.Err() != nil {
			return
		}
		failures++
		if failures == 1 {
			n.log.Warn("connecting failed", "link", int(l.id), "err", err)
		}
		l.setDown(err)
		l.sayOutcome(err)
		n.sleep(n.backoff(failures))
	}
}

// serve works on a connected link until it fails, and returns why, and whether a probe had come back.
func (l *link) serve() (useful bool, err error) {
	n := l.n
	ctx, give := context.WithCancelCause(n.ctx)
	defer give(nil)
	l.hears()
	if l.first != nil {
		n.settle() // before it is up: in between nobody must look settled
	}
	l.mu.Lock()
	l.up, l.err, l.role, l.restored = true, nil, nil, false
	l.probes.connected(time.Now())
	l.mute.Store(false)
	l.give = give
	cause := l.giveCause
	l.mu.Unlock()
	if cause != nil { // the transport was faster than this line
		return false, cause
	}
	l.barrier.connect()
	l.lane.setLink(true, nil)
	l.sayOutcome(nil)
	n.interests.wantAll(l)
	n.health.look()
	if l.first != nil {
		n.members.forgetNumbers()
	}

	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	armed := false // must not be put off: who subscribes all the time would keep what failed from being tried again
	l.later, l.unsure = nil, 0
	for {
		for l.reconcile(ctx) {
		}
		if l.unsure == 0 {
			l.setRestored()
		}
		if len(l.later) > 0 && !armed {
			armed = true
			retry.Reset(n.backoff(5))
		}
		select {
		case <-l.wake:
		case <-retry.C:
			armed = false
			n.interests.again(l.later)
			l.later, l.unsure = nil, 0
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.probes.proven, l.giveCause
		}
	}
}

// hears notes that something came in, and returns when, and when something did before. It uses the time since the node was
// opened: no step of the wall clock moves it.
func (l *link) hears() (now, before int64) {
	now = int64(time.Since(l.n.opened))
	return now, l.lastFrame.Swap(now)
}

// moment is a time of hears as one of the clock.
func (n *Node) moment(at int64) time.Time { return n.opened.Add(time.Duration(at)) }

func (l *link) heardLast() time.Time { return l.n.moment(l.lastFrame.Load()) }

// setRestored records that the broker has answered for every subscription that was wanted at the connect.
func (l *link) setRestored() {
	l.mu.Lock()
	first := !l.restored
	l.restored = true
	l.mu.Unlock()
	if first {
		l.barrier.restored()
		l.barrier.step(true)
		l.n.health.look()
		l.tellHeard()
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

// gone reports whether the present connection is given up, or there is none.
func (l *link) gone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.up || l.giveCause != nil
}

// lost marks every subscription of the link: messages may be missing from the last frame that came in.
func (l *link) lost(cause error) {
	l.mu.Lock()
	l.up, l.err = false, cause
	l.give, l.giveCause = nil, nil
	l.probes.unanswered = time.Time{}
	l.mu.Unlock()
	l.lane.setLink(false, nil) // publishes wait for one attempt
	l.barrier.lost()
	l.n.interests.lost(l.n, l, &loss{cause: GapLink, since: l.heardLast(), err: cause})
	l.n.health.look()
}

// setDown records that an attempt to connect failed: from now on publishes fail at once, unless they are to wait.
func (l *link) setDown(err error) {
	l.mu.Lock()
	l.err = err
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

// deniedOwn acts on channels of the engine's own that the broker refuses: without some of them no gate opens.
func (l *link) deniedOwn(own []*interest, err error) {
	l.denied(err)
	if slices.Contains(own, l.first) || slices.Contains(own, l.n.inbox) {
		l.lane.mu.Lock()
		defer l.lane.mu.Unlock()
		l.lane.bar(err)
	}
}

// poke wakes supervise to reconcile.
func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

var errRestoring = fmt.Errorf("%w: subscriptions are being restored", ErrUnavailable)

// condition returns what is wrong with the link; the zero Cause if nothing is.
func (l *link) condition(now time.Time) Cause {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Cause{Kind: CauseLink, Link: int(l.id), Err: l.err}
	silent, _ := l.probes.overdue(l.n.o.ProbeTimeout, now, false)
	switch {
	case errors.Is(l.role, transport.ErrReadOnly):
		c.Kind, c.Err = CauseRole, l.role
	case !l.up && errors.Is(l.err, transport.ErrReadOnly):
		c.Kind = CauseRole
	case !l.up:
	case !l.restored:
		c.Err = errRestoring
	case l.role != nil: // the broker did not tell
		c.Kind, c.Err = CauseSilent, l.role
	case !l.probes.proven:
		c.Kind, c.Err = CauseSilent, fmt.Errorf("%w: no probe has come back yet", ErrUnavailable)
	case !silent.IsZero() && !now.Before(silent):
		c.Kind, c.Err = CauseSilent, fmt.Errorf("%w: no probe came back within %v", ErrUnavailable, l.n.o.ProbeTimeout)
	default:
		if c.Err = l.barrier.condition(); c.Err == nil {
			return Cause{}
		}
	}
	return c
}

// each returns a transport's results for k requests. Where their number is another one, nobody knows which belongs to which,
// and so all are uncertain: a transport's mistake must not become a message that is taken for delivered.
func (l *link) each(k int, errs []error) []error {
	if errs == nil || len(errs) == k {
		return errs
	}
	err := fmt.Errorf("%w: the transport gave %d results for %d requests", ErrUncertain, len(errs), k)
	l.n.log.Error("transport breaks a rule", "link", int(l.id), "err", err)
	errs = make([]error, k)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
