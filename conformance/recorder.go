package conformance

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// recorder writes the history of one world, and wakes who waits for something to happen in it.
type recorder struct {
	start time.Time
	token [tokenLen]byte // marks the payloads of this world

	mu      sync.Mutex
	tick    int64
	h       history
	waiters []*waiter            // who waits for what
	raws    map[rawKey][]int     // publishes without a header, by their content, in their order
	subs    []subState           // beside h.Subs
	flows   map[place]*flow      // what was published where
	seqs    []int                // by instance: its newest publish
	faults  []bool               // by instance: what is sent to it may not arrive
	hurt    []bool               // by instance: there is something to heal
	running map[int]map[int]bool // by subscription: the runs under way
}

// rawKey finds a publish whose payload has no header.
type rawKey struct {
	place place
	size  int
	sum   uint32
}

// subState is what waiting needs to know of a subscription, at hand.
type subState struct {
	heard   map[int]int // by publish: how often
	lastGap int64       // the tick of the newest gap
	gaps    int
	stalled bool // the suite blocks its handler
	// How much of its place's flow it has accounted for: what it heard, and all at a gap.
	messages, bytes int
}

// flow is what was published to a place.
type flow struct {
	messages, bytes int
	subs            []int
}

func newRecorder(token [tokenLen]byte) *recorder {
	return &recorder{
		start: time.Now(), token: token,
		raws: map[rawKey][]int{}, flows: map[place]*flow{}, running: map[int]map[int]bool{},
	}
}

// stamp counts the next tick. The caller holds r.mu.
func (r *recorder) stamp() stamp {
	r.tick++
	return stamp{Tick: r.tick, At: time.Since(r.start)}
}

func (r *recorder) snapshot() history {
	r.mu.Lock()
	defer r.mu.Unlock()
	return history{
		Nodes: slices.Clone(r.h.Nodes), Pubs: slices.Clone(r.h.Pubs), Subs: slices.Clone(r.h.Subs),
		Runs: slices.Clone(r.h.Runs), Marks: slices.Clone(r.h.Marks),
	}
}

// before reports whether no mark of a kind has been made.
func (r *recorder) before(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(r.h.Marks, func(m markRecord) bool { return m.Kind == kind })
}

func (r *recorder) lastTick() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tick
}

// flow returns what was published to a place. The caller holds r.mu.
func (r *recorder) flow(p place) *flow {
	f := r.flows[p]
	if f == nil {
		f = &flow{}
		r.flows[p] = f
	}
	return f
}

func (r *recorder) openCall(name, namespace string) int {
	r.mu.Lock()
	defer r.unlock()
	r.h.Nodes = append(r.h.Nodes, nodeRecord{Name: name, Namespace: namespace, Open: call{Call: r.stamp()}})
	r.seqs = append(r.seqs, 0)
	r.faults = append(r.faults, false)
	r.hurt = append(r.hurt, false)
	return len(r.h.Nodes) - 1
}

func (r *recorder) openReturn(node int, id backplane.NodeID, err error) {
	r.mu.Lock()
	defer r.unlock()
	r.h.Nodes[node].ID = id
	r.h.Nodes[node].Open.Return, r.h.Nodes[node].Open.Result = r.stamp(), classify(err)
}

func (r *recorder) closeCall(node int) {
	r.mu.Lock()
	defer r.unlock()
	if c := &r.h.Nodes[node].Close; !c.Call.happened() { // the first one counts
		c.Call = r.stamp()
	}
}

// closeReturn records the end of a Close. The first one counts: a later one does nothing, also when the first gave up.
func (r *recorder) closeReturn(node int, err error) {
	r.mu.Lock()
	defer r.unlock()
	if c := &r.h.Nodes[node].Close; !c.Return.happened() {
		c.Return, c.Result = r.stamp(), classify(err)
	}
}

// nextPublish gives a publish its number, so that the payload can be made before the call is recorded.
func (r *recorder) nextPublish(node int, p place) int {
	r.mu.Lock()
	defer r.unlock()
	r.seqs[node]++
	r.h.Pubs = append(r.h.Pubs, pubRecord{Node: node, Seq: r.seqs[node], Place: p})
	return len(r.h.Pubs) - 1
}

func (r *recorder) publishCall(pub int, payload []byte, raw bool) {
	size, sum := len(payload), checksum(payload)
	r.mu.Lock()
	defer r.unlock()
	p := &r.h.Pubs[pub]
	p.Size, p.Sum, p.Call = size, sum, r.stamp()
	if raw {
		k := rawKey{p.Place, size, sum}
		r.raws[k] = append(r.raws[k], pub)
	}
	f := r.flow(p.Place)
	f.messages++
	f.bytes += size
}

func (r *recorder) publishReturn(pub int, err error) {
	o := classify(err)
	r.mu.Lock()
	defer r.unlock()
	p := &r.h.Pubs[pub]
	p.Return, p.Result = r.stamp(), o
	if o.Class != ok { // it may be heard or not: no flow to wait for
		f := r.flow(p.Place)
		f.messages--
		f.bytes -= p.Size
	}
}

func (r *recorder) subscribeCall(node int, p place) int {
	r.mu.Lock()
	defer r.unlock()
	r.h.Subs = append(r.h.Subs, subRecord{Node: node, Place: p, call: call{Call: r.stamp()}})
	f := r.flow(p)
	r.subs = append(r.subs, subState{heard: map[int]int{}, messages: f.messages, bytes: f.bytes})
	return len(r.h.Subs) - 1
}

