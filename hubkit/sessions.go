package hubkit

import (
	"cmp"
	"container/list"
	"sync"
	"time"
)

// A session is what the connections of a client that comes back have in common. Of those at most one is meant to live: the one
// with the highest rank. Each instance knows, of the sessions that it has heard of, the highest rank; the groups of the last
// connection that was here; and whether the server ended the session. What it forgets, because it is old or too much, is
// told by others, or by the store.

// rank orders the connections of a session: the newer one wins. Generations grow with each resume. Two of the same come
// about only where a token was presented twice at the same moment, or on two sides of a split; then the clocks decide, and at last
// the ids. So two instances that compare never keep both, and never give up both.
type rank struct {
	generation uint64
	since      int64 // Unix time in nanoseconds
	id         string
}

func (r rank) compare(other rank) int {
	return cmp.Or(cmp.Compare(r.generation, other.generation), cmp.Compare(r.since, other.since), cmp.Compare(r.id, other.id))
}

// maxSessions bounds the sessions of absent clients, and as many ended ones, that an instance remembers.
const maxSessions = 65536

// session is what an instance knows of one. Guarded by the table's mu.
type session struct {
	id    sessionID
	conn  *Connection // the connection, if it is here
	ended bool        // by the server; then the rest does not matter
	rank  rank        // the highest that was heard of
	away  *away       // nil while conn is there
}

// away is what an instance remembers where the connection is not here. Guarded by the table's mu.
type away struct {
	past
	until time.Time     // when it is forgotten
	at    *list.Element // its place in absent or over; nil only while it is made
}

// past is what the last connection of a session had that was here. Its generation says how old that is; 0 where there was none.
type past struct {
	id, user string
	groups   []string
	had      uint64
}

// sessionTable holds the sessions that an instance knows.
type sessionTable struct {
	hub *Hub

	mu     sync.Mutex
	m      map[sessionID]*session           // guarded by mu, as all that follows
	users  map[string]map[*session]struct{} // those that left, by user
	ids    map[string]*session              // the same by the connection's id
	absent list.List                        // those that are not here, and not ended; the first is forgotten first
	over   list.List                        // those that are ended
	coming map[*comeback]struct{}           // those that are coming back here
	// Ended sessions that were forgotten too early may come until then: unknown ones are refused.
	unsure time.Time
}

func (t *sessionTable) init(h *Hub) {
	t.hub, t.m = h, make(map[sessionID]*session)
	t.users, t.ids = make(map[string]map[*session]struct{}), make(map[string]*session)
}

// get returns what is known of a session, and makes an entry if there is none. mu is held.
func (t *sessionTable) get(id sessionID) *session {
	s := t.m[id]
	if s == nil {
		s = &session{id: id}
		t.m[id] = s
	}
	return s
}

// place keeps a session that is not here until then, and forgets what is too much. mu is held.
func (t *sessionTable) place(s *session, until time.Time) {
	t.unplace(s)
	if s.away == nil {
		s.away = &away{}
	}
	s.away.until = until
	queue := &t.absent
	if s.ended {
		queue = &t.over
	}
	s.away.at = queue.PushBack(s)
	if queue.Len() <= maxSessions {
		return
	}
	oldest := sessionOf(queue.Front())
	if oldest.ended && t.hub.sessionStore() == nil && oldest.away.until.After(t.unsure) {
		t.unsure = oldest.away.until
	}
	t.forget(oldest)
}

// unplace takes a session out of its queue. mu is held.
func (t *sessionTable) unplace(s *session) {
	if s.away != nil && s.away.at != nil {
		t.absent.Remove(s.away.at) // one of them has it, the other does nothing
		t.over.Remove(s.away.at)
		s.away.at = nil
	}
}

// forget removes a session. mu is held.
func (t *sessionTable) forget(s *session) {
	t.unplace(s)
	t.unleave(s)
	delete(t.m, s.id)
}

func sessionOf(e *list.Element) *session {
	s, _ := e.Value.(*session)
	return s
}

// leave notes what the connection had that was here. mu is held.
func (t *sessionTable) leave(s *session, c *Connection, groups []string) {
	s.away = &away{past: past{id: c.id, user: c.user, groups: groups, had: c.resume.generation}}
	t.ids[c.id] = s
	if c.user == "" {
		return
	}
	if t.users[c.user] == nil {
		t.users[c.user] = make(map[*session]struct{})
	}
	t.users[c.user][s] = struct{}{}
}

