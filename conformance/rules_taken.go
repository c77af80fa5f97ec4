package conformance

import (
	"fmt"
	"slices"

	"github.com/gobackplane/backplane"
)

// judgeTaken: what Publish returned nil for is with the broker, so whoever's own link is well hears it. A gap does not stand
// for it there: a backplane that reports as taken what died with its publisher's connection owes every listener a message, and
// the numbers that it skipped would pass for an honest loss. The exception is the gap of a member that was not well when the
// listener's instance came: in a cluster of servers they have not found each other then, and the gap says so when they do.
func judgeTaken(v *view) []violation {
	ill := make([]bool, len(v.Nodes))
	stalled := map[int]bool{}
	for i := range v.Marks {
		switch m := &v.Marks[i]; m.Kind {
		case markStop, markPart: // what the broker, or a server of it, held is gone with it
			return nil
		case markStall:
			stalled[m.Sub] = true
		case markQuiet, markRelease, markCaughtUp, markOver, markHeal:
		default: // a fault
			if m.Node < 0 {
				return nil
			}
			ill[m.Node] = true
		}
	}
	type stream struct{ sub, node int }
	silent := map[stream]bool{} // lost without a gap, which other rules tell
	for _, h := range v.holes() {
		silent[stream{h.sub, h.node}] = true
	}
	var out []violation
	for s := range v.Subs {
		if ill[v.Subs[s].Node] || stalled[s] || v.closedAt(s) < v.over { // what was queued when it was closed is not heard
			continue
		}
		for node, pubs := range v.pubsAt[v.Subs[s].Place] {
			for _, p := range pubs {
				if !v.mustHear(s, p) || v.heard[s][p] || silent[stream{s, node}] || ill[node] && v.metLate(s, p) {
					continue
				}
				out = append(out, violation{
					Witness: fmt.Sprintf("%s, whose link was well, never heard %s on %v, although Publish had returned nil.",
						v.subName(s), v.pubName(p), v.Subs[s].Place.Address),
					Sub: s, Node: node, Pubs: []int{p}, At: v.Pubs[p].Return.Tick,
				})
				break // one of each publisher is enough
			}
		}
	}
	return out
}

// metLate reports whether an instance came while the link of another one was not well, and was told after a publish of that one
// that messages of it as a member may be missing.
func (v *view) metLate(s, p int) bool {
	node, came := v.Pubs[p].Node, v.Nodes[v.Subs[s].Node].Open.Call
	ill := false
	for i := range v.Marks {
		if m := &v.Marks[i]; m.Node == node && m.Start.before(v.Subs[s].Return) {
			switch m.Kind {
			case markQuiet, markCaughtUp:
			case markHeal:
				ill = ill && !m.Start.before(came)
			default:
				ill = true
			}
		}
	}
	return ill && slices.ContainsFunc(v.runsOf[s], func(i int) bool {
		r := &v.Runs[i]
		return r.Gap == backplane.GapMember && r.Publisher != "" && string(r.Publisher) == v.ids[node] && v.Pubs[p].Call.before(r.Start)
	})
}
