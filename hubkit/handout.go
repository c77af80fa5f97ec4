package hubkit

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tokenWindow is how long the hub waits for further changes of a connection's groups before it makes a new token.
	tokenWindow = 250 * time.Millisecond
	// A token is made anew when half of its life is over; all connections are looked at eight times in a life.
	renewPart, renewLooks = 2, 8
)

// resumeState is what a connection of a hub with Resume has beside the rest.
type resumeState struct {
	session    sessionID // immutable, as the next two
	generation uint64
	back       bool // it was made of a token

	queued atomic.Bool // it is in handout.changed
	due    bool        // guarded by out.mu: the writer is to make a token
	made   time.Time   // guarded by out.mu: when the last one was made
}

// handout gives the connections their tokens: after their groups have changed, and before a token is too old. Its goroutine lives as long as
// the hub.
type handout struct {
	hub  *Hub
	wake chan struct{} // holds a token where changed is not empty

	mu      sync.Mutex
	changed []*Connection // guarded by mu: those that need a new token, each once
}

// change notes that what a connection's token says has changed. It never blocks, and may be called under the connection's mu. Only
// the first change in a window meets the others at a lock.
func (o *handout) change(c *Connection) {
	if c.resume == nil || c.resume.queued.Swap(true) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed = append(o.changed, c)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine.
func (o *handout) run() {
	h := o.hub
	window := time.NewTimer(0)
	defer window.Stop()
	looks := time.NewTicker(h.opts.Resume.Lifetime / (renewLooks * registryShards))
	defer looks.Stop()
	shard := 0
	for {
		select {
		case <-o.wake:
			window.Reset(tokenWindow)
			select {
			case <-window.C:
			case <-h.closing.Done():
				return
			}
			for _, c := range o.take() {
				c.wantToken()
			}
		case now := <-looks.C:
			for _, c := range h.connections.shard(shard) {
				c.renewToken(now)
			}
			if shard = (shard + 1) % registryShards; shard == 0 {
				h.sessions.sweep(now)
			}
		case <-h.closing.Done():
			return
		}
	}
}

// take returns those that need a new token.
func (o *handout) take() []*Connection {
	o.mu.Lock()
	defer o.mu.Unlock()
	changed := o.changed
	o.changed = nil
	for _, c := range changed {
		c.resume.queued.Store(false)
	}
	return changed
}

// wantToken has the writer make a token and write it.
func (c *Connection) wantToken() {
	c.out.mu.Lock()
	start := false
	if c.closed == nil {
		c.resume.due = true
		start = c.wakeLocked()
	}
	c.out.mu.Unlock()
	if start {
		go c.run()
	}
}

// renewToken is wantToken where the last one is old.
func (c *Connection) renewToken(now time.Time) {
	c.out.mu.Lock()
	old := now.Sub(c.resume.made) >= c.hub.opts.Resume.Lifetime/renewPart
	c.out.mu.Unlock()
	if old {
		c.wantToken()
	}
}

// tokenDueLocked reports whether a token is to be written, and takes note of it. Called with out.mu held.
func (c *Connection) tokenDueLocked() bool {
	if c.resume == nil || !c.resume.due {
		return false
	}
	c.resume.due = false
	return c.closed == nil
}

// handOut makes a token of what the connection is in now, and writes it.
func (c *Connection) handOut() {
	token, err := c.ResumeToken()
	if err != nil {
		return // it has ended
	}
	b := c.hub.batches.get(1)
	b.deliveries = append(b.deliveries, Delivery{Resume: token})
	err = c.conn.Write(c.hub.deadlines.context(), b.deliveries)
	c.hub.batches.put(b)
	if err != nil {
		c.failed(err)
	}
}

// ResumeToken makes a token with which the client can come back, see [ResumeOptions], of what the connection is in now. The hub
// hands tokens out by itself, through [Delivery.Resume], after every change and in time; a server calls this where it wants to
// give the client one in an answer of its own. The error is ErrUnsupported without [Options.Resume], or [ErrDisconnected].
func (c *Connection) ResumeToken() (string, error) {
	h := c.hub
	if c.resume == nil {
		return "", h.fail("resume token", errNoResume)
	}
	c.mu.Lock()
	groups, open := c.ownGroups()
	c.mu.Unlock()
	if !open || c.over() {
		return "", h.fail("resume token", ErrDisconnected)
	}
	now := time.Now()
	t := resumeToken{
		scope: h.scope, session: c.resume.session, generation: c.resume.generation, issued: now, lifetime: h.opts.Resume.Lifetime,
		user: c.user, groups: groups,
	}
	text := t.sign(&h.opts.Resume.Keys[0], h.opts.Resume.MaxToken)
	c.out.mu.Lock()
	c.resume.made = now
	c.out.mu.Unlock()
	h.stats.resumeTokens.Add(1)
	if t.trimmed {
		h.stats.resumeTrimmed.Add(1)
	}
	return text, nil
}

// Session returns the id of the connection's session, which stays the same when the client comes back by a token, and which of
// the session's connections this is, from 1. Without [Options.Resume] they are "" and 0.
func (c *Connection) Session() (id string, generation uint64) {
	if c.resume == nil {
		return "", 0
	}
	return c.resume.session.String(), c.resume.generation
}

// Resumed reports whether the client came back by a token: then the server need not greet it anew.
func (c *Connection) Resumed() bool { return c.resume != nil && c.resume.back }

// rank is the connection's rank in its session.
func (c *Connection) rank() rank {
	return rank{generation: c.resume.generation, since: c.since, id: c.id}
}

// ownGroups returns the groups that are the connection's own, not its user's, sorted; open is false where it is in nothing any more.
// c.mu is held.
func (c *Connection) ownGroups() (groups []string, open bool) {
	if c.detached {
		return nil, false
	}
	return c.groups.own(), true
}

// replaced closes the connection because a newer one of its session is there.
func (c *Connection) replaced() {
	c.disconnect(Reason{Code: ReasonReplaced, Text: "a newer connection of this session is there"})
}