// unleave forgets what leave noted. mu is held.
func (t *sessionTable) unleave(s *session) {
	if s.away == nil || s.away.had == 0 {
		return
	}
	p := &s.away.past
	delete(t.ids, p.id)
	if of := t.users[p.user]; of != nil {
		if delete(of, s); len(of) == 0 {
			delete(t.users, p.user)
		}
	}
	*p = past{}
}

// enlist makes a connection the one of its session here. It returns an older one, which the caller closes. The error says that the
// connection must not be: it is not enlisted then. The caller holds the connection's mu.
func (t *sessionTable) enlist(c *Connection) (older *Connection, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, r := t.get(c.resume.session), c.rank()
	switch {
	case s.ended:
		return nil, ErrResumeEnded
	case s.rank.compare(r) > 0:
		return nil, ErrResumeReplaced
	}
	older = s.conn
	t.unplace(s)
	t.unleave(s)
	s.conn, s.rank, s.away = c, r, nil
	return older, nil
}

// park notes that a connection has ended, and what it had joined. The caller holds the connection's mu.
func (t *sessionTable) park(c *Connection, groups []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.m[c.resume.session]
	if s == nil || s.conn != c {
		return
	}
	s.conn = nil
	t.leave(s, c, groups)
	t.place(s, time.Now().Add(t.hub.opts.Resume.keep()))
}

// end notes that the server ended a session. It returns the connection that is still here, which the caller closes.
func (t *sessionTable) end(id sessionID, until time.Time) (conn *Connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.get(id)
	t.unleave(s)
	conn, s.conn, s.ended = s.conn, nil, true
	if s.away != nil && until.Before(s.away.until) {
		until = s.away.until
	}
	t.place(s, until)
	return conn
}

// newest reports whether no newer connection of its session is known than this one, which has ended.
func (t *sessionTable) newest(c *Connection) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.m[c.resume.session]
	return s != nil && !s.ended && s.rank.compare(c.rank()) <= 0
}

// isEnded reports whether a token must be refused by what is known here.
func (t *sessionTable) isEnded(id sessionID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.m[id]
	return s != nil && s.ended || s == nil && now.Before(t.unsure)
}

// look returns what is known of a session.
func (t *sessionTable) look(id sessionID) sessionView {
	for {
		t.mu.Lock()
		s := t.m[id]
		if s == nil || s.conn == nil {
			v := s.view()
			t.mu.Unlock()
			return v
		}
		c, v := s.conn, sessionView{state: sessionHere, rank: s.rank, had: s.rank.generation}
		t.mu.Unlock()
		c.mu.Lock()
		groups, open := c.ownGroups()
		c.mu.Unlock()
		if open {
			v.groups = groups
			return v
		}
		// It has ended in between, and was parked before we could look.
	}
}

// view is what is known of a session that is not here. The table's mu is held.
func (s *session) view() sessionView {
	switch {
	case s == nil:
		return sessionView{}
	case s.ended:
		return sessionView{state: sessionEnded}
	default:
		v := sessionView{state: sessionAbsent, rank: s.rank}
		if s.away != nil {
			v.had, v.groups = s.away.had, s.away.groups
		}
		return v
	}
}

// take makes room for a newer connection of a session: one that is here is closed first. It returns what is known then: that
// the session is ended, a rank that is higher than the newer one's, or what the connection had that was here.
func (t *sessionTable) take(id sessionID, newer rank, until time.Time) sessionView {
	for {
		t.mu.Lock()
		s := t.get(id)
		switch {
		case s.ended:
		case s.rank.compare(newer) >= 0:
			v := s.view()
			t.mu.Unlock()
			return v
		case s.conn == nil:
			s.rank = newer
			t.place(s, until)
		default:
			older := s.conn
			t.mu.Unlock()
			older.replaced() // which parks it
			continue
		}
		v := s.view()
		t.mu.Unlock()
		return v
	}
}

// sweep forgets what is old.
func (t *sessionTable) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, queue := range []*list.List{&t.absent, &t.over} {
		for e := queue.Front(); e != nil && !now.Before(sessionOf(e).away.until); e = queue.Front() {
			t.forget(sessionOf(e))
		}
	}
}

// counts returns how many sessions of absent clients, and how many ended ones, are remembered.
func (t *sessionTable) counts() (absent, ended int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.absent.Len(), t.over.Len()
}
