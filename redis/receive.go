package redis

import (
	"errors"
	"hash/maphash"

	"github.com/gobackplane/backplane/transport"
)

var (
	errProtocol = errors.New("the server sent what pub/sub does not expect here")
	errEnded    = errors.New("the server ended the subscription")
)

const receiveBuffer = 64 << 10

// read reads the subscribing connection until it fails, and hands over what comes.
func (l *link) read() error {
	r := newReader(l.sub.sock, receiveBuffer)
	busy := names{seed: maphash.MakeSeed()}
	var head *command // the oldest command that is not answered, if its answer has begun
	for {
		n, err := r.array()
		if err != nil {
			reply, ok := errors.AsType[refused](err)
			if !ok {
				return err
			}
			if err = l.refuse(head, string(reply)); err != nil {
				return err
			}
			head = nil
			continue
		}
		kind, err := r.bulk()
		switch {
		case err != nil:
			return err
		case n != 3: //nolint:mnd // all three kinds: their name, a channel, data or a count
			return errProtocol
		case string(kind) == "message":
			err = l.hear(r, &busy)
		case string(kind) == "subscribe":
			head, err = l.confirm(r, head, subscribe)
		case string(kind) == "unsubscribe":
			head, err = l.confirm(r, head, unsubscribe)
		default:
			return errProtocol
		}
		if err != nil {
			return err
		}
	}
}

// hear hands over a frame.
func (l *link) hear(r *reader, busy *names) error {
	name, err := r.bulk()
	if err != nil {
		return err
	}
	channel := busy.get(name)
	data, err := r.payload()
	if err != nil {
		return err
	}
	l.bus.sink.Frame(transport.OnlyLink, channel, data)
	return nil
}

// confirm matches a confirmation with the command that it belongs to, and returns the one that is not answered yet. What
// was not asked for is the server's own doing: it has ended a subscription.
func (l *link) confirm(r *reader, head *command, verb string) (*command, error) {
	channel, err := r.bulk()
	if err != nil {
		return head, err
	}
	head = l.oldest(head)
	switch {
	case head != nil && head.verb == verb && head.channels[head.confirmed] == string(channel):
		head.confirmed++
		if head.confirmed == len(head.channels) {
			head.done <- head
			head = nil
		}
	case verb == unsubscribe:
		l.bus.sink.Gap(transport.OnlyLink, []string{string(channel)}, true, errEnded)
	default:
		return head, errProtocol
	}
	return head, r.count() // of how many channels there are now
}

// refuse matches an error reply.
func (l *link) refuse(head *command, reply string) error {
	head = l.oldest(head)
	switch {
	case head == nil:
		return refusal(reply) // nothing was asked: it is why the server closes the connection
	case head.confirmed > 0:
		return errProtocol
	}
	head.refused = reply
	head.done <- head
	return nil
}

// oldest is the command that the server answers next; nil if none is expected.
func (l *link) oldest(head *command) *command {
	if head != nil {
		return head
	}
	select {
	case head = <-l.expected:
		return head
	default:
		return nil
	}
}

// names keeps the names of channels that are busy, so that a frame costs no allocation for its name. It is bounded
// and forgets by overwriting.
type names struct {
	seed  maphash.Seed
	slots [512]string
}

func (n *names) get(name []byte) string {
	slot := &n.slots[maphash.Bytes(n.seed, name)%uint64(len(n.slots))]
	if *slot != string(name) { // does not allocate
		*slot = string(name)
	}
	return *slot
}
