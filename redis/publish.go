package redis

import (
	"context"
	"errors"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/transport"
)

// publisher is the publishing side of a link: one session at a time, which one call at a time uses. When its connection
// fails the call in progress says so, and the next one opens another session to the same endpoint.
type publisher struct {
	bus  *bus
	addr string

	// turn holds a token for who may use what follows.
	turn  chan struct{}
	pipe  goredis.Pipeliner // of session
	cmds  []*publish        // kept for reuse
	batch []goredis.Cmder   // cmds of the call in progress

	mu      sync.Mutex
	session *session           // nil after a failure; changed by who has the turn; guarded by mu
	giveUp  context.CancelFunc // ends the opening under way; guarded by mu
	closed  bool               // guarded by mu
}

func newPublisher(b *bus, s *session) *publisher {
	p := &publisher{bus: b, addr: s.addr, turn: make(chan struct{}, 1), session: s, pipe: s.client.Pipeline()}
	p.turn <- struct{}{}
	return p
}

// close gives the connection up at once, which unblocks calls under way.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.session != nil {
		p.session.close()
	}
	if p.giveUp != nil {
		p.giveUp()
	}
}

// publish sends frames and waits for the server's word on each.
func (p *publisher) publish(ctx context.Context, frames []transport.Frame) []error {
	s, err := p.enter(ctx)
	if err != nil {
		return all(len(frames), err)
	}
	defer p.leave()
	p.load(frames)
	defer p.unload()
	before := s.sock.wire.sent.Load()
	err = p.run(ctx, s, func() error {
		if len(p.batch) == 1 {
			return s.client.Process(ctx, p.batch[0])
		}
		_ = p.pipe.BatchProcess(ctx, p.batch...)
		_, err := p.pipe.Exec(ctx)
		return err
	})
	var errs []error
	for i := range p.batch {
		answer := p.cmds[i].Err()
		if answer == nil {
			continue
		}
		if errs == nil {
			errs = make([]error, len(frames))
		}
		switch {
		case isReply(answer):
			errs[i] = refusal(answer.Error())
		case s.sock.wire.sent.Load() == before:
			errs[i] = unavailable(err, "nothing was sent")
		default:
			errs[i] = uncertain(err)
		}
		if broken(answer) {
			p.drop(s)
		}
	}
	return errs
}

// check asks the server for its role.
func (p *publisher) check(ctx context.Context) error {
	s, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer p.leave()
	if !s.role.known {
		return nil
	}
	var now role
	err = p.run(ctx, s, func() (err error) {
		now, err = askRole(ctx, s.client, s.role)
		return err
	})
	switch {
	case err == nil:
		return now.err()
	case broken(err):
		p.drop(s)
		return unavailable(err, "the server did not tell its role")
	default:
		return refusal(err.Error())
	}
}

// run lets f use the session, and closes the session's socket when ctx ends: go-redis would go on waiting.
func (p *publisher) run(ctx context.Context, s *session, f func() error) error {
	stop := context.AfterFunc(ctx, s.sock.abort)
	err := f()
	if !stop() { // the socket is closed, whatever f says
		p.drop(s)
		if err != nil {
			return context.Cause(ctx)
		}
	}
	return err
}

// broken tells whether a session can not be used any more after an error: all but the server's plain refusals, of which
// go-redis takes some for the end of a connection.
func broken(err error) bool {
	return !isReply(err) || goredis.IsReadOnlyError(err) || goredis.HasErrorPrefix(err, "MOVED")
}

// enter waits for the turn, and opens a session if there is none. The errors are definite: nothing was sent.
func (p *publisher) enter(ctx context.Context) (*session, error) {
	ended := func() error { return unavailable(context.Cause(ctx), "nothing was sent") }
	if ctx.Err() != nil { // or the turn could be taken all the same, and a good connection closed for nothing
		return nil, ended()
	}
	select {
	case <-p.turn:
	case <-ctx.Done():
		return nil, ended()
	}
	s, err := p.reopen(ctx)
	if err != nil {
		p.leave()
		return nil, err
	}
	return s, nil
}

func (p *publisher) leave() { p.turn <- struct{}{} }

// reopen returns the session, or opens a new one. The caller has the turn.
func (p *publisher) reopen(ctx context.Context) (*session, error) {
	p.mu.Lock()
	if p.session != nil || p.closed {
		defer p.mu.Unlock()
		if p.closed {
			return nil, errGivenUp
		}
		return p.session, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.giveUp = cancel
	p.mu.Unlock()

	s, err := p.bus.openMaster(ctx, p.addr, "pub")

	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveUp = nil
	switch {
	case p.closed:
		if err == nil {
			s.close()
		}
		return nil, errGivenUp
	case err != nil:
		return nil, err
	}
	p.session, p.pipe = s, s.client.Pipeline()
	return s, nil
}

// drop throws a session away. The caller has the turn.
func (p *publisher) drop(s *session) {
	s.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == s {
		p.session = nil
	}
}

// publish is a PUBLISH command that is used again and again. go-redis writes its arguments straight from where they are.
type publish struct {
	*goredis.IntCmd

	channel string
	data    []byte
}

// MarshalBinary is how go-redis gets at the data without a copy.
func (c *publish) MarshalBinary() ([]byte, error) { return c.data, nil }

// errUnanswered is the error of a command until the server has answered it.
var errUnanswered = errors.New("not answered")

// load makes the commands for frames.
func (p *publisher) load(frames []transport.Frame) {
	for len(p.cmds) < len(frames) {
		c := &publish{}
		// The context of a command is for hooks, and there are none.
		c.IntCmd = goredis.NewIntCmd(context.Background(), "publish", &c.channel, c)
		p.cmds = append(p.cmds, c)
	}
	for i, f := range frames {
		c := p.cmds[i]
		c.channel, c.data = f.Channel, f.Data
		c.SetErr(errUnanswered)
		p.batch = append(p.batch, c.IntCmd)
	}
}

// unload forgets the frames, which are the engine's.
func (p *publisher) unload() {
	const keep = 1024
	for i := range p.batch {
		p.cmds[i].channel, p.cmds[i].data = "", nil
	}
	clear(p.batch)
	p.batch = p.batch[:0]
	if len(p.cmds) > keep {
		p.cmds, p.batch = nil, nil
	}
}
