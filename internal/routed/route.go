package routed

import (
	"maps"
	"slices"
	"time"
)

// way is one direction of a route. All is guarded by Cluster.mu.
type way struct {
	from, to *server
	back     *way            // the other direction
	wanted   map[string]bool // what the other side has announced: what is sent
	latency  time.Duration
	cut      bool
	frozen   bool
	queue    []item
	newest   time.Time // when the last of the queue arrives; nothing sent later arrives before
}

// item is what travels: a frame, or an announcement that its sender has subscribers of a channel, or none any more.
type item struct {
	due       time.Time
	channel   string
	data      []byte
	lost      []*node // who does not get it, see Cluster.Lose
	announces bool
	wanted    bool
}

// Cut breaks the route between two servers until [Cluster.Heal]: what is under way is lost, and each side forgets what
// the other had announced.
func (c *Cluster) Cut(a, b int) {
	c.each(a, b, func(w *way) {
		w.cut = true
		w.clear()
	})
}

// Freeze stops what travels between two servers until [Cluster.Heal], and what is sent meanwhile: nothing is lost, and all
// arrives late.
func (c *Cluster) Freeze(a, b int) {
	c.each(a, b, func(w *way) { w.frozen = true })
}

// SetLatency replaces Options.Latency for one route.
func (c *Cluster) SetLatency(a, b int, d time.Duration) {
	c.each(a, b, func(w *way) { w.latency = d })
}

// Heal ends what Cut and Freeze did. Behind a cut, each side announces all its subscriptions anew, in an order that is drawn
// and one after another: each takes as long as a draw of Jitter after the one before.
func (c *Cluster) Heal(a, b int) {
	c.each(a, b, func(w *way) {
		wasCut := w.cut
		w.cut, w.frozen = false, false
		if wasCut && w.up() {
			w.introduce()
		}
		w.arm()
	})
}

// each does something to both directions of a route.
func (c *Cluster) each(a, b int, do func(*way)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.servers[a].ways {
		if w.to == c.servers[b] {
			do(w)
			do(w.back)
			return
		}
	}
	panic("routed: no such route")
}

func (w *way) up() bool { return !w.cut && !w.from.stopped && !w.to.stopped }

// clear loses what travels, and forgets what was announced in the other direction.
func (w *way) clear() {
	for _, it := range w.queue {
		if !it.announces && len(w.to.local[it.channel]) > 0 {
			w.to.c.missed[it.channel]++
		}
	}
	w.queue = nil
	clear(w.wanted)
}

// introduce announces all that is subscribed at the beginning of the way.
func (w *way) introduce() {
	c := w.from.c
	channels := slices.Sorted(maps.Keys(w.from.local))
	c.draws.Shuffle(len(channels), func(i, j int) { channels[i], channels[j] = channels[j], channels[i] })
	w.newest = time.Now().Add(w.latency)
	for _, channel := range channels {
		w.newest = w.newest.Add(c.jitter())
		w.send(item{announces: true, channel: channel, wanted: true})
	}
}

// send puts something behind all that travels.
func (w *way) send(it item) {
	it.due = time.Now().Add(w.latency + w.from.c.jitter())
	if it.due.Before(w.newest) {
		it.due = w.newest
	}
	it.due = it.due.Add(time.Duration(len(it.data)) * w.from.c.options.PerByte)
	w.newest = it.due
	w.queue = append(w.queue, it)
	if len(w.queue) == 1 {
		w.arm()
	}
}

// arm makes the first of the queue arrive in time. It may be called once too often: arrive looks at the times itself.
func (w *way) arm() {
	if len(w.queue) > 0 && !w.frozen {
		time.AfterFunc(time.Until(w.queue[0].due), w.arrive)
	}
}

// arrive hands over all that is due.
func (w *way) arrive() {
	c := w.from.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(w.queue) > 0 && !w.frozen && !w.queue[0].due.After(time.Now()) {
		it := w.queue[0]
		w.queue[0] = item{}
		if w.queue = w.queue[1:]; len(w.queue) == 0 {
			w.queue = nil
		}
		switch {
		case !it.announces:
			w.to.deliver(it) // and to no other server
		case it.wanted:
			w.back.wanted[it.channel] = true
		default:
			delete(w.back.wanted, it.channel)
		}
	}
	w.arm()
}

// jitter draws how much later something is.
func (c *Cluster) jitter() time.Duration {
	if c.options.Jitter <= 0 {
		return 0
	}
	return time.Duration(c.draws.Int64N(int64(c.options.Jitter) + 1))
}
