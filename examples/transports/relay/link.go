package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gobackplane/backplane/transport"
)

var (
	errGivenUp  = errors.New("the connection was given up")
	errProtocol = errors.New("the relay sent what does not belong here")
)

// link is one connection, from a Connect to its end. The socket belongs to two goroutines:
//
//   - send writes requests, one after the other;
//   - receive reads; it alone calls the sink, and Down is the last thing it does.
//
// Both end when the socket is closed.
type link struct {
	r       *relay
	sock    net.Conn
	in      *bufio.Reader
	running sync.WaitGroup

	queue    chan *request // unbuffered: what send takes is written, what it does not take was never sent
	expected chan *request // written, and not yet answered; the relay answers in order

	once  sync.Once
	dead  chan struct{} // closed by once; the fields below are set before
	cause error         // has no class: for some it is unavailable, for others uncertain
	told  bool          // the end was asked for: no Down
}

// request is some packets that are sent together.
type request struct {
	bytes   []byte        // a copy: when the call has ended, what it was given is not ours any more
	packets int           // how many
	errs    []error       // filled by receive; to be read once done is closed
	done    chan struct{} // closed when all are answered
}

// maxExpected bounds the requests that wait for their answers.
const maxExpected = 16

// connect dials, and waits for the relay's greeting: that a kernel has accepted the connection does not mean that the
// relay has.
func connect(ctx context.Context, r *relay) (*link, error) {
	sock, err := r.options.Dial(ctx, "tcp", r.options.Address)
	if err != nil {
		return nil, err
	}
	l := &link{
		r: r, sock: sock, in: bufio.NewReader(sock),
		queue: make(chan *request), expected: make(chan *request, maxExpected), dead: make(chan struct{}),
	}
	stop := context.AfterFunc(ctx, func() { _ = sock.Close() })
	greeting, err := readPacket(l.in)
	switch {
	case !stop():
		err = ctx.Err()
	case err == nil && greeting.kind != welcome:
		err = errProtocol
	}
	if err != nil {
		_ = sock.Close()
		return nil, err
	}
	return l, nil
}

func (l *link) start() {
	l.running.Go(l.send)
	l.running.Go(l.receive)
}

// end closes the socket, which ends the goroutines, and lets the calls under way return. Only the first call counts.
func (l *link) end(cause error, told bool) {
	l.once.Do(func() {
		l.cause, l.told = cause, told
		close(l.dead)
		_ = l.sock.Close()
	})
}

// ask sends packets and waits for the answer to each.
func (l *link) ask(ctx context.Context, packets []packet, unanswered error) []error {
	q := &request{packets: len(packets), errs: make([]error, len(packets)), done: make(chan struct{})}
	for _, p := range packets {
		if len(p.name) > maxChannel || len(p.data) > maxFrame {
			return all(packets, fmt.Errorf("%w: relay: beyond the limits", transport.ErrTooLarge))
		}
		q.bytes = appendPacket(q.bytes, p)
	}
	failed := func(class error, what string, cause error) []error {
		return all(packets, fmt.Errorf("%w: relay: %s: %w", class, what, cause))
	}
	select {
	case l.queue <- q:
	case <-l.dead:
		return failed(transport.ErrUnavailable, "not sent", l.cause)
	case <-ctx.Done():
		return failed(transport.ErrUnavailable, "not sent", ctx.Err())
	}
	select {
	case <-q.done:
		return q.errs
	case <-l.dead:
		return failed(unanswered, "not answered", l.cause)
	case <-ctx.Done():
		return failed(unanswered, "not answered", ctx.Err())
	}
}

// send is the goroutine that writes.
func (l *link) send() {
	for {
		select {
		case q := <-l.queue:
			select {
			case l.expected <- q: // before it is written: the answer may be fast
			case <-l.dead:
				return
			}
			_ = l.sock.SetWriteDeadline(time.Now().Add(l.r.timeout)) // fails if it is closed, which the write sees
			if _, err := l.sock.Write(q.bytes); err != nil {
				l.end(err, false)
				return
			}
		case <-l.dead:
			return
		}
	}
}

// receive is the goroutine that reads.
func (l *link) receive() {
	l.end(l.read(), false)
	if !l.told {
		l.r.sink.Down(transport.OnlyLink, fmt.Errorf("%w: relay: %w", transport.ErrUnavailable, l.cause))
	}
}

// read hands over messages, and matches answers with the requests that they belong to.
func (l *link) read() error {
	var q *request // the oldest one that is not answered
	answered := 0  // of its packets
	for {
		p, err := readPacket(l.in)
		if err != nil {
			return err
		}
		if p.kind == message {
			l.r.sink.Frame(transport.OnlyLink, p.name, p.data)
			continue
		}
		if q == nil {
			select {
			case q = <-l.expected:
			default:
				return errProtocol
			}
		}
		switch p.kind {
		case yes:
		case no:
			q.errs[answered] = fmt.Errorf("%w: relay: refused: %q", transport.ErrDenied, p.data)
		default:
			return errProtocol
		}
		if answered++; answered == q.packets {
			close(q.done)
			q, answered = nil, 0
		}
	}
}
