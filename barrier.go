package backplane

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// Where the broker is several servers ([transport.Clustered]), a subscription that our server has confirmed is announced
// to the others, and nobody tells when they know. But what one connection sends stays in order on the way to each of them: a
// member that answers a message which we sent after the subscription proves that its server knows it. So a round asks all
// members, over the members' channel, and each answers at once to our inbox, never behind a handler.
//
//   - A subscription is in force when a round that began after the server's confirmation is over. One round is for all that
//     were confirmed before it began, so thousands of joins take a few.
//   - Each round lists the addresses that it is for, and members tell where their numbers stand: baseline.go.
//   - The first round of a connection is its gate, for no subscription: the user's messages are held until it is over, since a
//     member that subscribed before it knew us did not wait for us. Members answer the gate behind their subscriptions, and say whom they
//     know: who is named and not known here, because its route is not up yet or because it has just died, has one probe
//     interval to show up.
//   - A round waits for each member until it answers, leaves, or is declared dead. What became of a question or its answer
//     nobody knows while routes between servers come and go, so who is silent is asked again each probe interval.
//   - Members that find each other only after their gates, or again after a silence, have missed something: debts.go.

// Nodes that start at the same moment are not known to one another's servers when they ask. So a gate asks several times, and
// lasts for a 16th of a probe interval after its question came back to ourselves at least, or twenty times as long as that took,
// if this is longer, up to a probe interval; and for three times as long as an answer took, up to half a probe interval. Without
// any answer it is over after a quarter of a probe interval: then there is nobody, for all that can be known. Who shows up later
// is told a gap, see debts.go.
const (
	gateLeast    = 16
	gatePatience = 4
	gateEchoes   = 20
	gateAnswers  = 3
	gateMost     = 2
)

// barrier makes the rounds of one link. Its goroutine is run, which ends with the node; it is there only where the
// transport is a [transport.Clustered].
type barrier struct {
	l       *link
	cluster transport.Clustered // nil where a confirmation is all there is
	wake    chan struct{}

	several atomic.Bool // the server of the last connection had others beside it

	mu      sync.Mutex // guards what follows; taken with interestTable.mu, interest.mu or lane.mu held, never the other way round
	conn    uint64     // of the present connection; counts connects and losses
	since   time.Time  // when the present one was made
	ready   bool       // the engine's own channels are confirmed on it
	passed  bool       // its gate is over, or it needed none
	whole   bool       // all subscriptions that were wanted at the connect are in force
	waiting []*round   // are to come; the last one gathers interests
	current *round     // nil if none is under way
	// stepping is set while a call of step is at work; chasing while run has a timer for the current round.
	stepping, chasing bool
	debts             map[wire.Publisher]*debt
	gates             map[wire.Publisher]uint64 // of members: the newest that was answered
	newest            uint64                    // counts rounds and debts
	opened            chan struct{}             // closed when the first gate is over
}

func (b *barrier) init(l *link) {
	b.l = l
	b.cluster, _ = l.n.t.(transport.Clustered)
	b.wake = make(chan struct{}, 1)
	b.opened = make(chan struct{})
	b.debts = map[wire.Publisher]*debt{}
	b.gates = map[wire.Publisher]uint64{}
}

// clustered reports whether a confirmation of the link's server is not enough. While the link is away the last server counts: what
// it shared with others is what is missing now.
func (b *barrier) clustered() bool {
	if b.cluster == nil {
		return false
	}
	if b.cluster.Clustered(b.l.id) {
		b.several.Store(true)
	}
	return b.several.Load()
}

// connect begins a connection, before its first subscription. If there is a gate it holds the lane's messages.
func (b *barrier) connect() {
	b.several.Store(false)
	gate := b.clustered()
	b.mu.Lock()
	b.conn++
	b.since = time.Now()
	b.ready, b.whole, b.passed = false, false, !gate
	conn := b.conn
	if !gate {
		b.open()
		conn = 0
	}
	b.mu.Unlock()
	b.l.lane.hold(conn)
}

// open notes that a gate is over. mu is held.
func (b *barrier) open() {
	b.passed = true
	if b.cluster != nil {
		b.l.n.published.Store(true)
	}
	select {
	case <-b.opened:
	default:
		close(b.opened)
	}
}

// lost ends the rounds of a connection.
func (b *barrier) lost() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready, b.passed, b.waiting = false, false, nil
	b.conn++
	b.current = nil
}

// begin lets rounds begin: answers can come.
func (b *barrier) begin() {
	b.mu.Lock()
	b.ready = true
	b.mu.Unlock()
	b.step(true)
}

func (b *barrier) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// join puts an interest into the newest round that is to come, for step to make. interestTable.mu is held.
func (b *barrier) join(in *interest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.newestWaiting()
	if r == nil || r.full(in.addr, b.l.n.questionMost()) {
		r = newRound()
		b.waiting = append(b.waiting, r)
	}
	in.round = r
	r.ins = append(r.ins, in)
	r.bytes += listed(in.addr)
}

// newestWaiting is the last round to come; nil if there is none. mu is held.
func (b *barrier) newestWaiting() *round {
	if len(b.waiting) == 0 {
		return nil
	}
	return b.waiting[len(b.waiting)-1]
}

func newRound() *round {
	return &round{
		born: time.Now(), waits: map[wire.Publisher]*awaited{}, epochs: map[wire.Publisher]beat{}, told: map[wire.Publisher][]baseline{},
	}
}

// restored notes that every subscription was confirmed by the server: the newest round is the last one that they need.
func (b *barrier) restored() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r := b.newestWaiting(); {
	case r != nil:
		r.whole = true
	case b.current != nil:
		b.current.whole = true
	case b.passed:
		b.whole = true
	default:
		r = newRound()
		r.whole = true
		b.waiting = append(b.waiting, r)
	}
}

// condition is what keeps the link from being up: nil if nothing does.
func (b *barrier) condition() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.passed && b.whole {
		return nil
	}
	return fmt.Errorf("%w%s", errRestoring, b.silent())
}

// causes lists the members that have not answered a round for too long, although their heartbeats may come: subscriptions wait
// for them.
func (b *barrier) causes(now time.Time) []Cause {
	if b.cluster == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.current
	if r == nil || now.Sub(r.begun) < b.l.n.o.ProbeTimeout {
		return nil
	}
	var causes []Cause
	for p := range r.waits {
		err := fmt.Errorf("%w: subscriptions wait for its answer since %v", ErrUnavailable, now.Sub(r.begun).Round(time.Millisecond))
		causes = append(causes, Cause{Kind: CauseMember, Node: nodeID(p), Err: err})
	}
	slices.SortFunc(causes, func(x, y Cause) int { return cmp.Compare(x.Node, y.Node) })
	return causes
}

// silence names who keeps a round waiting, for an error; "" if nobody does.
func (b *barrier) silence() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.silent()
}

// silent is silence. mu is held.
func (b *barrier) silent() string {
	const most = 3
	r := b.current
	if r == nil || len(r.waits) == 0 {
		return ""
	}
	names := make([]string, 0, len(r.waits))
	for p := range r.waits {
		names = append(names, string(nodeID(p)))
	}
	slices.Sort(names)
	more := ""
	if k := len(names) - most; k > 0 {
		names, more = names[:most], " and "+itoa(k)+" more"
	}
	return "; no answer from node " + strings.Join(names, ", ") + more
}

// await waits until the gate of the first connection is over, or until ctx ends.
func (b *barrier) await(ctx context.Context) {
	if b.cluster == nil {
		return
	}
	select {
	case <-b.opened:
	case <-ctx.Done():
	}
}
