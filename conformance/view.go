package conformance

import (
	"cmp"
	"fmt"
	"slices"
)

// view is a history with the indexes that rules need.
type view struct {
	history
	runsOf [][]int                 // by subscription: its runs, in order
	heard  []map[int]bool          // by subscription: the publishes it heard
	pubsAt map[place]map[int][]int // by place and instance: its publishes, in order of their calls
	subsAt map[place][]int         // by place
	over   int64                   // when the property was over, and the suite began to close what is open
	ids    map[int]string          // by instance: the id that its messages carry, where one is known
}

func newView(h history) *view {
	v := &view{
		history: h,
		runsOf:  make([][]int, len(h.Subs)),
		heard:   make([]map[int]bool, len(h.Subs)),
		pubsAt:  map[place]map[int][]int{},
		subsAt:  map[place][]int{},
		ids:     map[int]string{},
	}
	v.over = stamp{}.orNever()
	for i := range h.Marks {
		if h.Marks[i].Kind == markOver {
			v.over = h.Marks[i].Start.Tick
		}
	}
	for i := range h.Nodes {
		if id := string(h.Nodes[i].ID); id != "" {
			v.ids[i] = id
		}
	}
	for i := range h.Subs {
		v.heard[i] = map[int]bool{}
		v.subsAt[h.Subs[i].Place] = append(v.subsAt[h.Subs[i].Place], i)
	}
	for i := range h.Runs { // they are recorded in the order of their starts
		r := &h.Runs[i]
		v.runsOf[r.Sub] = append(v.runsOf[r.Sub], i)
		if r.Pub >= 0 {
			v.heard[r.Sub][r.Pub] = true
			if node := h.Pubs[r.Pub].Node; v.ids[node] == "" {
				v.ids[node] = string(r.Publisher)
			}
		}
	}
	for i := range h.Pubs {
		p := &h.Pubs[i]
		byNode := v.pubsAt[p.Place]
		if byNode == nil {
			byNode = map[int][]int{}
			v.pubsAt[p.Place] = byNode
		}
		byNode[p.Node] = append(byNode[p.Node], i)
	}
	for _, byNode := range v.pubsAt {
		for _, pubs := range byNode {
			slices.SortFunc(pubs, func(a, b int) int { return cmp.Compare(h.Pubs[a].Call.Tick, h.Pubs[b].Call.Tick) })
		}
	}
	return v
}

// mustHear reports whether subscription s has to hear publish p, or get a gap in its place: it was in force before the
// publish began, and until after it had succeeded. What is still queued when a subscription is closed is not heard; who
// asks has to see to that.
func (v *view) mustHear(s, p int) bool {
	sub, pub := &v.Subs[s], &v.Pubs[p]
	return sub.Place == pub.Place &&
		sub.Result.Class == ok && sub.Return.before(pub.Call) &&
		pub.Result.Class == ok && pub.Return.Tick < v.closedAt(s)
}

// closedAt is when the end of a subscription began, by its own Close or its instance's.
func (v *view) closedAt(s int) int64 {
	sub := &v.Subs[s]
	return min(sub.Close.Call.orNever(), v.Nodes[sub.Node].Close.Call.orNever())
}

// covers reports whether gap run g, in the stream of its subscription, stands for any number of messages of an instance
// that were published from tick on; a gap that counts messages stands for as many of its publisher's.
func (v *view) covers(g, node int, from int64) (all bool, counted uint64) {
	r := &v.Runs[g]
	if r.Gap == 0 || r.Start.Tick < from {
		return false, 0
	}
	if r.Missed == 0 || r.Publisher == "" {
		return true, 0
	}
	if id := v.ids[node]; id != "" && id != string(r.Publisher) {
		return false, 0
	}
	return false, r.Missed
}

// subName names a subscription: "n2", or "n2's 3rd subscription" where the instance has several at the place.
func (v *view) subName(s int) string {
	sub := &v.Subs[s]
	name := v.Nodes[sub.Node].Name
	k, several := 0, 0
	for _, other := range v.subsAt[sub.Place] {
		if v.Subs[other].Node != sub.Node {
			continue
		}
		several++
		if other <= s {
			k++
		}
	}
	if several < 2 {
		return name
	}
	return fmt.Sprintf("%s/s%d", name, k)
}

// pubName names a message: "n1#41".
func (v *view) pubName(p int) string {
	return fmt.Sprintf("%s#%d", v.Nodes[v.Pubs[p].Node].Name, v.Pubs[p].Seq)
}

// runName names what a handler was called with.
func (v *view) runName(i int) string {
	r := &v.Runs[i]
	switch {
	case r.Gap != 0 && r.Missed > 0:
		return fmt.Sprintf("a gap (%v, %d of %s missed)", r.Gap, r.Missed, v.publisherName(string(r.Publisher)))
	case r.Gap != 0:
		return fmt.Sprintf("a gap (%v)", r.Gap)
	case r.Pub < 0:
		return "a foreign message"
	default:
		return v.pubName(r.Pub)
	}
}

func (v *view) publisherName(id string) string {
	for node, known := range v.ids {
		if known == id {
			return v.Nodes[node].Name
		}
	}
	return "publisher " + id
}
