package redis

import (
	"context"
	"sync"
)

// line is a way to one endpoint: one session at a time, which one call at a time uses. When its connection fails the call
// in progress says so, and the next one opens another session.
type line struct {
	bus     *bus
	addr    string
	purpose string

	turn chan struct{} // holds a token for who may use the session

	mu      sync.Mutex
	session *session           // nil after a failure; changed by who has the turn; guarded by mu
	giveUp  context.CancelFunc // ends the opening under way; guarded by mu
	closed  bool               // guarded by mu
}

// newLine makes a line that has a session, or with nil one that opens it when it is used.
func newLine(b *bus, addr, purpose string, s *session) *line {
	l := &line{bus: b, addr: addr, purpose: purpose, turn: make(chan struct{}, 1), session: s}
	l.turn <- struct{}{}
	return l
}

// close gives the connection up at once, which unblocks calls under way.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.session != nil {
		l.session.close()
	}
	if l.giveUp != nil {
		l.giveUp()
	}
}

// run lets f use the session, and closes its socket when ctx ends. After any error but a reply the session is thrown
// away: answers that come later would be taken for those of the next call.
func (l *line) run(ctx context.Context, s *session, f func() error) error {
	stop := context.AfterFunc(ctx, s.sock.abort)
	err := f()
	switch ended := !stop(); {
	case ended && err != nil:
		l.drop(s)
		return ctx.Err()
	case ended, err != nil && !isReply(err):
		l.drop(s)
	}
	return err
}

// enter waits for the turn, and opens a session if there is none. The errors are definite: nothing was sent.
func (l *line) enter(ctx context.Context) (*session, error) {
	ended := func() error { return unavailable(ctx.Err(), "nothing was sent") }
	if ctx.Err() != nil { // or the turn could be taken all the same, and a good connection closed for nothing
		return nil, ended()
	}
	select {
	case <-l.turn:
	case <-ctx.Done():
		return nil, ended()
	}
	s, err := l.reopen(ctx)
	if err != nil {
		l.leave()
		return nil, err
	}
	return s, nil
}

func (l *line) leave() { l.turn <- struct{}{} }

// reopen returns the session, or opens a new one. The caller has the turn.
func (l *line) reopen(ctx context.Context) (*session, error) {
	l.mu.Lock()
	if l.session != nil || l.closed {
		defer l.mu.Unlock()
		if l.closed {
			return nil, errGivenUp
		}
		return l.session, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.giveUp = cancel
	l.mu.Unlock()

	s, err := l.bus.openMaster(ctx, l.addr, l.purpose)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveUp = nil
	switch {
	case l.closed:
		if err == nil {
			s.close()
		}
		return nil, errGivenUp
	case err != nil:
		return nil, err
	}
	l.session = s
	return s, nil
}

// drop throws a session away. The caller has the turn.
func (l *line) drop(s *session) {
	s.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == s {
		l.session = nil
	}
}
