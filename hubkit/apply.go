package hubkit

import (
	"context"

	"github.com/gobackplane/backplane"
)

// maxWaitingJoins is how many joins that other instances ask for may wait for the broker here at a time. It is less than
// a node answers questions at once, so that leaves, disconnects and queries never find it busy with joins.
const maxWaitingJoins = 128

// answer answers the questions of hubs of this name. It is called on a goroutine of the question's own.
func (h *Hub) answer(ctx context.Context, from backplane.NodeID, question []byte, reply func([]byte, error)) {
	if h.enter() != nil { // it has no connections any more, or will not have in a moment
		reply(newAnswer(statusClosed), nil)
		return
	}
	defer h.leave()
	h.stats.questions.Add(1)
	switch {
	case len(question) < 2:
		reply(newAnswer(statusUnreadable), nil)
		return
	case question[0] != questionVersion:
		reply(newAnswer(statusUnsupported), nil)
		return
	}
	kind, rest := question[1], question[2:]
	var answer []byte
	var err error
	switch kind {
	case askJoin, askLeave, askLeaveAll, askDisconnect:
		answer, err = h.answerOperation(ctx, kind, rest)
	case askCount:
		answer, err = h.answerCount(rest)
	case askList:
		answer, err = h.answerList(rest)
	case askInvoke:
		h.answerInvoke(rest, reply)
		return
	case askForget:
		answer, err = h.answerForget(rest)
	case askUser:
		answer, err = h.answerUser(ctx, rest)
	case askSession:
		answer, err = h.answerSession(rest)
	case askNotices:
		answer, err = h.answerNotices(rest)
	default:
		err = backplane.ErrUnsupported
	}
	if err != nil {
		h.log.Debug("a question of another hub was not answered", "node", string(from), "kind", kind, "err", err)
		answer = newAnswer(statusOf(err))
	}
	reply(answer, nil)
}

func (h *Hub) answerOperation(ctx context.Context, kind byte, b []byte) ([]byte, error) {
	op, err := decodeOperation(kind, b)
	if err != nil {
		return nil, err
	}
	a, err := h.apply(ctx, &op, h.ensureForOthers)
	if err != nil {
		return nil, err
	}
	return a.encode(), nil
}

// apply does an operation to the connections of this instance. It is called behind enter. When it has returned, the operation is
// effective here; it waits for nothing but, in a join of the group's first member here, the broker, by ensure.
func (h *Hub) apply(ctx context.Context, op *operation, ensure func(context.Context, *topic) error) (applied, error) {
	order := h.orders.of(op.origin)
	order.advance(op.floor)
	var group *topic
	if op.kind == askJoin {
		if found, absent := h.matching(&op.of); len(found) == 0 {
			return applied{absent: absent}, nil
		}
		group = h.groups.pin(op.group)
		defer h.groups.unpin(h.ctx, group)
		if err := ensure(ctx, group); err != nil {
			return applied{}, err
		}
	}
	var a applied
	var after []func()    // what may wait, and so must not be done under the order's lock
	var ended []sessionID // of those that may not come back
	err := order.apply(op.number, func() {
		var found, closing []*Connection
		a.absent = h.visitAny(&op.of, func(c *Connection) {
			if c.isOpen() {
				found = append(found, c)
			} else {
				closing = append(closing, c)
			}
		})
		if op.kind == askDisconnect {
			found, a.absent = h.addFlushing(&op.of, found, a.absent)
		}
		for _, c := range found {
			changed, then := h.applyTo(c, op, group)
			if changed {
				a.changed++
			}
			if changed && c.resume != nil && op.ends() {
				ended = append(ended, c.resume.session)
			}
			after = append(after, then...)
		}
		if h.opts.Resume.on() {
			then, more := h.applyToGone(op, closing)
			after, ended = append(after, then...), append(ended, more...)
		}
	})
	var told uint64
	if len(ended) > 0 {
		told = h.endSessions(ended...)
	}
	for _, then := range after {
		then()
	}
	if len(ended) > 0 {
		h.awaitEnds(ctx, told)
	}
	return a, err
}

