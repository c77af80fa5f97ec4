package hubkit

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// table makes a table of sessions of a hub that does nothing.
func table(store backplane.Store) *sessionTable {
	h := &Hub{resumeStore: store, opts: &Options{Resume: *ring(vectorKey)}}
	h.sessions.init(h)
	return &h.sessions
}

func numbered(i int) (id sessionID) {
	binary.BigEndian.PutUint64(id[:], uint64(i))
	return id
}

// A table holds a bounded number of sessions. The oldest are forgotten; where they were ended ones, and no store knows them, what is
// unknown is refused until they would have been forgotten anyway.
func TestSessionTableIsBounded(t *testing.T) {
	for _, store := range []backplane.Store{nil, nodeStore{}} {
		tab, now := table(store), time.Now()
		for i := range maxSessions + 2 {
			tab.take(numbered(i), rank{generation: 2, id: "x"}, now.Add(time.Hour+time.Duration(i)))
		}
		if absent, ended := tab.counts(); absent != maxSessions || ended != 0 || len(tab.m) != maxSessions {
			t.Errorf("%d absent, %d ended, %d in all", absent, ended, len(tab.m))
		}
		if tab.isEnded(numbered(maxSessions+9), now) {
			t.Error("to forget who is absent refuses who is unknown")
		}
		for i := range maxSessions + 2 {
			tab.end(numbered(i), now.Add(time.Hour+time.Duration(i)))
		}
		if absent, ended := tab.counts(); absent != 0 || ended != maxSessions || len(tab.m) != maxSessions {
			t.Errorf("%d absent, %d ended, %d in all", absent, ended, len(tab.m))
		}
		if !tab.isEnded(numbered(2), now) || !tab.isEnded(numbered(maxSessions+1), now) {
			t.Error("an ended session is not known")
		}
		if got := tab.isEnded(numbered(0), now); got != (store == nil) {
			t.Errorf("a forgotten one is refused: %v; with a store: %v", got, store != nil)
		}
		tab.sweep(now.Add(time.Hour + 1))
		if tab.isEnded(numbered(0), now.Add(time.Hour+2)) {
			t.Error("a forgotten one is refused for good")
		}
		tab.sweep(now.Add(2 * time.Hour))
		if absent, ended := tab.counts(); absent+ended+len(tab.m) != 0 {
			t.Errorf("%d absent, %d ended, %d in all", absent, ended, len(tab.m))
		}
	}
}

type nodeStore struct{ backplane.Store }

// Ranks are a total order, by generation, then time, then id.
func TestRanks(t *testing.T) {
	ranks := []rank{{}, {1, 5, "z"}, {2, 1, "b"}, {2, 2, "a"}, {2, 2, "b"}, {10, 0, ""}}
	for i, a := range ranks {
		for j, b := range ranks {
			if got := a.compare(b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%+v and %+v compare as %d", a, b, got)
			}
		}
	}
}

// What was heard while a connection was being made decides whether it is made.
func TestConnectionsAreEnlistedByRank(t *testing.T) {
	tab, until := table(nil), time.Now().Add(time.Hour)
	conn := func(id string, session int, generation uint64) *Connection {
		return &Connection{hub: tab.hub, id: id, resume: &resumeState{session: numbered(session), generation: generation}}
	}
	tab.end(numbered(1), until)
	tab.end(numbered(1), until.Add(-time.Hour)) // which does not make it shorter
	tab.sweep(until.Add(-time.Minute))
	if older, err := tab.enlist(conn("a", 1, 5)); older != nil || !errors.Is(err, ErrResumeEnded) {
		t.Errorf("of an ended session: %v, %v", older, err)
	}
	tab.take(numbered(2), rank{generation: 2, id: "b"}, until)
	for _, c := range []*Connection{conn("a", 2, 2), conn("z", 2, 1)} {
		if older, err := tab.enlist(c); older != nil || !errors.Is(err, ErrResumeReplaced) {
			t.Errorf("an older one, %s: %v, %v", c.id, older, err)
		}
	}
	first, second := conn("b", 2, 2), conn("c", 2, 2)
	if older, err := tab.enlist(first); older != nil || err != nil {
		t.Errorf("the one that was announced: %v, %v", older, err)
	}
	if older, err := tab.enlist(second); older != first || err != nil {
		t.Errorf("a newer one: %v, %v", older, err)
	}
	if _, err := tab.enlist(first); !errors.Is(err, ErrResumeReplaced) {
		t.Errorf("the older one again: %v", err)
	}
	tab.park(first, []string{"x"})
	if v := tab.look(numbered(2)); v.state == sessionAbsent {
		t.Errorf("the end of the older one is that of the newer: %+v", v)
	}
	tab.park(second, []string{"y"})
	if v := tab.look(numbered(2)); v.state != sessionAbsent || v.had != 2 || !slices.Equal(v.groups, []string{"y"}) {
		t.Errorf("it knows %+v", v)
	}
}

// Who is told of a session answers with what it knows better, and closes what is older.
func TestNoticesAreAnswered(t *testing.T) {
	tab := table(nil)
	h, until := tab.hub, time.Now().Add(time.Hour)
	h.log = slog.New(slog.DiscardHandler)
	tab.end(numbered(1), until)
	tab.take(numbered(2), rank{generation: 3, id: "c"}, until)
	tab.take(numbered(3), rank{generation: 3, id: "c"}, until)
	tab.take(numbered(4), rank{generation: 3, id: "c"}, until)
	better := h.takeNotices([]notice{
		{session: numbered(1), rank: rank{generation: 9, id: "x"}, until: until},
		{session: numbered(2), rank: rank{generation: 2, id: "x"}, until: until},
		{session: numbered(3), rank: rank{generation: 3, id: "c"}, until: until},
		{session: numbered(4), rank: rank{generation: 4, id: "a"}, until: until},
		{session: numbered(5), rank: rank{generation: 1, id: "a"}, until: until},
		{session: numbered(6), ended: true, until: until},
	})
	if len(better) != 2 || better[0].session != numbered(1) || !better[0].ended || better[1].session != numbered(2) ||
		better[1].rank != (rank{generation: 3, id: "c"}) || better[1].ended {
		t.Errorf("the answer is %+v", better)
	}
	if v := tab.look(numbered(4)); v.rank.generation != 4 {
		t.Errorf("it knows %+v", v)
	}
	if !tab.isEnded(numbered(6), time.Now()) {
		t.Error("it does not know what ended")
	}
}

