package lying_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/internal/lying"
	"github.com/gobackplane/backplane/internal/wire"
)

// judge reports what is wrong as errors of the test, and returns how many messages were lost with every trace of them.
func (w *world) judge() (untraced int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	read := readAll(w.book.Entries())
	for _, n := range w.nodes {
		w.judgeMarks(n, read)
	}
	for _, e := range w.ears {
		w.judgeUnreadable(e, read)
		for publisher, n := range w.nodes {
			p := &pair{world: w, read: read, ear: e, node: w.nodes[e.node].ID(), publisher: publisher, id: n.ID()}
			p.judge()
			p.judgeHeartbeats()
			for _, complaint := range p.complaints {
				w.t.Errorf("n%d, subscribed to %v at entry %d: %s", e.node, e.to, e.from, complaint)
			}
			untraced += p.untraced
			if len(p.complaints) > 0 {
				p.show()
			}
		}
	}
	return untraced
}

// judgeMarks: a publisher makes its last number known within twice the time of the tail mark, from when it was used.
func (w *world) judgeMarks(n *backplane.Node, read []frame) {
	const latest = 2 * 2 * time.Second
	undisturbed := n.Stats().Reconnects == 0
	used := map[uint64]time.Time{} // when a number of an epoch was last sent
	for _, f := range read {
		if !f.out || f.publisher != n.ID() {
			continue
		}
		for _, m := range f.numbered {
			if f.refused {
				if !used[m.epoch].IsZero() {
					used[m.epoch] = f.at // a mark that was refused begins to wait anew
				}
				continue
			}
			if !m.tail {
				used[m.epoch] = f.at
				continue
			}
			// A second for frames of unknown fate, which are sent again before anything else leaves.
			if late := f.at.Sub(used[m.epoch]); undisturbed && !used[m.epoch].IsZero() && late > latest+time.Second {
				w.t.Errorf("%v of %s left %v after the last message", m, n.ID(), late)
			}
			delete(used, m.epoch)
		}
	}
	for epoch, at := range used {
		if f := read[len(read)-1]; f.at.Sub(at) > latest {
			w.t.Errorf("epoch %d of %s, last used at %v, was never closed", epoch, n.ID(), at)
		}
	}
}

// judgeUnreadable: each frame that cannot be read is a gap.
func (w *world) judgeUnreadable(e *ear, read []frame) {
	if e.until != 0 {
		return // the last one may not have been told
	}
	garbled, told := 0, 0
	for _, f := range read[e.from:] {
		if f.garbled && f.node == w.nodes[e.node].ID() && len(f.numbered) > 0 && f.numbered[0].to == e.to {
			garbled++
		}
	}
	for _, h := range e.events {
		if h.gap != nil && h.gap.Cause == backplane.GapUnreadable {
			told++
		}
	}
	if told < garbled {
		w.t.Errorf("n%d, subscribed to %v at entry %d: %d frames could not be read, and %d gaps tell it", e.node, e.to, e.from, garbled, told)
	}
}

// pair is one subscription and one publisher.
type pair struct {
	*world
	read       []frame
	ear        *ear
	node       backplane.NodeID
	publisher  int
	id         backplane.NodeID // the publisher's
	complaints []string
	untraced   int
}

func (p *pair) complainf(format string, args ...any) {
	p.complaints = append(p.complaints, fmt.Sprintf(format, args...))
}

// show logs what concerns the pair: what the publisher sent, what the node got or did not get, and what was heard.
func (p *pair) show() {
	heard := 0
	show := func(until int) {
		for ; heard < len(p.ear.events) && p.ear.events[heard].entry <= until; heard++ {
			if h := p.ear.events[heard]; h.gap != nil {
				p.t.Logf("          heard a gap: %v of %d from %q: %v", h.gap.Cause, h.gap.Missed, h.gap.Publisher, h.gap.Err)
			} else if h.from == p.id {
				p.t.Logf("          heard %q", h.payload)
			}
		}
	}
	for i, f := range p.read {
		show(i)
		if i == p.ear.from {
			p.t.Logf("%6d %v subscribed", i, f.at.Format("04:05.000"))
		}
		about := f.node == p.node && f.publisher == p.id || f.out && f.publisher == p.id
		if about && f.heartbeat && !f.out {
			p.t.Logf("%6d %v heartbeat, clock %d, handed %v", i, f.at.Format("04:05.000"), f.clock, f.handed)
		}
		if f.node == p.node && f.event != "" {
			p.t.Logf("%6d %v %s", i, f.at.Format("04:05.000"), f.event)
		}
		for _, m := range f.numbered {
			if about && m.to == p.ear.to {
				p.t.Logf("%6d %v out %v, handed %v, refused %v, %q: %v %q", i, f.at.Format("04:05.000"), f.out, f.handed, f.refused, f.lie, m, m.payload)
			}
		}
	}
	show(len(p.read))
}

