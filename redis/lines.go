package redis

import (
	"context"
	"sync"
)

// maxStoreLines is how many calls of the store may be under way at a time; more wait for their turn. It is what the connects of
// many users at once need, each of which reads a record, and few enough for the server where hundreds of nodes do so.
const maxStoreLines = 8

// lines are ways to one endpoint for calls at the same time. The one used last is used first, so that calls that follow one
// another have one connection.
type lines struct {
	all   []*line       // constant
	turns chan struct{} // holds a token for each free line

	mu   sync.Mutex
	free []*line // guarded by mu
}

func newLines(b *bus, addr, purpose string) *lines {
	s := &lines{turns: make(chan struct{}, maxStoreLines)}
	for range maxStoreLines {
		s.all = append(s.all, newLine(b, addr, purpose, nil))
		s.turns <- struct{}{}
	}
	s.free = append(s.free, s.all...)
	return s
}

// take waits for a free line. The error is definite: nothing was sent.
func (s *lines) take(ctx context.Context) (*line, error) {
	if ctx.Err() != nil {
		return nil, unavailable(ctx.Err(), "nothing was sent")
	}
	select {
	case <-s.turns:
	case <-ctx.Done():
		return nil, unavailable(ctx.Err(), "nothing was sent")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.free) - 1
	l := s.free[last]
	s.free = s.free[:last]
	return l, nil
}

// give gives a line back.
func (s *lines) give(l *line) {
	s.mu.Lock()
	s.free = append(s.free, l)
	s.mu.Unlock()
	s.turns <- struct{}{}
}

// close gives all connections up at once, which unblocks calls under way.
func (s *lines) close() {
	for _, l := range s.all {
		l.close()
	}
}
