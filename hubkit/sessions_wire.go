package hubkit

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
)

// sessionState is what an instance knows of a session. The numbers are for good.
type sessionState byte

const (
	sessionUnknown sessionState = 0
	sessionHere    sessionState = 1 // its newest connection, as far as is known, is connected here
	sessionAbsent  sessionState = 2 // its newest connection is not here
	sessionEnded   sessionState = 3 // by the server
)

// sessionView is what an instance knows of a session, and the rest of the answer to a sessionQuestion:
//
//	state   1 byte
//	here, absent:
//	rank    uvarint generation, 8 bytes since, uvarint length, id: the highest
//	had     uvarint   the generation of the last connection here; 0 for none
//	groups  uvarint count, then for each: uvarint length, bytes: those of that connection
type sessionView struct {
	state  sessionState
	rank   rank
	had    uint64
	groups []string
}

func appendRank(b []byte, r rank) []byte {
	b = binary.AppendUvarint(b, r.generation)
	b = binary.BigEndian.AppendUint64(b, uint64(r.since)) //nolint:gosec // bits
	return appendID(b, r.id)
}

func cutRank(b []byte) (r rank, rest []byte, ok bool) {
	const since = 8
	if r.generation, b, ok = cutUvarint(b); !ok || len(b) < since {
		return r, nil, false
	}
	r.since = int64(binary.BigEndian.Uint64(b)) //nolint:gosec // bits
	id, rest, ok := cutBytes(b[since:])
	if !ok || len(id) > maxID {
		return r, nil, false
	}
	r.id = string(id)
	return r, rest, true
}

func (v *sessionView) encode(b []byte) []byte {
	b = append(b, byte(v.state))
	if v.state != sessionHere && v.state != sessionAbsent {
		return b
	}
	b = appendRank(b, v.rank)
	b = binary.AppendUvarint(b, v.had)
	return appendNames(b, v.groups)
}

func decodeSessionView(b []byte) (sessionView, error) {
	broken := fmt.Errorf("%w: what is known of a session", errBroken)
	if len(b) == 0 {
		return sessionView{}, broken
	}
	v := sessionView{state: sessionState(b[0])}
	switch v.state {
	case sessionUnknown, sessionEnded:
		return v, nil
	case sessionHere, sessionAbsent:
	default:
		return sessionView{}, fmt.Errorf("%w: state %d of a session", backplane.ErrUnsupported, v.state)
	}
	var ok1, ok2, ok3 bool
	v.rank, b, ok1 = cutRank(b[1:])
	v.had, b, ok2 = cutUvarint(b)
	v.groups, _, ok3 = cutNames(b)
	if !ok1 || !ok2 || !ok3 {
		return sessionView{}, broken
	}
	return v, nil
}

// sessionQuestion asks what an instance knows of a session, or has it make room for a newer connection:
//
//	session  16 bytes
//	take     1 byte   1 to make room; then
//	rank     of the newer connection
//	keep     uvarint, milliseconds: how long that is worth remembering
type sessionQuestion struct { // of the kind askSession
	session sessionID
	take    bool
	rank    rank
	keep    time.Duration
}

func (q *sessionQuestion) encode() []byte {
	b := append([]byte{questionVersion, askSession}, q.session[:]...)
	if !q.take {
		return append(b, 0)
	}
	b = appendRank(append(b, 1), q.rank)
	return appendKeep(b, q.keep)
}

func decodeSessionQuestion(b []byte) (sessionQuestion, error) {
	var q sessionQuestion
	broken := fmt.Errorf("%w: a question for a session", errBroken)
	if len(b) < len(q.session)+1 || b[len(q.session)] > 1 {
		return q, broken
	}
	b = b[copy(q.session[:], b):]
	if q.take = b[0] == 1; !q.take {
		return q, nil
	}
	var ok1, ok2 bool
	q.rank, b, ok1 = cutRank(b[1:])
	q.keep, _, ok2 = cutKeep(b)
	if !ok1 || !ok2 || q.rank.generation == 0 {
		return q, broken
	}
	return q, nil
}

func appendKeep(b []byte, keep time.Duration) []byte {
	return binary.AppendUvarint(b, uint64(max(keep.Milliseconds(), 0)))
}

// cutKeep reads a time, which is never longer than the longest that a session is remembered.
func cutKeep(b []byte) (keep time.Duration, rest []byte, ok bool) {
	const longest = longestLifetime + resumeSkew
	ms, rest, ok := cutUvarint(b)
	return time.Duration(min(ms, uint64(longest.Milliseconds()))) * time.Millisecond, rest, ok //nolint:gosec // bounded
}

// notice tells of a session: that the server ended it, or that a newer connection of it is there. A question of the
// kind askNotices holds several:
//
//	uvarint count, then for each
//	session  16 bytes
//	state    1 byte   sessionEnded or sessionHere; for the latter
//	rank
//	then
//	keep     uvarint, milliseconds
//
// Its answer is of the same form: what the one who was asked knows better.
type notice struct {
	session sessionID
	ended   bool
	rank    rank      // of the connection, where the session is not ended
	until   time.Time // when it is not worth telling any more, on this instance's clock
}

// maxNotices is how many notices travel at a time: some 50 KB.
const maxNotices = 500

func appendNotices(b []byte, list []notice, now time.Time) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for i := range list {
		n := &list[i]
		b = append(b, n.session[:]...)
		if n.ended {
			b = append(b, byte(sessionEnded))
		} else {
			b = appendRank(append(b, byte(sessionHere)), n.rank)
		}
		b = appendKeep(b, n.until.Sub(now))
	}
	return b
}

func decodeNotices(b []byte, now time.Time) ([]notice, error) {
	broken := fmt.Errorf("%w: notices of sessions", errBroken)
	const least = len(sessionID{}) + 2
	n, b, ok := cutUvarint(b)
	if !ok || n > maxNotices || n > uint64(len(b)/least) {
		return nil, broken
	}
	list := make([]notice, n)
	for i := range list {
		one := &list[i]
		if len(b) < least {
			return nil, broken
		}
		b = b[copy(one.session[:], b):]
		state := sessionState(b[0])
		b = b[1:]
		switch state {
		case sessionEnded:
			one.ended = true
		case sessionHere:
			if one.rank, b, ok = cutRank(b); !ok || one.rank.generation == 0 {
				return nil, broken
			}
		case sessionUnknown, sessionAbsent:
			return nil, broken
		default:
			return nil, fmt.Errorf("%w: state %d of a session", backplane.ErrUnsupported, state)
		}
		var keep time.Duration
		if keep, b, ok = cutKeep(b); !ok {
			return nil, broken
		}
		one.until = now.Add(keep)
	}
	return list, nil
}
