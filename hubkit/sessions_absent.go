package hubkit

import "slices"

// What is done to a connection that has gone, and whose client may come back, is done to what this instance remembers of it:
// a leave takes the group out of what would be restored, and a disconnect ends the session. It counts nowhere: there is no such
// connection. Where the instance that remembers is gone, only ResumeOptions.Restore can know.

// ends reports whether the operation ends sessions.
func (o *operation) ends() bool { return o.kind == askDisconnect && o.reason.endsSession(true) }

// applyToGone does an operation to connections that are closed, whether they are still in something or nothing is left of them but
// what is remembered. It returns what is left to do, and the sessions that are to be ended.
func (h *Hub) applyToGone(op *operation, closing []*Connection) (then []func(), ending []sessionID) {
	for _, c := range closing {
		switch {
		case op.kind == askLeave || op.kind == askLeaveAll:
			_, more := h.applyTo(c, op, nil)
			then = append(then, more...)
		case op.ends() && h.sessions.newest(c):
			ending = append(ending, c.resume.session)
		}
	}
	made, coming := h.sessions.applyToComing(op)
	for _, c := range made {
		_, more := h.applyTo(c, op, nil)
		then = append(then, more...)
	}
	if len(coming) > 0 {
		then = append(then, func() { h.endComing(coming) })
	}
	return then, append(ending, h.sessions.applyToAbsent(op)...)
}

// applyToAbsent does an operation to the sessions of connections that left this instance. It returns those that are to be ended.
func (t *sessionTable) applyToAbsent(op *operation) (ending []sessionID) {
	if op.kind == askJoin || op.kind == askDisconnect && !op.ends() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.matching(&op.of) {
		switch {
		case op.kind == askLeave:
			s.away.drop(op.group)
		case op.kind == askLeaveAll:
			s.away.groups = nil
		case s.away.had == s.rank.generation: // nobody has come back with it
			ending = append(ending, s.id)
		}
	}
	return ending
}

// leaveUser takes a group from what would be restored for a user.
func (t *sessionTable) leaveUser(user, group string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.users[user] {
		s.away.drop(group)
	}
}

// drop takes a group out. Who looked before goes on with the old list.
func (p *past) drop(group string) {
	if slices.Contains(p.groups, group) {
		p.groups = slices.DeleteFunc(slices.Clone(p.groups), func(g string) bool { return g == group })
	}
}

// matching returns the sessions of connections that left, and that a selection would have meant, each once. mu is held.
func (t *sessionTable) matching(of *selection) (found []*session) {
	except := make(map[string]struct{})
	for id := range of.except.all() {
		except[string(id)] = struct{}{}
	}
	seen := make(map[*session]struct{})
	add := func(s *session) {
		if _, left := except[s.away.id]; left {
			return
		}
		if _, again := seen[s]; !again {
			seen[s] = struct{}{}
			found = append(found, s)
		}
	}
	for id := range of.connections.all() {
		if s := t.ids[string(id)]; s != nil {
			add(s)
		}
	}
	for user := range of.users.all() {
		for s := range t.users[string(user)] {
			add(s)
		}
	}
	if !of.all && len(of.groups) == 0 {
		return found
	}
	for _, s := range t.ids {
		if of.all || s.away.inAny(of.groups) {
			add(s)
		}
	}
	return found
}

func (p *past) inAny(groups idList) bool {
	for g := range groups.all() {
		if slices.Contains(p.groups, string(g)) {
			return true
		}
	}
	return false
}
