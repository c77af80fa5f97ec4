package hubkit

import (
	"context"
	"time"
)

// answerSession tells another instance what is known of a session, or makes room for its connection.
func (h *Hub) answerSession(b []byte) ([]byte, error) {
	q, err := decodeSessionQuestion(b)
	switch {
	case err != nil:
		return nil, err
	case !h.opts.Resume.on():
		return nil, errNoResume
	}
	var v sessionView
	if q.take {
		v = h.sessions.take(q.session, q.rank, time.Now().Add(q.keep))
	} else {
		v = h.sessions.look(q.session)
	}
	return v.encode(newAnswer(statusOK)), nil
}

// answerNotices takes in what another instance tells of sessions.
func (h *Hub) answerNotices(b []byte) ([]byte, error) {
	if !h.opts.Resume.on() {
		return nil, errNoResume
	}
	now := time.Now()
	list, err := decodeNotices(b, now)
	if err != nil {
		return nil, err
	}
	return appendNotices(newAnswer(statusOK), h.takeNotices(list), now), nil
}

const sessionOver = "the server ended this session"

// takeNotices closes here what was ended or replaced elsewhere. It returns what is known better here.
func (h *Hub) takeNotices(list []notice) (better []notice) {
	until := time.Now().Add(h.opts.Resume.keep())
	for _, n := range list {
		if n.ended {
			if c := h.sessions.end(n.session, n.until); c != nil {
				c.disconnect(Reason{Code: ReasonRefused, Text: sessionOver})
			}
			continue
		}
		switch v := h.sessions.take(n.session, n.rank, n.until); {
		case v.state == sessionEnded:
			better = append(better, notice{session: n.session, ended: true, until: until})
		case v.rank.compare(n.rank) > 0:
			better = append(better, notice{session: n.session, rank: v.rank, until: until})
		}
	}
	return better
}

// endsSession reports whether a disconnect for a reason is meant for good: then the session's tokens are refused. What tells a client to
// come back does not; nor does what a server says that only noticed the client's going.
func (r Reason) endsSession(byOperation bool) bool {
	switch r.Code {
	case ReasonGoingAway, ReasonSlow, ReasonFailed, ReasonReplaced:
		return false
	case ReasonDone:
		return byOperation
	case ReasonRefused:
		return true
	default:
		return true
	}
}

// endSession ends the sessions, here now and everywhere soon. It returns a number for announcer.wait.
func (h *Hub) endSessions(ids ...sessionID) (number uint64) {
	until := time.Now().Add(h.opts.Resume.keep())
	notices := make([]notice, len(ids))
	for i, id := range ids {
		if c := h.sessions.end(id, until); c != nil {
			c.disconnect(Reason{Code: ReasonRefused, Text: sessionOver}) // where it came back just now
		}
		notices[i] = notice{session: id, ended: true, until: until}
	}
	h.stats.sessionsEnded.Add(uint64(len(ids)))
	return h.announcer.add(notices...)
}

// awaitEnds waits until what was ended is known everywhere that can be reached, but not for long.
func (h *Hub) awaitEnds(ctx context.Context, number uint64) {
	ctx, cancel := context.WithTimeout(ctx, 2*resumePatience) // one round may be under way
	defer cancel()
	h.announcer.wait(ctx, number)
}