// applyTo does an operation to one connection. It reports whether that changed anything, and returns what is left to do, which
// is to be done before the operation has an answer.
func (h *Hub) applyTo(c *Connection, op *operation, group *topic) (changed bool, then []func()) {
	switch op.kind {
	case askJoin:
		own := h.groups.pin(op.group) // the same topic: it is pinned already
		if changed, _ = c.enroll(own); !changed {
			then = append(then, func() { h.groups.unpin(h.ctx, group) })
		}
	case askLeave:
		if m := c.withdraw(op.group); m != nil {
			changed = true
			then = append(then, func() { h.groups.unpin(h.ctx, m.topic) })
		}
	case askLeaveAll:
		groups := c.withdrawAll()
		for m := range groups.all() {
			changed = true
			then = append(then, func() { h.groups.unpin(h.ctx, m.topic) })
		}
	case askDisconnect:
		c.out.mu.Lock()
		changed = c.closeLocked(op.reason)
		c.out.mu.Unlock()
		if changed {
			then = append(then, func() {
				c.detach()
				go c.finish()
			})
		}
	}
	return changed, then
}

// addFlushing adds the connections of a selection that are only written out any more, whose writing a disconnect ends. They
// are in no group, and found by their id, their user, or all.
func (h *Hub) addFlushing(s *selection, found []*Connection, absent idList) ([]*Connection, idList) {
	if h.flushing.len() == 0 {
		return found, absent
	}
	except := make(map[string]bool)
	for id := range s.except.all() {
		except[string(id)] = true
	}
	users := make(map[string]bool)
	for user := range s.users.all() {
		users[string(user)] = true
	}
	named := make(map[string]bool)
	for id := range s.connections.all() {
		named[string(id)] = true
	}
	h.flushing.each(func(c *Connection) {
		if !except[c.id] && (s.all || named[c.id] || c.user != "" && users[c.user]) {
			found = append(found, c)
		}
	})
	var still idList
	for id := range absent.all() {
		if h.flushing.get(id) == nil {
			still = appendID(still, id)
		}
	}
	return found, still
}

// ensureForOthers is topic.ensure for another instance: it does not wait where too many others do.
func (h *Hub) ensureForOthers(ctx context.Context, t *topic) error {
	if t.subscribed() {
		return nil
	}
	if h.stats.waitingJoins.Add(1) > maxWaitingJoins {
		h.stats.waitingJoins.Add(-1)
		return backplane.ErrBusy
	}
	defer h.stats.waitingJoins.Add(-1)
	return t.ensure(ctx)
}

// matching returns the open connections of this instance that a selection means, each once, and those ids of this home that
// it names and that are not here.
func (h *Hub) matching(s *selection) (found []*Connection, absent idList) {
	absent = h.visit(s, func(c *Connection) { found = append(found, c) })
	return found, absent
}

// visit calls f for each connection that matching would return. f must not block: it is called under locks.
func (h *Hub) visit(s *selection, f func(*Connection)) (absent idList) {
	return h.visitAny(s, func(c *Connection) {
		if c.isOpen() {
			f(c)
		}
	})
}

// visitAny is visit that leaves out nobody who is closed, but still in something.
func (h *Hub) visitAny(s *selection, f func(*Connection)) (absent idList) {
	except := h.resolve(s.except)
	var seen map[*Connection]struct{} // nil where only one source names connections
	if !s.all && s.sources() > 1 {
		seen = make(map[*Connection]struct{})
	}
	meet := func(c *Connection) {
		if except.has(c) {
			return
		}
		if seen != nil {
			if _, again := seen[c]; again {
				return
			}
			seen[c] = struct{}{}
		}
		f(c)
	}
	if s.all {
		h.connections.each(meet)
		return nil
	}
	for id := range s.connections.all() {
		c := h.connections.get(id)
		if c != nil {
			meet(c)
		}
		if home, _ := homeOf(string(id)); home == h.home && (c == nil || !c.isOpen()) {
			absent = appendID(absent, id)
		}
	}
	for name := range s.groups.all() {
		if t := h.groups.find(string(name)); t != nil {
			t.each(meet)
		}
	}
	for name := range s.users.all() {
		if t := h.users.find(string(name)); t != nil {
			t.each(meet)
		}
	}
	return absent
}

// sources counts the groups, users and lists of ids of which one connection can be in several.
func (s *selection) sources() uint64 {
	return s.groups.count() + s.users.count() + s.connections.count()
}