// judge walks what was heard; the gaps between two messages have to cover what is missing there.
func (p *pair) judge() {
	var said []*saying
	place := map[string]int{} // of a payload, in said
	for _, s := range p.said {
		if s.node == p.publisher && s.to == p.ear.to {
			place[s.payload] = len(said)
			said = append(said, s)
		}
	}
	next := 0
	var gaps []*backplane.Gap
	for _, h := range p.ear.events {
		switch i, ok := place[h.payload]; {
		case h.gap != nil:
			if h.gap.Publisher == "" || h.gap.Publisher == p.id {
				gaps = append(gaps, h.gap)
			}
		case h.from != p.id:
		case !ok:
			p.complainf("heard what n%d has not said: %q", p.publisher, h.payload)
		case i < next:
			p.complainf("heard %v twice, or after a later one", said[i])
		default:
			if definite(said[i].err) {
				p.complainf("heard %v, whose publish returned %v", said[i], said[i].err)
			}
			p.judgeMissing(said[next:i], gaps, said[i])
			next, gaps = i+1, nil
		}
	}
	if p.ear.until == 0 { // of one that was closed, a gap may still have been to come
		p.judgeMissing(said[next:], gaps, nil)
	}
}

// judgeHeartbeats: where a heartbeat is missing, a gap stands between those before and after it.
func (p *pair) judgeHeartbeats() {
	if p.ear.until != 0 || p.node == p.id {
		return
	}
	last, number := 0, uint64(0) // the newest heartbeat handed to the node, and where; a lower number came late
	holes := 0                   // where one came to light, and is to be told
	told := func(until int) bool {
		return slices.ContainsFunc(p.ear.events, func(h event) bool {
			g := h.gap
			if g == nil || g.Missed > 0 || g.Publisher != "" && g.Publisher != p.id || h.entry <= last {
				return false
			}
			return h.entry <= until || !g.Since.After(p.read[holes].at) // or it waited for the subscription to be in force again
		})
	}
	for i, f := range p.read {
		if !f.handed || f.node != p.node || f.publisher != p.id || f.number <= number {
			continue
		}
		if holes != 0 && !told(i) {
			p.complainf("heartbeat %d came in at entry %d after %d, and no gap tells it", number, holes, last)
		}
		if holes = 0; number > 0 && f.first > number+1 && last >= p.ear.from {
			holes = i
		} else {
			last = i
		}
		number = f.number
	}
}

// judgeMissing judges the messages that were not heard before the given one, nil for the end.
func (p *pair) judgeMissing(missing []*saying, gaps []*backplane.Gap, before *saying) {
	counted := 0
	for _, g := range gaps {
		if g.Missed == 0 {
			return // of unknown size: it covers all of them
		}
		counted += int(g.Missed)
	}
	possible, due := 0, 0
	var traces []string
	for _, s := range missing {
		if s.late {
			p.complainf("did not hear %v, after all had recovered", s)
		}
		if !definite(s.err) {
			possible++
		}
		if s.err != nil || s.call <= p.ear.from {
			continue
		}
		due++
		if trace := p.trace(s, before); trace != "" {
			traces = append(traces, fmt.Sprintf("%v is missing, although %s", s, trace))
		}
	}
	if counted > possible {
		p.complainf("gaps count %d, but only %v are missing", counted, missing)
	}
	if counted < len(traces) {
		p.complainf("gaps count only %d: %s", counted, strings.Join(traces, "; "))
	}
	p.untraced += max(0, due-max(counted, len(traces)))
}

// trace looks, in what was handed to the node after its Subscribe returned and up to the message that was heard next, for
// something from which it follows that a message is missing; it returns "" if there is nothing.
func (p *pair) trace(s, before *saying) string {
	epoch, number, known := p.sent(s)
	if epoch == 0 {
		return "it never left"
	}
	// known: it is sure that the epoch began after the subscription, or a number before this one was heard.
	clock := uint64(0) // of the heartbeats; one with a lower clock came late and tells nothing
	open := false      // something of the epoch came in, and not its end
	for i := range p.read {
		f := &p.read[i]
		if f.node != p.node || f.publisher != p.id || !f.handed {
			continue
		}
		if f.heartbeat && f.clock >= clock && p.node != p.id { // of its own epochs a node knows more
			clock = f.clock
			known = known || i >= p.ear.from && clock < epoch
		}
		if i < p.ear.from {
			continue
		}
		for _, m := range f.numbered {
			switch {
			case m.to != p.ear.to:
			case m.epoch < epoch:
				known = true
			case m.epoch == epoch && m.number >= number:
				if !known {
					return "" // the first that is known of the publisher, and what came before may have been before the subscription
				}
				return fmt.Sprintf("%v of its epoch came in at %v", m, f.at)
			case m.epoch == epoch:
				known, open = true, true
			case open:
				return fmt.Sprintf("its epoch %d began to come in, and %v came after it at %v", epoch, m, f.at)
			}
			if before != nil && m.payload == before.payload {
				return ""
			}
		}
	}
	return ""
}