func (r *recorder) subscribeReturn(sub int, err error) {
	r.mu.Lock()
	defer r.unlock()
	s := &r.h.Subs[sub]
	s.Return, s.Result = r.stamp(), classify(err)
	if err == nil {
		f := r.flow(s.Place)
		f.subs = append(f.subs, sub)
		r.subs[sub].messages, r.subs[sub].bytes = f.messages, f.bytes
	}
}

func (r *recorder) unsubscribeCall(sub int, reentrant bool) {
	r.mu.Lock()
	defer r.unlock()
	if s := &r.h.Subs[sub]; !s.Close.Call.happened() {
		s.Close.Call, s.Reentrant = r.stamp(), reentrant
	}
	f := r.flow(r.h.Subs[sub].Place)
	f.subs = slices.DeleteFunc(f.subs, func(s int) bool { return s == sub })
}

func (r *recorder) unsubscribeReturn(sub int, err error) {
	r.mu.Lock()
	defer r.unlock()
	if s := &r.h.Subs[sub]; s.Close.Result.Class != ok {
		s.Close.Return, s.Close.Result = r.stamp(), classify(err)
	}
}

// runStart records that a handler was called, and returns the run and, for a message, the publish (-1 if it is none).
func (r *recorder) runStart(sub int, e backplane.Event) (run, pub int) {
	rec := runRecord{Sub: sub, Pub: -1}
	var id int
	switch e := e.(type) {
	case *backplane.Message:
		rec.Address, rec.Publisher = e.Address, e.Publisher
		rec.Size, rec.Sum = len(e.Payload), checksum(e.Payload)
		id = r.readHeader(e.Payload)
	case *backplane.Gap:
		rec.Address, rec.Publisher, rec.Gap, rec.Missed = e.Address, e.Publisher, e.Cause, e.Missed
	default: // a kind of event that this suite does not know
	}
	r.mu.Lock()
	defer r.unlock()
	rec.Start = r.stamp()
	if m, is := e.(*backplane.Message); is {
		for _, raw := range r.raws[rawKey{r.h.Subs[sub].Place, rec.Size, rec.Sum}] {
			if id = raw; r.subs[sub].heard[raw] == 0 {
				break // equal ones are taken in their order; one too many repeats the last
			}
		}
		if id >= 0 && id < len(r.h.Pubs) {
			rec.Pub = id
		} else {
			rec.What = fmt.Sprintf("%d bytes that begin with %q", len(m.Payload), m.Payload[:min(16, len(m.Payload))])
		}
	}
	r.h.Runs = append(r.h.Runs, rec)
	run = len(r.h.Runs) - 1
	r.account(sub, &rec)
	if r.running[sub] == nil {
		r.running[sub] = map[int]bool{}
	}
	r.running[sub][run] = true
	return run, rec.Pub
}

// account keeps what waiting needs to know. The caller holds r.mu.
func (r *recorder) account(sub int, rec *runRecord) {
	s := &r.subs[sub]
	switch {
	case rec.Gap != 0:
		s.gaps++
		s.lastGap = rec.Start.Tick
		f := r.flow(r.h.Subs[sub].Place)
		s.messages, s.bytes = f.messages, f.bytes
	case rec.Pub >= 0:
		s.heard[rec.Pub]++
		s.messages++
		s.bytes += rec.Size
	}
}

func (r *recorder) runEnd(sub, run int) {
	r.mu.Lock()
	defer r.unlock()
	r.h.Runs[run].End = r.stamp()
	delete(r.running[sub], run)
}

// mark records what the suite did to an instance or a subscription; -1 for none.
func (r *recorder) mark(kind string, node, sub int) int {
	r.mu.Lock()
	defer r.unlock()
	at := r.stamp()
	r.h.Marks = append(r.h.Marks, markRecord{Kind: kind, Node: node, Sub: sub, Start: at, End: at})
	switch kind {
	case markCut, markHang, markDeafen, markMute, markLose, markPart, markTear, markRefuse:
		r.faults[node], r.hurt[node] = true, true
	case markDelay, markSip: // all arrives
		r.hurt[node] = true
	case markStop:
		for i := range r.faults {
			r.faults[i] = true
		}
	case markStart:
		for i := range r.faults {
			r.faults[i] = r.hurt[i]
		}
		r.resync(func(int) bool { return true })
	case markHeal:
		r.faults[node], r.hurt[node] = false, false
		r.resync(func(s int) bool { return r.h.Subs[s].Node == node })
	case markStall:
		r.subs[sub].stalled = true
	case markRelease, markCaughtUp:
		r.subs[sub].stalled = false
		r.resync(func(s int) bool { return s == sub })
	}
	return len(r.h.Marks) - 1
}

// resync makes subscriptions count as having heard all: whether they have is for the rules, not for the flow.
func (r *recorder) resync(which func(sub int) bool) {
	for i := range r.subs {
		if which(i) {
			f := r.flow(r.h.Subs[i].Place)
			r.subs[i].messages, r.subs[i].bytes = f.messages, f.bytes
		}
	}
}

func (r *recorder) markEnd(mark int) {
	r.mu.Lock()
	defer r.unlock()
	r.h.Marks[mark].End = r.stamp()
}

// hasGaps reports whether a subscription was told of a gap.
func (r *recorder) hasGaps(sub int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subs[sub].gaps > 0
}

// question returns a question that nobody has asked before.
func (r *recorder) question(node int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Appendf(nil, "%s at %d", r.h.Nodes[node].Name, r.stamp().Tick)
}

// nodeOf returns the instance of a subscription.
func (r *recorder) nodeOf(sub int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.h.Subs[sub].Node
}
