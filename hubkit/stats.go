package hubkit

import "sync/atomic"

// Stats are counters since the hub was made, and gauges of this moment. They concern this instance only.
type Stats struct {
	// Counters.

	Sends            uint64 // calls of Send and SendLatest that returned nil
	SendsFailed      uint64 // those that returned an error
	LocalOnly        uint64 // those of them that reached connections of this instance only, see ErrLocalOnly
	Received         uint64 // messages heard from the backplane
	Delivered        uint64 // messages put into outboxes, counted for each connection
	Repeats          uint64 // copies of one send that a connection was spared
	Dropped          uint64 // messages that outboxes dropped by their policy, superseded ones included
	SlowDisconnects  uint64 // connections closed because their outbox was full
	FailedWrites     uint64 // connections closed because a write failed or missed its deadline
	Unreadable       uint64 // messages heard that this version cannot read; each is a gap
	Gaps             uint64 // causes of gaps told
	ConnectionsTotal uint64 // connections ever made
	Invocations      uint64 // questions to clients of this instance, see Hub.Invoke
	Resumed          uint64 // connections made of a resume token
	ResumesRefused   uint64 // resume tokens that were not accepted, see ErrResume
	ResumeTokens     uint64 // resume tokens made
	ResumeTrimmed    uint64 // those of them that not all groups fitted into
	SessionsEnded    uint64 // sessions that this instance was asked to end, see Hub.Disconnect
	Questions        uint64 // what hubs of other instances, and this one where it asks all, asked this one to do or to tell

	// Gauges.

	Connections   int // open connections
	Groups        int // groups with a member here, or with a join under way
	Users         int // users connected here, or with a connect under way
	Subscriptions int // subscriptions held on the backplane
	// Sessions of clients that are not here any more, and ended ones, that are remembered; at most 65,536 of each.
	SessionsAway, SessionsOver int
	UsersBehind                int // users here whose memberships are to be read again, see Hub.JoinUser
}

// counters are the hub's side of Stats.
type counters struct {
	sends, sendsFailed, localOnly, received     atomic.Uint64
	delivered, repeats, dropped, slow           atomic.Uint64
	failedWrites, unreadable, gaps, connections atomic.Uint64
	questions, invocations                      atomic.Uint64
	resumed, resumesRefused, sessionsEnded      atomic.Uint64
	resumeTokens, resumeTrimmed                 atomic.Uint64
	subscriptions, waitingJoins                 atomic.Int64
}

func (h *Hub) count(t *tally) {
	s := &h.stats
	for _, c := range [...]struct {
		counter *atomic.Uint64
		n       uint64
	}{{&s.delivered, t.delivered}, {&s.repeats, t.repeats}, {&s.dropped, t.dropped}, {&s.slow, t.slow}} {
		if c.n > 0 {
			c.counter.Add(c.n)
		}
	}
}

// Stats returns counters and gauges.
func (h *Hub) Stats() Stats {
	s := &h.stats
	away, over := h.sessions.counts()
	return Stats{
		Sends:            s.sends.Load(),
		SendsFailed:      s.sendsFailed.Load(),
		LocalOnly:        s.localOnly.Load(),
		Received:         s.received.Load(),
		Delivered:        s.delivered.Load(),
		Repeats:          s.repeats.Load(),
		Dropped:          s.dropped.Load(),
		SlowDisconnects:  s.slow.Load(),
		FailedWrites:     s.failedWrites.Load(),
		Unreadable:       s.unreadable.Load(),
		Gaps:             s.gaps.Load(),
		ConnectionsTotal: s.connections.Load(),
		Invocations:      s.invocations.Load(),
		Resumed:          s.resumed.Load(),
		ResumesRefused:   s.resumesRefused.Load(),
		ResumeTokens:     s.resumeTokens.Load(),
		ResumeTrimmed:    s.resumeTrimmed.Load(),
		SessionsEnded:    s.sessionsEnded.Load(),
		Questions:        s.questions.Load(),
		Connections:      h.connections.len(),
		Groups:           h.groups.len(),
		Users:            h.users.len(),
		Subscriptions:    int(s.subscriptions.Load()),
		SessionsAway:     away,
		SessionsOver:     over,
		UsersBehind:      h.grants.lagging(),
	}
}
