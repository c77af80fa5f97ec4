package hubkit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// grantTable holds the memberships of the users that have connections here, or are about to.
type grantTable struct {
	hub *Hub

	mu      sync.Mutex
	users   map[string]*grants // guarded by mu
	running bool               // guarded by mu: the goroutine that ends memberships runs
	wake    chan struct{}      // holds a token where an end may have come nearer

	behind   map[*grants]struct{} // guarded by mu: those of users that are to be read again, see catchup.go
	catching bool                 // guarded by mu: the goroutine that does it runs
	retry    chan struct{}        // holds a token where what made it fail may be over
}

// grants are the memberships of one user as this instance has read them last. Every connection made of the user is put
// into all of them; what has changed since the reading before is applied to the connections that are there.
type grants struct {
	hub  *Hub
	user string
	pins int           // connections, and calls that read; guarded by the table's mu
	turn chan struct{} // holds a token for who may read and apply: what was read later is applied later

	mu     sync.Mutex        // held while connections of the user are made, or put in and out: before all other locks
	groups map[string]*grant // guarded by mu; changed by who has the turn, or by the end of a membership
}

// grant is one membership. Its topic is pinned and subscribed, so that putting a connection in waits for nothing.
type grant struct {
	topic *topic
	end   time.Time // on this process's clock, from what the broker said is left
}

func (t *grantTable) init(h *Hub) {
	t.hub, t.users = h, make(map[string]*grants)
	t.wake, t.retry = make(chan struct{}, 1), make(chan struct{}, 1)
}

// pin returns the grants of a user, and keeps them until unpin.
func (t *grantTable) pin(user string) *grants {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.users[user]
	if g == nil {
		g = &grants{hub: t.hub, user: user, turn: make(chan struct{}, 1)}
		g.turn <- struct{}{}
		t.users[user] = g
	}
	g.pins++
	return g
}

// pinned is pin for a user that is there; nil if not.
func (t *grantTable) pinned(user string) *grants {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.users[user]
	if g != nil {
		g.pins++
	}
	return g
}

// unpin gives a pin back. The last one lets go of the groups.
func (t *grantTable) unpin(user string) {
	t.mu.Lock()
	g := t.users[user]
	g.pins--
	last := g.pins == 0
	if last {
		delete(t.users, user)
		delete(t.behind, g)
	}
	t.mu.Unlock()
	if !last {
		return
	}
	g.mu.Lock()
	groups := g.groups
	g.groups = nil
	g.mu.Unlock()
	for _, one := range groups {
		t.hub.groups.unpin(t.hub.ctx, one.topic)
	}
}

// refresh reads the user's record and applies it. It returns how many connections were put into a group, or taken out of
// it. The caller holds a pin.
func (g *grants) refresh(ctx context.Context, ensure func(context.Context, *topic) error, group string) (changed int, err error) {
	select {
	case <-g.turn:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", backplane.ErrUnavailable, ctx.Err())
	}
	defer func() { g.turn <- struct{}{} }()
	h := g.hub
	record, _, err := h.readUser(ctx, g.user)
	if err != nil {
		return 0, err
	}
	read := time.Now()
	now := make(map[string]*grant, len(record.groups))
	for _, member := range record.groups {
		now[member.Group] = &grant{topic: h.groups.pin(member.Group), end: read.Add(member.Left)}
	}
	ensured := inParallel(record.groups, func(member UserGroup) error { return ensure(ctx, now[member.Group].topic) })
	if i := slices.IndexFunc(ensured, func(err error) bool { return err != nil }); i >= 0 {
		for _, one := range now {
			h.groups.unpin(h.ctx, one.topic)
		}
		return 0, ensured[i]
	}
	changed, old := g.apply(now, group)
	for _, t := range old {
		h.groups.unpin(h.ctx, t)
	}
	if len(now) > 0 {
		h.grants.watch()
	}
	return changed, nil
}

// apply makes what was read the memberships of now. It returns what refresh does, and the pins to give back.
func (g *grants) apply(now map[string]*grant, group string) (changed int, old []*topic) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.groups
	g.groups = now
	for name, one := range before {
		old = append(old, one.topic)
		if now[name] == nil {
			n, pins := g.takeOut(name, false)
			old = append(old, pins...)
			if name == group {
				changed = n
			}
		}
	}
	for name, one := range now {
		if before[name] != nil {
			continue
		}
		if n := g.putIn(one); name == group {
			changed = n
		}
	}
	return changed, old
}

// connections returns those of the user. mu is held, so that none is made meanwhile.
func (g *grants) connections() (found []*Connection) {
	if t := g.hub.users.find(g.user); t != nil {
		t.each(func(c *Connection) { found = append(found, c) })
	}
	return found
}

// putIn makes all connections of the user members. mu is held.
func (g *grants) putIn(one *grant) (changed int) {
	for _, c := range g.connections() {
		if g.enroll(c, one) {
			changed++
		}
	}
	return changed
}

// enroll makes a connection a member by a grant. The grant's own pin keeps the topic meanwhile.
func (g *grants) enroll(c *Connection, one *grant) bool {
	t := g.hub.groups.pin(one.topic.addr.Name())
	if c.enrollGranted(t) {
		return true
	}
	g.hub.groups.unpin(g.hub.ctx, t) // not the last pin: it waits for nothing
	return false
}

