package hubkit

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// Gap says that the backplane may have missed messages for some connections of this instance. It is told when what
// caused it has been repaired: what a client fetches from then on is followed by everything newer.
//
// Gaps of one kind of cause that follow one another within [Options.GapWindow] are one Gap, whatever subscriptions and
// publishers they came from; that members were not heard because of the link counts as the link's.
type Gap struct {
	Cause backplane.GapCause
	// Since is the earliest moment, on this node's clock, from which messages may be missing.
	Since time.Time
	// Missed counts the missing messages of the hub where numbers showed it; 0 means that the count is not known.
	Missed uint64
	// Groups names the groups hit, sorted; they are all groups of this instance that were, not those of one connection.
	// Empty means that messages of any kind may be missing: to all, to users, to connections, or to more than 256 groups.
	Groups []string
	// Err is what caused it, where an error did, the first of several. For people and logs.
	Err error
}

// and returns the gap that stands for g and one that follows it. Nothing is lost by it: where the groups of neither are
// all that were hit, any may have been. Both may be nil; neither is changed, others hold them too.
func (g *Gap) and(next *Gap) *Gap {
	switch {
	case g == nil || g == next:
		return next
	case next == nil:
		return g
	}
	both := *g
	switch {
	case g.concerns(next.Groups):
	case next.concerns(g.Groups):
		both.Groups = next.Groups
	default:
		both.Groups = nil
	}
	if next.Since.Before(both.Since) {
		both.Since = next.Since
	}
	if both.Missed += next.Missed; g.Missed == 0 || next.Missed == 0 {
		both.Missed = 0
	}
	if both.Err == nil {
		both.Err = next.Err
	}
	return &both
}

// concerns reports whether g names all groups of another gap.
func (g *Gap) concerns(groups []string) bool {
	if len(g.Groups) == 0 {
		return true
	}
	for _, name := range groups {
		if _, is := slices.BinarySearch(g.Groups, name); !is {
			return false
		}
	}
	return len(groups) > 0
}

const (
	maxGapGroups  = 256
	maxGapWindows = 20 // after so many windows a cause that goes on is told, and told again
)

// gapCollector gathers the gaps of many subscriptions that one cause has, so that it is told once (H7).
type gapCollector struct {
	hub *Hub

	mu      sync.Mutex
	open    map[backplane.GapCause]*gathering // guarded by mu
	running bool                              // guarded by mu: the goroutine that tells runs
}

// gathering is what is known of a cause so far. Guarded by the collector's mu.
type gathering struct {
	gap         Gap
	uncounted   bool // one of the gaps has no count, so that the sum would be wrong
	wide        bool // something else than a group was hit, or too many groups
	groups      map[string]struct{}
	concerned   map[*Connection]struct{}
	first, last time.Time
}

// report takes in a gap of one subscription. Like all of a handler's work it waits for nothing.
func (g *gapCollector) report(t *topic, gap Gap) {
	cause := gatheredAs(gap.Cause)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.open[cause]
	if c == nil {
		c = &gathering{
			gap: Gap{Cause: gap.Cause, Since: gap.Since, Err: gap.Err}, first: now,
			groups: make(map[string]struct{}), concerned: make(map[*Connection]struct{}),
		}
	}
	somebody := false
	note := func(conn *Connection) { c.concerned[conn], somebody = struct{}{}, true }
	if t.everyone() {
		g.hub.connections.each(note)
	} else {
		t.each(note)
	}
	if !somebody {
		return // nobody here can have missed anything
	}
	c.merge(t, gap, now)
	if g.open == nil {
		g.open = make(map[backplane.GapCause]*gathering)
	}
	g.open[cause] = c
	if !g.running {
		g.running = g.hub.spawn(g.run)
	}
}

// gatheredAs returns the cause that a gap is gathered with.
func gatheredAs(cause backplane.GapCause) backplane.GapCause {
	if cause == backplane.GapMember {
		// A link that was down for long makes members look dead: their gaps come with the link's, and are of its making.
		return backplane.GapLink
	}
	return cause
}

// everyone reports whether the topic's messages can be for any connection.
func (t *topic) everyone() bool { return t == t.hub.all || t == t.hub.inbox }

func (c *gathering) merge(t *topic, gap Gap, now time.Time) {
	c.last = now
	c.mergeGap(gap)
	if t.addr.Kind() == backplane.KindGroup {
		c.addGroup(t.addr.Name())
	} else {
		c.widen()
	}
}

func (c *gathering) mergeGap(gap Gap) {
	if gap.Since.Before(c.gap.Since) {
		c.gap.Since = gap.Since
	}
	if gap.Cause == backplane.GapLink {
		c.gap.Cause = gap.Cause
	}
	if c.gap.Err == nil {
		c.gap.Err = gap.Err
	}
	c.gap.Missed += gap.Missed
	c.uncounted = c.uncounted || gap.Missed == 0
}

func (c *gathering) addGroup(name string) {
	if c.wide {
		return
	}
	if c.groups[name] = struct{}{}; len(c.groups) > maxGapGroups {
		c.widen()
	}
}

func (c *gathering) widen() { c.wide, c.groups = true, nil }

// due is when the cause is told: when it has been quiet for a window, or after many.
func (c *gathering) due(window time.Duration) time.Time {
	quiet, latest := c.last.Add(window), c.first.Add(maxGapWindows*window)
	if quiet.Before(latest) {
		return quiet
	}
	return latest
}

// run tells what is due until nothing is gathered any more.
func (g *gapCollector) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-g.hub.closing.Done():
			return
		}
		told, next := g.take(time.Now())
		for _, c := range told {
			g.tell(c)
		}
		if next == 0 {
			if g.rest() {
				return
			}
		}
		timer.Reset(next)
	}
}

// take removes and returns what is due, the oldest cause first, and how long to wait for what is not; 0 if there is none.
func (g *gapCollector) take(now time.Time) (told []*gathering, next time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for cause, c := range g.open {
		wait := c.due(g.hub.opts.GapWindow).Sub(now)
		switch {
		case wait <= 0:
			told = append(told, c)
			delete(g.open, cause)
		case next == 0 || wait < next:
			next = wait
		}
	}
	slices.SortFunc(told, func(a, b *gathering) int {
		return cmp.Or(a.first.Compare(b.first), cmp.Compare(a.gap.Cause, b.gap.Cause))
	})
	return told, next
}

// rest ends the goroutine, unless something was gathered in the meantime.
func (g *gapCollector) rest() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.open) > 0 {
		return false
	}
	g.running = false
	return true
}

// tell tells one cause: the connections now, the hook as soon as it is free.
func (g *gapCollector) tell(c *gathering) {
	h := g.hub
	gap, concerned := c.told()
	if len(concerned) == 0 {
		return
	}
	h.stats.gaps.Add(1)
	h.log.Warn("messages may have been missed", "cause", gap.Cause.String(), "since", gap.Since,
		"missed", gap.Missed, "connections", len(concerned), "err", gap.Err)
	h.teller.tell(&gap, concerned)
	if h.opts.OnGap != nil {
		h.hook.add(c)
	}
}

// told returns what is told of a cause, and whom it concerns of those that are still connected.
func (c *gathering) told() (gap Gap, concerned []*Connection) {
	gap = c.gap
	if c.uncounted {
		gap.Missed = 0
	}
	if !c.wide {
		gap.Groups = slices.Sorted(maps.Keys(c.groups))
	}
	concerned = make([]*Connection, 0, len(c.concerned))
	for conn := range c.concerned {
		if _, closed := conn.Reason(); !closed {
			concerned = append(concerned, conn)
		}
	}
	return gap, concerned
}
