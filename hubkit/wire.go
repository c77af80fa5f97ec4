package hubkit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// What hubs say to one another is the payload of a backplane message:
//
//	version  1 byte    wireVersion
//	flags    1 byte    which of the following are there, in this order
//	send     8 bytes   the sending hub, then a uvarint: the number of the send   (flagSend)
//	key      uvarint length, at most maxKey bytes                               (flagKey)
//	except   uvarint count, then for each: uvarint length, bytes                (flagExcept)
//	for      the same: the connections of this home                            (flagConnections)
//	payload  the rest
//
// A reader refuses versions and flags that it does not know: an exception that is not understood must not become a
// delivery. What is refused is a gap.
const wireVersion = 1

const (
	flagSend        = 0x01
	flagKey         = 0x02
	flagExcept      = 0x04
	flagConnections = 0x08
	flagsKnown      = flagSend | flagKey | flagExcept | flagConnections
)

// The reasons why a hub's message cannot be read.
var (
	errVersion = errors.New("a version or flag of hub messages that this hub does not know")
	errBroken  = errors.New("broken hub message")
)

// origin names a Hub value, at random, so that the numbers of its sends are its own.
type origin [8]byte

// sendID names a send that travels as several messages which may reach one connection.
type sendID struct {
	origin origin
	number uint64 // from 1; 0 where there is only one message
}

// parcel is a hub message, as written and as read. When read, its slices are parts of the message.
type parcel struct {
	send        sendID
	key         string
	except      idList
	connections idList
	payload     []byte
}

// idList is a list of connection ids as it stands on the wire, without its count.
type idList []byte

// newIDList encodes ids.
func newIDList(ids []string) idList {
	var l idList
	for _, id := range ids {
		l = appendID(l, id)
	}
	return l
}

// appendID appends an id to a list.
func appendID[T string | []byte](l idList, id T) idList {
	l = binary.AppendUvarint(l, uint64(len(id)))
	return append(l, id...)
}

// all walks the ids without allocating. The list has been checked.
func (l idList) all() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(l) > 0 {
			id, rest, ok := cutBytes(l)
			if !ok || !yield(id) {
				return
			}
			l = rest
		}
	}
}

func (l idList) count() (n uint64) {
	for range l.all() {
		n++
	}
	return n
}

// encode writes the parcel.
func (p *parcel) encode() []byte {
	const most = 2 + len(origin{}) + 4*binary.MaxVarintLen64
	b := make([]byte, 0, most+len(p.key)+len(p.except)+len(p.connections)+len(p.payload))
	b = append(b, wireVersion, 0)
	if p.send.number != 0 {
		b[1] |= flagSend
		b = append(b, p.send.origin[:]...)
		b = binary.AppendUvarint(b, p.send.number)
	}
	if p.key != "" {
		b[1] |= flagKey
		b = binary.AppendUvarint(b, uint64(len(p.key)))
		b = append(b, p.key...)
	}
	if len(p.except) > 0 {
		b[1] |= flagExcept
		b = binary.AppendUvarint(b, p.except.count())
		b = append(b, p.except...)
	}
	if len(p.connections) > 0 {
		b[1] |= flagConnections
		b = binary.AppendUvarint(b, p.connections.count())
		b = append(b, p.connections...)
	}
	return append(b, p.payload...)
}

// decode reads a parcel. Whatever the bytes, it allocates nothing but the key.
func decode(b []byte) (parcel, error) {
	var p parcel
	if len(b) < 2 {
		return p, fmt.Errorf("%w: %d bytes", errBroken, len(b))
	}
	if b[0] != wireVersion {
		return p, fmt.Errorf("%w: version %d", errVersion, b[0])
	}
	flags := b[1]
	if flags&^flagsKnown != 0 {
		return p, fmt.Errorf("%w: flags %#x", errVersion, flags)
	}
	b = b[2:]
	var ok bool
	if flags&flagSend != 0 {
		if len(b) < len(p.send.origin) {
			return p, fmt.Errorf("%w: a send's origin ends early", errBroken)
		}
		b = b[copy(p.send.origin[:], b):]
		if p.send.number, b, ok = cutUvarint(b); !ok || p.send.number == 0 {
			return p, fmt.Errorf("%w: a send's number", errBroken)
		}
	}
	if flags&flagKey != 0 {
		var key []byte
		if key, b, ok = cutBytes(b); !ok || len(key) == 0 || len(key) > maxKey {
			return p, fmt.Errorf("%w: a key", errBroken)
		}
		p.key = string(key)
	}
	if flags&flagExcept != 0 {
		if p.except, b, ok = cutList(b); !ok {
			return p, fmt.Errorf("%w: an except-list", errBroken)
		}
	}
	if flags&flagConnections != 0 {
		if p.connections, b, ok = cutList(b); !ok {
			return p, fmt.Errorf("%w: a list of connections", errBroken)
		}
	}
	p.payload = b
	return p, nil
}

// cutList reads a count and that many ids, none of them empty.
func cutList(b []byte) (list idList, rest []byte, ok bool) {
	n, b, ok := cutUvarint(b)
	if !ok || n == 0 || n > uint64(len(b)) {
		return nil, nil, false
	}
	rest = b
	for range n {
		var id []byte
		if id, rest, ok = cutBytes(rest); !ok || len(id) == 0 {
			return nil, nil, false
		}
	}
	used := len(b) - len(rest)
	return idList(b[:used:used]), rest, true
}

// cutBytes reads a length and that many bytes.
func cutBytes(b []byte) (value, rest []byte, ok bool) {
	n, b, ok := cutUvarint(b)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

func cutUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
