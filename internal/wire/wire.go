// Package wire is the frame format, docs/wire.md byte by byte: the only place with a format version.
//
// A frame is what a transport carries: a version, the publishing node, and one or more messages. Decoding never panics,
// allocates nothing, and returns slices of the frame.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the frame version this package writes, and the only one it reads.
const Version = 1

// HeaderLen is the length of a frame's header: the version and the publisher.
const HeaderLen = 1 + 8

// Publisher is a node's id on the wire.
type Publisher [8]byte

// Type tells what a message is for.
type Type uint8

// The message types. Unknown ones are skipped by a reader: they concern abilities it does not have.
const (
	Data      Type = 1 // a published message; it has a number
	TailMark  Type = 2 // the publisher's last number on the address; the epoch is closed
	Heartbeat Type = 3 // hello, heartbeat and goodbye
	Probe     Type = 4 // a message to oneself, the whole way round
	Ask       Type = 5 // a question
	Answer    Type = 6 // its answer

	Barrier       Type = 7 // asks members to answer behind their subscriptions, on a clustered broker
	BarrierAnswer Type = 8 // the answer
)

// Bits of a message's first byte.
const (
	typeMask   = 0x0f
	flagSame   = 0x10 // same address and epoch as the message before, and the next number
	flagFields = 0x20 // fields follow the address
	flagsKnown = typeMask | flagSame | flagFields
)

// MustUnderstand is the bit of a field's tag that makes a message unreadable to who does not know the tag.
const MustUnderstand = 1

// The reasons why a frame or message cannot be read.
var (
	ErrVersion = errors.New("unknown frame version")
	ErrBroken  = errors.New("broken frame")
	ErrField   = errors.New("a field that must be understood is unknown")
)

// Message is one message of a frame. Slices are parts of the frame.
type Message struct {
	Type   Type
	Kind   byte
	Scope  []byte
	Name   []byte
	Epoch  uint64
	Number uint64
	// Fields holds the type-length-value fields, nil if there are none; walk them with Fields.
	Fields  []byte
	Payload []byte
	// Same is set by the Reader where the message has the address of the one before.
	Same bool
}

// AppendHeader begins a frame.
func AppendHeader(b []byte, publisher Publisher) []byte {
	b = append(b, Version)
	return append(b, publisher[:]...)
}

// AppendMessage appends a message with its full address.
func AppendMessage(b []byte, t Type, kind byte, scope, name string, epoch, number uint64, fields, payload []byte) []byte {
	head := byte(t)
	if len(fields) > 0 {
		head |= flagFields
	}
	b = append(b, head, kind)
	b = appendString(b, scope)
	b = appendString(b, name)
	b = binary.AppendUvarint(b, epoch)
	b = binary.AppendUvarint(b, number)
	return appendRest(b, fields, payload)
}

// AppendNext appends a message with the address and epoch of the one before in the frame, and the number after it.
func AppendNext(b []byte, t Type, fields, payload []byte) []byte {
	head := byte(t) | flagSame
	if len(fields) > 0 {
		head |= flagFields
	}
	return appendRest(append(b, head), fields, payload)
}

// AppendField appends one field to a list of fields.
func AppendField(fields []byte, tag uint64, value []byte) []byte {
	fields = binary.AppendUvarint(fields, tag)
	fields = binary.AppendUvarint(fields, uint64(len(value)))
	return append(fields, value...)
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendRest(b, fields, payload []byte) []byte {
	if len(fields) > 0 {
		b = binary.AppendUvarint(b, uint64(len(fields)))
		b = append(b, fields...)
	}
	b = binary.AppendUvarint(b, uint64(len(payload)))
	return append(b, payload...)
}

// Overhead is the most that AppendHeader and AppendMessage add to a payload without fields.
func Overhead(scope, name string) int {
	return HeaderLen + 2 + 4*binary.MaxVarintLen64 + len(scope) + len(name) + binary.MaxVarintLen64
}

// Reader walks the messages of a frame.
type Reader struct {
	Publisher Publisher

	rest []byte
	any  bool // a message with a full address was read
	err  error
}

// NewReader reads the header. Its error wraps ErrVersion or ErrBroken.
func NewReader(frame []byte) (Reader, error) {
	if len(frame) == 0 {
		return Reader{}, fmt.Errorf("%w: empty", ErrBroken)
	}
	if frame[0] != Version {
		return Reader{}, fmt.Errorf("%w %d", ErrVersion, frame[0])
	}
	if len(frame) < HeaderLen {
		return Reader{}, fmt.Errorf("%w: %d bytes are less than a header", ErrBroken, len(frame))
	}
	r := Reader{rest: frame[HeaderLen:]}
	copy(r.Publisher[:], frame[1:HeaderLen])
	return r, nil
}

// Next reads the next message into m, which must be the same variable for every call on one frame: a message with the
// address of the one before leaves the address fields as they are. It returns false at the end and at the first byte
// that cannot be read; Err tells which.
func (r *Reader) Next(m *Message) bool {
	if len(r.rest) == 0 || r.err != nil {
		return false
	}
	b := r.rest
	head := b[0]
	b = b[1:]
	if head&^flagsKnown != 0 {
		return r.broken("unknown flags")
	}
	m.Type = Type(head & typeMask)
	m.Same = head&flagSame != 0
	var ok bool
	if m.Same {
		if !r.any {
			return r.broken("the first message has no address")
		}
		m.Number++
		if m.Number == 0 {
			return r.broken("a number overflows")
		}
	} else {
		if len(b) == 0 {
			return r.broken("a message ends early")
		}
		m.Kind = b[0]
		b = b[1:]
		if m.Scope, b, ok = cut(b); !ok {
			return r.broken("a scope ends early")
		}
		if m.Name, b, ok = cut(b); !ok {
			return r.broken("a name ends early")
		}
		if m.Epoch, b, ok = uvarint(b); !ok {
			return r.broken("an epoch ends early")
		}
		if m.Number, b, ok = uvarint(b); !ok {
			return r.broken("a number ends early")
		}
		r.any = true
	}
	m.Fields = nil
	if head&flagFields != 0 {
		if m.Fields, b, ok = cut(b); !ok || len(m.Fields) == 0 {
			return r.broken("fields end early")
		}
	}
	if m.Payload, b, ok = cut(b); !ok {
		return r.broken("a payload ends early")
	}
	r.rest = b
	return true
}

// Len returns how many bytes of the frame have not been read.
func (r *Reader) Len() int { return len(r.rest) }

// Err returns nil after the end of a whole frame, else an error that wraps ErrBroken.
func (r *Reader) Err() error { return r.err }

func (r *Reader) broken(why string) bool {
	r.err = fmt.Errorf("%w: %s", ErrBroken, why)
	return false
}

// CheckFields walks fields and calls known for each. It returns an error that wraps ErrBroken where the fields cannot be
// read, or ErrField where known returned false for a tag that must be understood.
func CheckFields(fields []byte, known func(tag uint64, value []byte) bool) error {
	for len(fields) > 0 {
		tag, b, ok := uvarint(fields)
		if !ok {
			return fmt.Errorf("%w: a field's tag ends early", ErrBroken)
		}
		value, b, ok := cut(b)
		if !ok {
			return fmt.Errorf("%w: a field ends early", ErrBroken)
		}
		if !known(tag, value) && tag&MustUnderstand != 0 {
			return fmt.Errorf("%w: tag %d", ErrField, tag)
		}
		fields = b
	}
	return nil
}

// cut reads a length and that many bytes.
func cut(b []byte) (value, rest []byte, ok bool) {
	n, b, ok := uvarint(b)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

func uvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
