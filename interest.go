package backplane

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// interest is this node's interest in one address, shared by all its subscriptions to it.
//
// What is wanted (refs > 0), what the broker may hold, and what it has confirmed are three things; each link's supervisor
// makes them equal, one call of the transport at a time, so that a last unsubscribe racing the next subscribe ends right
// whatever the order, and whatever became of a call whose outcome is not known. See reconcile.go.
type interest struct {
	addr    Address
	channel string

	// Guarded by interestTable.mu.
	link      *link
	waiters   []*waiter // Subscribe calls that wait for the confirmation
	refs      int32     // subscriptions and waiters
	confirmed bool      // in force: the broker has confirmed, and nothing happened since
	held      bool      // the broker may hold it: it was asked to, and has not said since that it does not
	busy      bool      // a call of the transport about it is under way
	stale     bool      // what that call brings is void: the broker dropped the subscription meanwhile
	queued    bool      // in the link's list to be reconciled
	denied    bool      // refused although it had been confirmed before
	renew     bool      // to be unsubscribed and subscribed anew: see verify.go
	proving   bool      // in verifier.fresh or verifier.asked, or on the way from one to the other
	known     bool      // in verifier.all
	round     *round    // what it waits for to be in force, after the broker has confirmed it; nil for nothing

	own bool // constant: the engine's own, and never given up

	mu         sync.Mutex    // guards what follows; the delivering side
	removed    bool          // not in the table any more
	heard      atomic.Uint32 // a proof; not guarded
	head       *subscription
	publishers map[wire.Publisher]*counter // nil until somebody publishes
	loss       *loss                       // to be told before anything else
	since      uint64                      // the tick at which the interest was confirmed
	at         int64                       // and the time, see link.hears
}

// loss is what happened to the subscriptions of a link: one value for all of them.
type loss struct {
	cause GapCause
	since time.Time
	err   error
}

// waiter is one Subscribe call.
type waiter struct {
	sub  *subscription
	done chan error // buffered; gets one value
	said error      // why the last attempt failed, nil if none has; guarded by interestTable.mu
}

// interestTable finds interests by channel.
type interestTable struct {
	mu sync.RWMutex
	// Guarded by mu.
	m      map[string]*interest
	todo   map[*link][]*interest // to be reconciled; has an entry for each link that is up, and for no other
	denied int                   // interests that the broker refuses although it had confirmed them before
	closed bool

	verifier verifier

	counted interestSet // those with counters of publishers
}

// interestSet is a set with a lock of its own, so that it can be changed with interest.mu held.
type interestSet struct {
	mu sync.Mutex
	m  map[*interest]struct{} // guarded by mu
}

func (s *interestSet) add(in *interest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[in] = struct{}{}
}

func (s *interestSet) remove(in *interest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, in)
}

func (s *interestSet) all() []*interest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.m))
}

func (t *interestTable) init() {
	t.m = map[string]*interest{}
	t.todo = map[*link][]*interest{}
	t.counted.m = map[*interest]struct{}{}
}

func (t *interestTable) get(channel string) *interest {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[channel]
}

func (t *interestTable) confirmed(in *interest) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return in.confirmed
}

func (t *interestTable) count() (wanted, confirmed int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, in := range t.m {
		if in.refs > 0 {
			wanted++
		}
		if in.confirmed {
			confirmed++
		}
	}
	return wanted, confirmed
}

// deny records whether the broker refuses an interest that it had confirmed before, and reports whether that is new. mu is
// held.
func (t *interestTable) deny(in *interest, denied bool) bool {
	if denied == in.denied {
		return false
	}
	in.denied = denied
	if denied {
		t.denied++
	} else {
		t.denied--
	}
	return true
}

// denials counts the interests that the broker refuses although it had confirmed them before.
func (t *interestTable) denials() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.denied
}

// unwanted gives an interest up that has no subscription any more. mu is held.
func (t *interestTable) unwanted(n *Node, in *interest) {
	switch {
	case in.busy: // who does that will see
	case in.held:
		t.queue(in)
	default:
		t.remove(n, in)
	}
}

// remove forgets an interest that is not wanted and that the broker does not hold. mu is held.
func (t *interestTable) remove(n *Node, in *interest) {
	if t.m[in.channel] == in {
		delete(t.m, in.channel)
	}
	t.deny(in, false)
	in.mu.Lock()
	in.removed = true
	in.mu.Unlock()
	in.forgetPublishers(n)
}
