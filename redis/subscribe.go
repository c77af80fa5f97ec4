package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The commands of the subscribing connection. The server confirms each channel with a message of the same name in lower
// case, in the order of the command.
const (
	subscribe   = "SUBSCRIBE"
	unsubscribe = "UNSUBSCRIBE"
)

const (
	batchChannels = 512      // channels in one command
	batchBytes    = 64 << 10 // of their names
	window        = 8        // commands that one call keeps under way
)

// command is one SUBSCRIBE or UNSUBSCRIBE. The server confirms its channels one by one in order, or refuses it whole.
type command struct {
	verb     string
	span     span     // which of the call's channels
	channels []string // a copy: the call may be over before the answer comes
	done     chan<- *command

	// Owned by receive until the command is done: sent on done.
	confirmed int
	refused   string // the server's error reply, if it refused
}

// span is a range of the channels of one call.
type span struct{ from, to int }

// change sends commands for the channels and returns when all of them are confirmed or refused.
func (l *link) change(ctx context.Context, verb string, channels []string) []error {
	c := &changing{verb: verb, channels: channels, done: make(chan *command, window)}
	for {
		queue := chan<- *command(nil) // keep the window full, and settle what comes back meanwhile
		if len(c.flying) < window && c.cut() {
			queue = l.queue
		}
		if c.next == nil && len(c.flying) == 0 {
			return c.errs
		}
		select {
		case queue <- c.next:
			c.flying = append(c.flying, c.next.span)
			c.next = nil
		case done := <-c.done:
			c.settle(done)
		case <-ctx.Done():
			return c.abandon(unavailable(ctx.Err(), "the server did not confirm in time"))
		case <-l.dead:
			return c.abandon(l.cause)
		}
	}
}

// changing is a call of change under way.
type changing struct {
	verb     string
	channels []string
	done     chan *command
	errs     []error  // nil as long as nothing failed
	begun    int      // channels before it were cut into commands
	again    []span   // cut already, and to be sent in parts
	next     *command // to be sent next; nil if not cut yet
	flying   []span   // sent, and neither confirmed nor refused
}

// cut makes the next command, if there is none. It returns false if all are sent.
func (c *changing) cut() bool {
	if c.next != nil {
		return true
	}
	var s span
	switch n := len(c.again); {
	case n > 0:
		s, c.again = c.again[n-1], c.again[:n-1]
	case c.begun < len(c.channels):
		s = span{c.begun, c.begun + 1}
		size := len(c.channels[s.from])
		for s.to < len(c.channels) && s.to-s.from < batchChannels && size+len(c.channels[s.to]) <= batchBytes {
			size += len(c.channels[s.to])
			s.to++
		}
		c.begun = s.to
	default:
		return false
	}
	c.next = &command{verb: c.verb, span: s, channels: slices.Clone(c.channels[s.from:s.to]), done: c.done}
	return true
}

// settle takes note of an answered command. The server refuses a command whole, and does not say which channel the user
// has no permission for: halves of it are sent again, until the culprit stands alone.
func (c *changing) settle(done *command) {
	s := done.span
	c.flying = slices.DeleteFunc(c.flying, func(f span) bool { return f == s })
	switch {
	case done.refused == "":
	case strings.HasPrefix(done.refused, "NOPERM") && !strings.Contains(done.refused, "to run the") && s.to-s.from > 1:
		middle := s.from + (s.to-s.from)/2
		c.again = append(c.again, span{middle, s.to}, span{s.from, middle})
	default:
		c.fail(s, refusal(done.refused))
	}
}

func (c *changing) fail(s span, err error) {
	if c.errs == nil {
		c.errs = make([]error, len(c.channels))
	}
	for i := s.from; i < s.to; i++ {
		c.errs[i] = err
	}
}

// abandon gives up what is not settled.
func (c *changing) abandon(err error) []error {
	for _, s := range slices.Concat(c.flying, c.again, []span{{c.begun, len(c.channels)}}) {
		c.fail(s, err)
	}
	if c.next != nil {
		c.fail(c.next.span, err)
	}
	return c.errs
}

// send is the goroutine that writes. It takes along what calls have ready, as one write.
func (l *link) send() {
	defer close(l.sent)
	var buf []byte
	for {
		buf = buf[:0]
		select {
		case c := <-l.queue:
			select {
			case l.expected <- c: // before it is written: the answer may be fast
			case <-l.dead:
				return
			}
			buf = appendCommand(buf, c)
		case <-l.dead:
			return
		}
		for more := true; more && len(buf) < batchBytes && len(l.expected) < maxExpected; { // only this goroutine adds to expected
			select {
			case c := <-l.queue:
				l.expected <- c
				buf = appendCommand(buf, c)
			default:
				more = false
			}
		}
		err := l.sub.sock.SetWriteDeadline(time.Now().Add(l.bus.timeout))
		if err == nil {
			_, err = l.sub.sock.Write(buf)
		}
		if err != nil {
			l.end(unavailable(err, "cannot write to the subscribing connection"), false)
			return
		}
	}
}

func appendCommand(buf []byte, c *command) []byte {
	buf = append(buf, '*')
	buf = strconv.AppendInt(buf, int64(len(c.channels)+1), 10)
	buf = appendBulk(append(buf, "\r\n"...), c.verb)
	for _, channel := range c.channels {
		buf = appendBulk(buf, channel)
	}
	return buf
}
