package hubkit

import (
	"slices"
	"time"
)

// A client that is coming back is nowhere for a moment: its old connection may be gone with its instance, and the new one is not made
// yet. What operations do to it meanwhile is noted here, on the instance that it comes to: every operation that means users or all asks
// every instance. A disconnect ends the session, which lets nobody in any more; what was left is not restored.

// expect notes that a client is coming back, until arrived.
func (t *sessionTable) expect(b *comeback) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.coming == nil {
		t.coming = make(map[*comeback]struct{})
	}
	t.coming[b] = struct{}{}
}

// arrived notes that a client has come back, or has been refused. Where its session was ended meanwhile, that is announced: its old
// connection may be behind a split.
func (t *sessionTable) arrived(b *comeback) {
	t.mu.Lock()
	delete(t.coming, b)
	ended := b.ended
	t.mu.Unlock()
	if ended {
		t.hub.announcer.add(notice{session: b.token.session, ended: true, until: time.Now().Add(t.hub.opts.Resume.keep())})
	}
}

// know notes the id of the newest connection that is known of who comes back: an except-list may name it.
func (t *sessionTable) know(b *comeback, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b.newest = id
}

// makes notes that the connection is being made now: what comes from now on is done to it. It returns the topics that are to be
// restored; those that were left until now stay in the comeback. The caller holds the connection's mu.
func (t *sessionTable) makes(b *comeback, c *Connection) (restored []*topic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b.made = c
	b.topics = slices.DeleteFunc(b.topics, func(topic *topic) bool {
		name := topic.addr.Name()
		left := (b.leftAll || slices.Contains(b.left, name)) && slices.Contains(b.what.Groups, name)
		if !left {
			restored = append(restored, topic)
		}
		return !left
	})
	return restored
}

// applyToComing does an operation to those that are coming back. It returns the connections that are made of them already, but perhaps
// not found yet, and the sessions that are to be ended.
func (t *sessionTable) applyToComing(op *operation) (made []*Connection, ending []sessionID) {
	if op.kind == askJoin || op.kind == askDisconnect && !op.ends() {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for b := range t.coming {
		switch {
		case !b.meant(&op.of):
		case op.kind == askDisconnect:
			b.ended = true
			ending = append(ending, b.token.session)
		case b.made != nil:
			made = append(made, b.made)
		case op.kind == askLeaveAll:
			b.leftAll = true
		default:
			b.left = append(b.left, op.group)
		}
	}
	return made, ending
}

// leaveUserComing is leaveUser for those that are coming back. It returns the connections that are made of them already.
func (t *sessionTable) leaveUserComing(user, group string) (made []*Connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for b := range t.coming {
		switch {
		case b.token.user != user:
		case b.made != nil:
			made = append(made, b.made)
		default:
			b.left = append(b.left, group)
		}
	}
	return made
}

// endComing ends the sessions of clients that are coming back. It announces nothing yet: every instance is asked for the same, and who
// hears of it by an announcement first would close a connection that the operation then does not count.
func (h *Hub) endComing(ids []sessionID) {
	until := time.Now().Add(h.opts.Resume.keep())
	notices := make([]notice, len(ids))
	for i, id := range ids {
		if c := h.sessions.end(id, until); c != nil {
			c.disconnect(Reason{Code: ReasonRefused, Text: sessionOver})
		}
		notices[i] = notice{session: id, ended: true, until: until}
	}
	h.stats.sessionsEnded.Add(uint64(len(ids)))
	h.announcer.record(notices)
}

// leaveAway is what a leave of a user does to those who are away, or are coming back.
func (h *Hub) leaveAway(user, group string) {
	h.sessions.leaveUser(user, group)
	for _, c := range h.sessions.leaveUserComing(user, group) {
		if m := c.withdraw(group); m != nil {
			h.groups.unpin(h.ctx, m.topic)
		}
	}
}

// meant reports whether a selection means who is coming back. The groups of a token may have been left since, so they count for
// nothing. The table's mu is held.
func (b *comeback) meant(of *selection) bool {
	for id := range of.except.all() {
		if string(id) == b.newest {
			return false
		}
	}
	if of.all {
		return true
	}
	for user := range of.users.all() {
		if string(user) == b.token.user {
			return true
		}
	}
	return false
}
