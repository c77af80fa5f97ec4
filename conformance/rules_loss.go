package conformance

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/gobackplane/backplane"
)

// A hole is a message that a subscription had to hear and did not. Holes are looked at between two messages of the same
// instance that it did hear: a gap there covers them.
type hole struct {
	sub, node int
	missing   []int // publishes, in order
	before    int   // the run that came next; -1 if none did
	told      uint64
	late      bool // a gap that would cover them came later
}

// holes returns what is missing and not covered, for each subscription and publishing instance.
func (v *view) holes() []hole {
	var out []hole
	for s := range v.Subs {
		for node, pubs := range v.pubsAt[v.Subs[s].Place] {
			out = append(out, v.holesOf(s, node, pubs)...)
		}
	}
	return out
}

func (v *view) holesOf(s, node int, pubs []int) []hole {
	var missing []int
	for _, p := range pubs {
		if v.mustHear(s, p) && !v.heard[s][p] {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	runs := v.runsOf[s]
	var heard []int // the places in runs of messages of this instance
	for k, i := range runs {
		if r := &v.Runs[i]; r.Pub >= 0 && v.Pubs[r.Pub].Node == node {
			heard = append(heard, k)
		}
	}
	// The publishes of one instance may overlap. What is surely older than a missing one is where the place of its gap
	// begins, what is surely newer is where it ends.
	newestCall := make([]int64, len(heard)) // of the message here and all before
	for k, at := range heard {
		newestCall[k] = v.Pubs[v.Runs[runs[at]].Pub].Call.Tick
		if k > 0 {
			newestCall[k] = max(newestCall[k], newestCall[k-1])
		}
	}
	oldestReturn := make([]int64, len(heard)) // of the message here and all after
	for k := len(heard) - 1; k >= 0; k-- {
		oldestReturn[k] = v.Pubs[v.Runs[runs[heard[k]]].Pub].Return.orNever()
		if k+1 < len(heard) {
			oldestReturn[k] = min(oldestReturn[k], oldestReturn[k+1])
		}
	}
	type between struct{ from, to int }
	var order []between
	groups := map[between][]int{}
	for _, p := range missing {
		pub := &v.Pubs[p]
		b := between{0, len(runs)}
		if k := sort.Search(len(heard), func(k int) bool { return oldestReturn[k] >= pub.Call.Tick }); k > 0 {
			b.from = heard[k-1] + 1
		}
		if k := sort.Search(len(heard), func(k int) bool { return newestCall[k] > pub.Return.Tick }); k < len(heard) {
			b.to = heard[k]
		}
		if b.from > b.to {
			b.from = b.to // they were heard in the wrong order, which is another rule's business
		}
		if groups[b] == nil {
			order = append(order, b)
		}
		groups[b] = append(groups[b], p)
	}
	var out []hole
	for _, b := range order {
		if b.to == len(runs) && v.closedAt(s) < v.over {
			continue // they may have been queued still when it was closed
		}
		h, bare := v.uncovered(s, node, groups[b], runs[b.from:b.to])
		if !bare {
			continue
		}
		if b.to < len(runs) {
			h.before = runs[b.to]
			h.late = v.coveredBy(h.missing, node, runs[b.to:])
		}
		out = append(out, h)
	}
	return out
}

// uncovered returns the messages for which no gap stands among the runs.
func (v *view) uncovered(s, node int, missing, runs []int) (hole, bool) {
	h := hole{sub: s, node: node, before: -1}
	var all []int // gaps that stand for any number
	for _, g := range runs {
		every, counted := v.covers(g, node, 0)
		h.told += counted
		if every {
			all = append(all, g)
		}
	}
	for _, p := range missing {
		called := v.Pubs[p].Call
		if !slices.ContainsFunc(all, func(g int) bool { return called.before(v.Runs[g].Start) }) {
			h.missing = append(h.missing, p)
		}
	}
	return h, uint64(len(h.missing)) > h.told
}

func (v *view) coveredBy(missing []int, node int, runs []int) bool {
	told := uint64(0)
	for _, g := range runs {
		all, counted := v.covers(g, node, v.Pubs[missing[len(missing)-1]].Call.Tick)
		if all {
			return true
		}
		told += counted
	}
	return told >= uint64(len(missing))
}

// name tells which messages are missing.
func (v *view) missingNames(h hole) string {
	const most = 3
	var names []string
	for _, p := range h.missing[:min(most, len(h.missing))] {
		names = append(names, v.pubName(p))
	}
	text := strings.Join(names, ", ")
	if more := len(h.missing) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// judgeMust: nothing is missing for good without a gap.
func judgeMust(v *view) []violation {
	var out []violation
	for _, h := range v.holes() {
		if h.late {
			continue // judgeLossIsLoud's
		}
		text := fmt.Sprintf("%s never heard %s on %v, and no gap told it so.", v.subName(h.sub), v.missingNames(h), v.Subs[h.sub].Place.Address)
		if h.told > 0 {
			text = fmt.Sprintf("%s was told of a gap of %d messages, but %d are missing: %s.",
				v.subName(h.sub), h.told, len(h.missing), v.missingNames(h))
		}
		at := v.Pubs[h.missing[0]].Return.Tick
		if h.before >= 0 {
			at = v.Runs[h.before].Start.Tick
		}
		out = append(out, violation{Witness: text, Sub: h.sub, Node: h.node, Pubs: h.missing[:1], At: at})
	}
	return out
}

// judgeLossIsLoud: the gap is in time.
func judgeLossIsLoud(v *view) []violation {
	var out []violation
	for _, h := range v.holes() {
		if !h.late {
			continue
		}
		out = append(out, violation{
			Witness: fmt.Sprintf("%s missed %s on %v, and heard %s before the gap that tells it.",
				v.subName(h.sub), v.missingNames(h), v.Subs[h.sub].Place.Address, v.runName(h.before)),
			Sub: h.sub, Node: h.node, Pubs: h.missing[:1], At: v.Runs[h.before].Start.Tick,
		})
	}
	return out
}

// judgeCounts: a count is no larger than what is missing. What ended in a definite error has no place in a count.
func judgeCounts(v *view) []violation {
	var out []violation
	for s := range v.Subs {
		for node, pubs := range v.pubsAt[v.Subs[s].Place] {
			told, at := uint64(0), int64(0)
			for _, g := range v.runsOf[s] {
				if r := &v.Runs[g]; r.Gap != 0 && r.Missed > 0 && string(r.Publisher) == v.ids[node] && r.Publisher != "" {
					told, at = told+r.Missed, r.Start.Tick
				}
			}
			missing, began := uint64(0), false // began: something was heard, be it from shortly before the subscription; what follows it can be missed
			for _, p := range pubs {
				pub := &v.Pubs[p]
				began = began || v.heard[s][p]
				before := !began && pub.Result.Class == ok && pub.Return.before(v.Subs[s].Call) // one of unknown fate may be taken later still
				if pub.Call.Tick < at && !v.heard[s][p] && !pub.Result.definite() && !before {
					missing++
				}
			}
			if told > missing {
				out = append(out, violation{
					Witness: fmt.Sprintf("%s was told that %d messages of %s on %v are missing; at most %d can be.",
						v.subName(s), told, v.Nodes[node].Name, v.Subs[s].Place.Address, missing),
					Sub: s, Node: node, At: at,
				})
			}
		}
	}
	return out
}

// judgeNoFalseAlarm: each gap has a cause that the suite made. A fault of the instance itself explains all of its gaps. A
// fault of another one explains that its messages, or it as a member, went missing. A handler that the suite blocks
// explains an overflow, until the subscription has caught up. A slow link explains nothing.
func judgeNoFalseAlarm(v *view) []violation {
	var out []violation
	for i := range v.Runs {
		r := &v.Runs[i]
		if r.Gap == 0 || v.explained(r) {
			continue
		}
		out = append(out, violation{
			Witness: fmt.Sprintf("%s was told of %s on %v, and nothing had happened.",
				v.subName(r.Sub), strings.TrimPrefix(v.runName(i), "a "), v.Subs[r.Sub].Place.Address),
			Sub: r.Sub, Node: -1, At: r.Start.Tick,
		})
	}
	return out
}

// caughtUp reports whether a subscription had recovered from a stall before a run of it.
func (v *view) caughtUp(stall markRecord, r *runRecord) bool {
	return slices.ContainsFunc(v.Marks, func(m markRecord) bool {
		return m.Kind == markCaughtUp && m.Sub == r.Sub && stall.Start.before(m.Start) && m.Start.before(r.Start)
	})
}

// cutIsOver reports whether a cut explains no link gap any more: the link was healed, and the subscription has heard since what
// was published then. Of a link that was hung or deaf that cannot be said: the old connection may be given up later.
func (v *view) cutIsOver(cut markRecord, r *runRecord) bool {
	healed := slices.IndexFunc(v.Marks, func(m markRecord) bool {
		return m.Kind == markHeal && m.Node == cut.Node && cut.Start.before(m.Start)
	})
	return cut.Kind == markCut && healed >= 0 && r.Gap == backplane.GapLink && v.caughtUp(v.Marks[healed], r)
}

func (v *view) explained(r *runRecord) bool {
	for _, m := range v.Marks {
		if !m.Start.before(r.Start) {
			continue
		}
		switch m.Kind {
		case markStop:
			return true
		case markCut, markHang, markDeafen, markMute, markTear, markRefuse:
			if (m.Node < 0 || m.Node == v.Subs[r.Sub].Node) && !v.cutIsOver(m, r) {
				return true
			}
			if r.Gap == backplane.GapNumbers || r.Gap == backplane.GapMember {
				return true
			}
		case markPart: // others may be at that server, too
			if r.Gap == backplane.GapNumbers || r.Gap == backplane.GapMember {
				return true
			}
		case markLose: // what it sends arrives; but it may think that others are dead
			if m.Node == v.Subs[r.Sub].Node || r.Gap == backplane.GapMember {
				return true
			}
		case markStall:
			if m.Sub == r.Sub && r.Gap == backplane.GapOverflow && !v.caughtUp(m, r) {
				return true
			}
		}
	}
	if r.Gap != backplane.GapNumbers {
		return false
	}
	for i := range v.Pubs { // a message of uncertain fate may be missing
		p := &v.Pubs[i]
		if p.Place == v.Subs[r.Sub].Place && p.Call.before(r.Start) && (p.Result.Class == uncertain || p.Return.orNever() > r.Start.Tick) {
			return true
		}
	}
	return false
}
