package conformance

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// timelineLines is the most that a failure shows.
const timelineLines = 12

// moment is one line of a timeline.
type moment struct {
	at    stamp
	node  string
	text  string
	pub   int  // the message it is about; -1 for none
	close bool // it concerns the violation
	tells bool // it explains much by itself: a fault, a call that has not returned
}

// tellingLines is how many moments that explain much are shown although others are nearer.
const tellingLines = 4

// timeline shows what happened around a violation: first the messages that it is about, then what is nearest to it of
// what concerns its subscription and its publisher. It also tells when the violation showed.
func timeline(v *view, x violation) (lines []string, when time.Duration) {
	moments := v.moments(x)
	slices.SortFunc(moments, func(a, b moment) int { return cmp.Compare(a.at.Tick, b.at.Tick) })
	if x.Sub < 0 && x.Node < 0 {
		moments = slices.DeleteFunc(moments, func(m moment) bool { return m.at.Tick > x.At }) // all that led to it
	} else if near := slices.DeleteFunc(slices.Clone(moments), func(m moment) bool { return !m.close }); len(near) > 0 {
		moments = near
	}
	distance := func(m moment) int64 { return max(m.at.Tick-x.At, x.At-m.at.Tick) }
	telling := map[int64]bool{}
	for _, m := range slices.Backward(moments) {
		if m.tells && m.at.Tick <= x.At && len(telling) < tellingLines {
			telling[m.at.Tick] = true
		}
	}
	rank := func(m moment) int {
		switch {
		case m.at.Tick == x.At:
			return 0
		case telling[m.at.Tick]:
			return 1
		case slices.Contains(x.Pubs, m.pub):
			return 2
		default:
			return 3
		}
	}
	slices.SortStableFunc(moments, func(a, b moment) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(distance(a), distance(b)))
	})
	moments = moments[:min(len(moments), timelineLines)]
	slices.SortFunc(moments, func(a, b moment) int { return cmp.Compare(a.at.Tick, b.at.Tick) })
	for _, m := range moments {
		line := fmt.Sprintf("%9.4f  %-3s %s", m.at.At.Seconds(), m.node, m.text)
		if m.at.Tick == x.At {
			line += "   <- here"
			when = m.at.At
		}
		lines = append(lines, line)
	}
	return lines, when
}

// moments lists all that happened, and whether it concerns the violation.
func (v *view) moments(x violation) []moment {
	var out []moment
	pub, tells := -1, false
	add := func(at stamp, node int, concerns bool, format string, args ...any) {
		if !at.happened() {
			return
		}
		name := "all"
		if node >= 0 {
			name = v.Nodes[node].Name
		}
		out = append(out, moment{at, name, fmt.Sprintf(format, args...), pub, concerns, tells})
	}
	var where place
	subNode := -1
	if x.Sub >= 0 {
		where, subNode = v.Subs[x.Sub].Place, v.Subs[x.Sub].Node
	}
	concerns := func(node int) bool { return node < 0 || node == x.Node || node == subNode }
	for i := range v.Nodes {
		n := &v.Nodes[i]
		add(n.Open.Return, i, false, "open      %v", n.Open.Result)
		add(n.Close.Call, i, concerns(i), "close …")
		add(n.Close.Return, i, concerns(i), "close     %v", n.Close.Result)
	}
	for i := range v.Pubs {
		p := &v.Pubs[i]
		pub = i
		mine := (x.Sub < 0 || p.Place == where) && (x.Node < 0 || p.Node == x.Node)
		tells = !p.Return.happened()
		if p.Return.Tick == p.Call.Tick+1 {
			add(p.Return, p.Node, mine, "publish   #%d to %v: %v", p.Seq, p.Place.Address, p.Result)
			continue
		}
		add(p.Call, p.Node, mine, "publish   #%d to %v …", p.Seq, p.Place.Address)
		add(p.Return, p.Node, mine, "publish   #%d: %v", p.Seq, p.Result)
	}
	pub = -1
	for i := range v.Subs {
		s := &v.Subs[i]
		mine := i == x.Sub || x.Sub < 0 && s.Node == x.Node
		tells = !s.Return.happened()
		add(s.Call, s.Node, mine, "subscribe %v …", s.Place.Address)
		add(s.Return, s.Node, mine, "subscribe %v: %v", s.Place.Address, s.Result)
		add(s.Close.Call, s.Node, mine, "unsubscribe %v …", s.Place.Address)
		add(s.Close.Return, s.Node, mine, "unsubscribe %v: %v", s.Place.Address, s.Close.Result)
	}
	tells = false
	for i := range v.Runs {
		r := &v.Runs[i]
		pub = r.Pub
		mine := r.Sub == x.Sub && (x.Node < 0 || r.Pub < 0 || v.Pubs[r.Pub].Node == x.Node)
		add(r.Start, v.Subs[r.Sub].Node, mine, "receive   %s on %v", v.runName(i), v.Subs[r.Sub].Place.Address)
		if r.End.Tick != r.Start.Tick+1 {
			add(r.End, v.Subs[r.Sub].Node, mine, "  done with %s", v.runName(i))
		}
	}
	pub = -1
	for i := range v.Marks {
		m := &v.Marks[i]
		tells = m.Kind != markQuiet && m.Kind != markOver
		add(m.Start, m.Node, concerns(m.Node) && m.Kind != markQuiet, "%s", m.Kind)
	}
	return out
}
