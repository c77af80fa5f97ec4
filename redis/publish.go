package redis

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// publisher is the publishing side of a link. When its connection fails the call in progress says so, and the next one
// opens another session to the same endpoint.
type publisher struct {
	*line

	// Used by who has the turn.
	w  *bufio.Writer // to the session's socket
	r  *reader       // from it
	of *session      // whose socket that is
}

const (
	writeBuffer = 64 << 10
	replyBuffer = 4 << 10 // answers are a few bytes each
)

func newPublisher(b *bus, s *session) *publisher {
	return &publisher{
		line: newLine(b, s.addr, publishing, s),
		w:    bufio.NewWriterSize(s.sock, writeBuffer), r: newReader(s.sock, replyBuffer), of: s,
	}
}

// use makes w and r those of a session.
func (p *publisher) use(s *session) {
	if p.of == s {
		return
	}
	p.of = s
	p.w.Reset(s.sock)
	p.r.reset(s.sock)
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
	p.use(s)
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
