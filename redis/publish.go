package redis

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// publisher is the publishing side of a link: one session at a time, which one call at a time uses. When its connection
// fails the call in progress says so, and the next one opens another session to the same endpoint.
type publisher struct {
	bus  *bus
	addr string

	turn chan struct{} // holds a token for who may use what follows
	w    *bufio.Writer // to the session's socket
	r    *reader       // from it

	mu      sync.Mutex
	session *session           // nil after a failure; changed by who has the turn; guarded by mu
	giveUp  context.CancelFunc // ends the opening under way; guarded by mu
	closed  bool               // guarded by mu
}

const (
	writeBuffer = 64 << 10
	replyBuffer = 4 << 10 // answers are a few bytes each
)

func newPublisher(b *bus, s *session) *publisher {
	p := &publisher{
		bus: b, addr: s.addr, turn: make(chan struct{}, 1),
		w: bufio.NewWriterSize(s.sock, writeBuffer), r: newReader(s.sock, replyBuffer), session: s,
	}
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

// pipelined is how many frames are sent before the first answer is read: a batch of the engine.
const pipelined = 512

// publish sends frames and reads the server's word on each.
func (p *publisher) publish(ctx context.Context, frames []transport.Frame) []error {
	s, err := p.enter(ctx)
	if err != nil {
		return all(len(frames), err)
	}
	defer p.leave()
	before := s.sock.wire.sent.Load()
	outcomes := &outcomes{n: len(frames)}
	err = p.run(ctx, s, func() error {
		for outcomes.known < len(frames) {
			batch := frames[outcomes.known:]
			batch = batch[:min(len(batch), pipelined)]
			unsent := p.write(s, batch)
			if unsent != nil { // the server may have answered some, and said why it takes no more
				_ = s.sock.SetReadDeadline(time.Now().Add(lastWordTimeout))
			}
			unread := p.read(len(batch), outcomes)
			if failed := cmp.Or(unsent, unread); failed != nil {
				return failed
			}
		}
		return nil
	})
	if outcomes.last { // or the next publish, which is innocent, would meet the end of it
		p.drop(s)
	}
	if outcomes.known < len(frames) {
		sent := s.sock.wire.sent.Load() - before
		begin := int64(0) // of a frame among the bytes of all
		for i, f := range frames {
			switch {
			case i < outcomes.known:
			case begin >= sent: // TLS makes more bytes, not fewer
				outcomes.add(unavailable(err, "it was not sent"))
			default:
				outcomes.add(uncertain(err))
			}
			begin += encodedSize(f)
		}
	}
	return outcomes.errs
}

// outcomes are those of the frames of one call, in order.
type outcomes struct {
	n, known int     // of all frames, of those whose fate is known
	errs     []error // nil as long as all were taken
	last     bool    // the server closes the connection behind its answers
}

func (o *outcomes) add(err error) {
	if err != nil {
		if o.errs == nil {
			o.errs = make([]error, o.n)
		}
		o.errs[o.known] = err
	}
	o.known++
}

// write sends the frames as PUBLISH commands.
func (p *publisher) write(s *session, frames []transport.Frame) error {
	if err := s.sock.SetDeadline(time.Now().Add(p.bus.timeout)); err != nil {
		return err
	}
	for _, f := range frames { // errors stay with the writer
		b := append(p.w.AvailableBuffer(), publishHead...)
		b = appendBulk(b, f.Channel)
		_, _ = p.w.Write(appendLength(b, len(f.Data)))
		_, _ = p.w.Write(f.Data)
		_, _ = p.w.WriteString(lineEnd)
	}
	return p.w.Flush()
}

// read reads the answers to n commands.
func (p *publisher) read(n int, outcomes *outcomes) error {
	for range n {
		err := p.r.count() // the number of receivers proves nothing
		if err != nil {
			reply, ok := errors.AsType[refused](err)
			if !ok {
				return err
			}
			err = refusal(string(reply))
			outcomes.last = outcomes.last || strings.HasPrefix(string(reply), "ERR Protocol error")
		}
		outcomes.add(err)
	}
	return nil
}

const publishHead = "*3\r\n$7\r\nPUBLISH\r\n"

// encodedSize is how many bytes write makes of a frame.
func encodedSize(f transport.Frame) int64 {
	var digits [2 * len("$18446744073709551615\r\n")]byte
	lengths := appendLength(appendLength(digits[:0], len(f.Channel)), len(f.Data))
	return int64(len(publishHead) + len(lengths) + len(f.Channel) + len(f.Data) + 2*len(lineEnd))
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
		now, err = s.askRole(ctx)
		return err
	})
	switch {
	case err == nil:
		return now.err()
	case isReply(err):
		return refusal(err.Error())
	default:
		return unavailable(err, "the server did not tell its role")
	}
}

// run lets f use the session, and closes its socket when ctx ends. After any error but a reply the session is thrown
// away: answers that come later would be taken for those of the next call.
func (p *publisher) run(ctx context.Context, s *session, f func() error) error {
	stop := context.AfterFunc(ctx, s.sock.abort)
	err := f()
	switch ended := !stop(); {
	case ended && err != nil:
		p.drop(s)
		return ctx.Err()
	case ended, err != nil && !isReply(err):
		p.drop(s)
	}
	return err
}

// enter waits for the turn, and opens a session if there is none. The errors are definite: nothing was sent.
func (p *publisher) enter(ctx context.Context) (*session, error) {
	ended := func() error { return unavailable(ctx.Err(), "nothing was sent") }
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

	s, err := p.bus.openMaster(ctx, p.addr, publishing)

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
	p.session = s
	p.w.Reset(s.sock)
	p.r.reset(s.sock)
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