// idleConn is a client that takes everything.
type idleConn struct{}

func (idleConn) Write(context.Context, []Delivery) error { return nil }
func (idleConn) Close(Reason) error                      { return nil }

// An operation also reaches what is closed and has not left its groups yet, so that nobody comes back with what was taken away at
// that moment.
func TestOperationsReachWhoIsClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := backplane.Open(t.Context(), inmem.NewBroker().Opener(), backplane.Options{})
		if err != nil {
			t.Fatal(err)
		}
		h, err := New(node, Options{Name: "ward", Resume: *ring(vectorKey)})
		if err != nil {
			t.Fatal(err)
		}
		closing := func() *Connection {
			c, err := h.Connect(t.Context(), idleConn{}, ConnectOptions{User: "nurse"})
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range []string{"1", "2", "3"} {
				if err = c.Join(t.Context(), g); err != nil {
					t.Fatal(err)
				}
			}
			c.out.mu.Lock()
			c.closeLocked(Reason{Code: ReasonSlow}) // as enqueue does, which leaves the rest to finish
			c.out.mu.Unlock()
			return c
		}
		c := closing()
		if n, err := h.Leave(t.Context(), ToUsers("nurse"), "1"); n != 0 || err != nil && !errors.Is(err, ErrPartial) {
			t.Errorf("leave: %d, %v", n, err)
		}
		if _, err = h.Leave(t.Context(), ToConnections(c.id), "2"); !errors.Is(err, ErrNotFound) {
			t.Errorf("leave by id: %v", err)
		}
		c.finish()
		if v := h.sessions.look(c.resume.session); v.state != sessionAbsent || !slices.Equal(v.groups, []string{"3"}) {
			t.Errorf("it would come back with %+v", v)
		}
		c = closing()
		if _, err = h.Disconnect(t.Context(), ToConnections(c.id), Reason{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("disconnect by id: %v", err)
		}
		c.finish()
		if v := h.sessions.look(c.resume.session); v.state != sessionEnded {
			t.Errorf("it would come back with %+v", v)
		}
		if s := h.Stats(); s.Groups != 0 || s.Users != 0 || s.SessionsAway != 1 || s.SessionsOver != 1 {
			t.Errorf("left behind: %+v", s)
		}
		if err = errors.Join(h.Close(t.Context()), node.Close(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// What was announced is forgotten in time, and with it the goroutine that announces; a session that comes back and goes leaves nothing.
func TestAnnouncementsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var hubs []*Hub
		var nodes []*backplane.Node
		for range 2 {
			node, err := backplane.Open(t.Context(), broker.Opener(), backplane.Options{})
			if err != nil {
				t.Fatal(err)
			}
			h, err := New(node, Options{Name: "ward", Resume: *ring(vectorKey)})
			if err != nil {
				t.Fatal(err)
			}
			hubs, nodes = append(hubs, h), append(nodes, node)
		}
		for i := range 20 {
			c, err := hubs[0].Connect(t.Context(), idleConn{}, ConnectOptions{User: "nurse"})
			if err != nil {
				t.Fatal(err)
			}
			token, err := c.ResumeToken()
			if err != nil {
				t.Fatal(err)
			}
			if c, err = hubs[1].Connect(t.Context(), idleConn{}, ConnectOptions{Resume: token}); err != nil {
				t.Fatal(err)
			}
			c.Disconnect(Reason{Code: ReasonCode(i % 5)})
		}
		<-time.NewTimer(2 * time.Second).C
		if a := &hubs[1].announcer; !a.running || len(a.log) != 24 {
			t.Errorf("it runs: %v, with %d notices", a.running, len(a.log))
		}
		<-time.NewTimer(17 * time.Minute).C
		synctest.Wait()
		for i, h := range hubs {
			a, s := &h.announcer, &h.sessions
			if a.running || len(a.log)+len(a.store)+len(s.m)+len(s.ids)+len(s.users)+s.absent.Len()+s.over.Len() != 0 {
				t.Errorf("instance %d: it runs: %v; %d notices, %d to store; %d sessions", i, a.running, len(a.log), len(a.store), len(s.m))
			}
			if err := errors.Join(h.Close(t.Context()), nodes[i].Close(t.Context())); err != nil {
				t.Error(err)
			}
		}
	})
}

// A log that is full costs the next resume no more than one that is not.
func TestFullLogIsCheap(t *testing.T) {
	h := &Hub{}
	a := &announcer{}
	a.init(h)
	a.running = true // nobody tells
	n := notice{until: time.Now().Add(time.Hour)}
	for range maxAnnounced + 1 {
		a.add(n)
	}
	before := cap(a.log)
	const more = 1000
	made := testing.AllocsPerRun(more, func() { a.add(n) })
	if made >= 1 || len(a.log) != maxAnnounced || a.first != more+2 {
		t.Errorf("each of %d more notices makes %.1f logs; it holds %d of %d, the first is number %d", more, made, len(a.log), before, a.first)
	}
}