// takeOut ends the membership of the user's connections, of all or of those that did not join by themselves. It returns the
// pins to give back. mu is held.
func (g *grants) takeOut(name string, all bool) (changed int, pins []*topic) {
	for _, c := range g.connections() {
		if m := c.withdrawGranted(name, all); m != nil {
			changed++
			pins = append(pins, m.topic)
		}
	}
	return changed, pins
}

// enrollGranted is enroll by a grant: it ends with the grant, unless the connection joins by itself.
func (c *Connection) enrollGranted(t *topic) (added bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.detached || c.groups.get(t.addr.Name()) != nil {
		return false
	}
	m := t.add(c)
	m.granted = true
	c.groups.add(m)
	return true
}

// withdrawGranted is withdraw for a membership that a grant made, or with all for any.
func (c *Connection) withdrawGranted(group string, all bool) *membership {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.groups.get(group)
	if m == nil || !m.granted && !all {
		return nil
	}
	c.groups.remove(group)
	m.topic.remove(m)
	if !m.granted {
		c.hub.handout.change(c)
	}
	return m
}

// enterUser pins and subscribes a user for a connection that is being made, and reads the user's groups.
func (h *Hub) enterUser(ctx context.Context, user string) (*topic, *grants, error) {
	t := h.users.pin(user)
	var g *grants
	err := t.ensure(ctx)
	if err == nil && h.store != nil {
		g = h.grants.pin(user)
		reading, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(h.closing, cancel)()
		_, err = g.refresh(reading, func(ctx context.Context, t *topic) error { return t.ensure(ctx) }, "")
	}
	switch {
	case err == nil:
		return t, g, nil
	case h.closing.Err() != nil:
		err = backplane.ErrClosed
	}
	h.leaveUser(t, g)
	return nil, nil, err
}

// leaveUser gives back what enterUser took.
func (h *Hub) leaveUser(t *topic, g *grants) {
	h.users.unpin(h.ctx, t)
	if g != nil {
		h.grants.unpin(g.user)
	}
}

// answerUser applies a change that was made in a user's record. It is called behind enter.
func (h *Hub) answerUser(ctx context.Context, b []byte) ([]byte, error) {
	change, err := decodeUserChange(b)
	if err != nil {
		return nil, err
	}
	if h.store == nil {
		return nil, fmt.Errorf("%w: this hub was made without UserGroups", backplane.ErrUnsupported)
	}
	var a applied
	if !change.join {
		defer h.leaveAway(change.user, change.group) // who is here has left before, and is not missed
	}
	g := h.grants.pinned(change.user)
	if g == nil { // a connect that begins now reads the record as it is now
		return a.encode(), nil
	}
	defer h.grants.unpin(change.user)
	if a.changed, err = g.refresh(ctx, h.ensureForOthers, change.group); err != nil {
		h.grants.missedOf(g)
		return nil, err
	}
	g.mu.Lock()
	var pins []*topic
	var n int
	if one := g.groups[change.group]; change.join && one != nil {
		n = g.putIn(one) // also those that left by themselves
	} else if !change.join {
		n, pins = g.takeOut(change.group, true)
	}
	g.mu.Unlock()
	for _, t := range pins {
		h.groups.unpin(h.ctx, t)
	}
	a.changed += n
	return a.encode(), nil
}

// registerGranted registers a connection whose user's groups were read, and puts it into them before it hears anything.
func (h *Hub) registerGranted(c *Connection, user *topic, g *grants, b *comeback) (older *Connection, err error) {
	if g == nil {
		return h.register(c, user, b)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if older, err = h.register(c, user, b); err != nil {
		return nil, err
	}
	for _, one := range g.groups {
		g.enroll(c, one)
	}
	return older, nil
}

// watch sees to it that memberships end when their time is over.
func (t *grantTable) watch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running {
		t.running = t.hub.spawn(t.run)
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run ends memberships until there are none.
func (t *grantTable) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-t.wake:
		case <-t.hub.closing.Done():
			return
		}
		next, more := t.sweep(time.Now())
		if !more {
			return
		}
		timer.Reset(next)
	}
}

// sweep ends what is over, and returns how long to wait for the next.
func (t *grantTable) sweep(now time.Time) (next time.Duration, more bool) {
	t.mu.Lock()
	all := make([]*grants, 0, len(t.users))
	for _, g := range t.users {
		g.pins++
		all = append(all, g)
	}
	t.mu.Unlock()
	for _, g := range all {
		if end, lasts := g.expire(now); lasts && (!more || end.Sub(now) < next) {
			next, more = end.Sub(now), true
		}
		t.unpin(g.user)
	}
	if more {
		return next, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.wake: // something was granted meanwhile
		return 0, true
	default:
		t.running = false
		return 0, false
	}
}

// expire ends the memberships that are over, and returns when the next one is.
func (g *grants) expire(now time.Time) (next time.Time, more bool) {
	var pins []*topic
	g.mu.Lock()
	for name, one := range g.groups {
		if now.Before(one.end) {
			if !more || one.end.Before(next) {
				next, more = one.end, true
			}
			continue
		}
		delete(g.groups, name)
		_, out := g.takeOut(name, false)
		pins = append(append(pins, one.topic), out...)
	}
	g.mu.Unlock()
	for _, t := range pins {
		g.hub.groups.unpin(g.hub.ctx, t)
	}
	return next, more
}