// sent returns under which number a message left, whatever came of it, and whether the node's own numbers tell that
// the epoch began after the subscription.
func (p *pair) sent(s *saying) (epoch, number uint64, own bool) {
	for i := range p.read {
		for _, m := range p.read[i].numbered {
			if m.payload == s.payload {
				epoch, number = m.epoch, m.number
			}
		}
	}
	if p.node != p.id {
		return epoch, number, false
	}
	for i := range p.read { // the first message of the epoch: was it published after Subscribe had returned?
		for _, m := range p.read[i].numbered {
			if m.epoch == epoch && p.read[i].publisher == p.id {
				for _, first := range p.said {
					if first.payload == m.payload {
						return epoch, number, first.call > p.ear.from
					}
				}
			}
		}
	}
	return epoch, number, false
}

// frame is a line of the book, decoded.
type frame struct {
	at        time.Time
	node      backplane.NodeID // whose transport it was
	publisher backplane.NodeID
	out       bool // published
	handed    bool // to the node
	refused   bool // published, and surely not taken: its numbers were given back
	garbled   bool // what was handed is something else
	lie       lying.Lie
	event     string // a lie about a subscription
	numbered  []numbered
	heartbeat bool   // to all
	clock     uint64 // in it
	number    uint64 // of the last heartbeat in it; 0 for other frames
	first     uint64 // and of the first
}

// numbered is a message with a number.
type numbered struct {
	to            backplane.Address
	tail          bool
	epoch, number uint64
	payload       string
}

func (m numbered) String() string {
	if m.tail {
		return fmt.Sprintf("the tail mark %d/%d", m.epoch, m.number)
	}
	return fmt.Sprintf("%d/%d", m.epoch, m.number)
}

func readAll(entries []lying.Entry) []frame {
	frames := make([]frame, len(entries))
	for i, e := range entries {
		f := frame{lie: e.Lie, at: e.At, node: e.Node, out: e.Out, handed: !e.Out && e.Lie == "", garbled: e.Lie == lying.Garble}
		f.refused = e.Err != nil && definite(e.Err)
		if e.Data == nil {
			f.event = fmt.Sprintf("%s %q", e.Lie, e.Channel)
		}
		if r, err := wire.NewReader(e.Data); err == nil {
			f.publisher = backplane.NodeID(hex.EncodeToString(r.Publisher[:]))
			var m wire.Message
			for r.Next(&m) {
				f.add(&m)
			}
		}
		frames[i] = f
	}
	return frames
}

func (f *frame) add(m *wire.Message) {
	switch m.Type {
	case wire.Barrier, wire.BarrierAnswer:
	case wire.Data, wire.TailMark:
		f.numbered = append(f.numbered, numbered{
			to: address(m), tail: m.Type == wire.TailMark, epoch: m.Epoch, number: m.Number, payload: string(m.Payload),
		})
	case wire.Heartbeat:
		if string(m.Name) == "members" && len(m.Payload) > 2 {
			f.heartbeat = true
			rest := m.Payload[2:] // after a version and flags
			for i := range 7 {    // the clock and the settings
				v, k := binary.Uvarint(rest)
				if rest = rest[k:]; i == 0 {
					f.clock = v
				}
			}
			label, k := binary.Uvarint(rest)
			number, _ := binary.Uvarint(rest[k+int(label):])
			if f.first == 0 {
				f.first = number
			}
			f.number = number
		}
	case wire.Probe, wire.Ask, wire.Answer:
	}
}

func address(m *wire.Message) backplane.Address {
	var a backplane.Address
	switch name := string(m.Name); backplane.Kind(m.Kind) {
	case backplane.KindGroup:
		a = backplane.Group(name)
	case backplane.KindUser:
		a = backplane.User(name)
	case backplane.KindConnection:
		a = backplane.Connection(name)
	default:
		a = backplane.All()
	}
	if len(m.Scope) > 0 {
		a = a.In(string(m.Scope))
	}
	return a
}

// definite reports whether an error means that nobody hears the message.
func definite(err error) bool { return err != nil && !errors.Is(err, backplane.ErrUncertain) }
