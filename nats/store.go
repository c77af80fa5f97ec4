package nats

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/internal/watch"
	"github.com/gobackplane/backplane/transport"
)

// A value in the store is the only message of its subject, in the stream of a key-value bucket (bucket.go): "$KV.", the
// bucket, ".", the namespace, "." and the key, whose bytes are all legal there. The message's data is
//
//	version   1 byte   1
//	revision  8 bytes  random for each write
//	written   8 bytes  the server's Unix time in nanoseconds; 0 where that is the message's own
//	ttl       8 bytes  nanoseconds from the message's own time on; 0 for ever
//	value     the rest
//
// with numbers in big-endian order. JetStream counts messages, keeps the server's time of each, and takes a message only
// where the subject's last one is the one that the writer names. The rest is made of that:
//
//   - A revision is not the message's number: Expire has to write a message anew, and its revision stays; and a stream that
//     was lost and made again counts from one. So a write first reads which message has the revision that it replaces.
//   - A value has ended when its time to live is over after the message's own time, whether or not the server has removed
//     the message. It removes it a second or two later: it counts in whole seconds, rounded down.
//   - A deleted value is a marker, as in any bucket, which the server removes after a while.
//
// So nothing depends on the clock of an instance.
const (
	storeVersion = 1
	headSize     = 1 + 8 + 8 + 8

	markerTTL = time.Minute
)

const (
	headerExpect = "Nats-Expected-Last-Subject-Sequence"
	headerTTL    = "Nats-TTL"
	headerKV     = "KV-Operation"       // of markers by clients
	headerMarker = "Nats-Marker-Reason" // of markers by the server
)

var _ transport.Store = (*bus)(nil)

// record is what the stream has for a key.
type record struct {
	sequence uint64 // of the message; 0 if there is none
	nothing  bool   // no message, a marker, or over
	foreign  bool   // there is one, of another version or of another program; what follows is not set then

	revision transport.Revision
	written  time.Time // on the server's clock, as all times here
	value    []byte
}

// envelope makes the data of a message. A zero written is the message's own time.
func envelope(r transport.Revision, written time.Time, ttl time.Duration, value []byte) []byte {
	data := make([]byte, headSize, headSize+len(value))
	data[0] = storeVersion
	binary.BigEndian.PutUint64(data[1:], uint64(r))
	if !written.IsZero() {
		binary.BigEndian.PutUint64(data[9:], uint64(written.UnixNano()))
	}
	binary.BigEndian.PutUint64(data[17:], uint64(ttl)) //nolint:gosec // bits
	return append(data, value...)
}

// read fills in a record from a message's time and data.
func (r *record) read(at time.Time, data []byte, now time.Time) {
	if len(data) < headSize || data[0] != storeVersion {
		r.foreign = true
		return
	}
	r.revision = transport.Revision(binary.BigEndian.Uint64(data[1:]))
	r.written = at
	if written := int64(binary.BigEndian.Uint64(data[9:])); written != 0 { //nolint:gosec // bits
		r.written = time.Unix(0, written)
	}
	ttl := time.Duration(binary.BigEndian.Uint64(data[17:])) //nolint:gosec // bits
	r.nothing = ttl > 0 && !now.Before(at.Add(ttl))
	r.value = data[headSize:]
}

// Get reads the message, from the server that leads the stream: others may lag behind.
func (b *bus) Get(ctx context.Context, key string) (transport.Entry, error) {
	var e transport.Entry
	err := b.inBucket(ctx, func(ctx context.Context, k bucket) error {
		r, err := k.look(ctx, key)
		switch {
		case err != nil:
			return err
		case r.foreign:
			return errForeign
		case r.nothing:
			return errMissing
		}
		age := max(k.now().Sub(r.written), 0) // the server's clock may have been set back
		e = transport.Entry{Value: r.value, Revision: r.revision, Age: age}
		return nil
	})
	return e, err
}

// Create writes where nothing is. It supposes that there is not even a message.
func (b *bus) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (transport.Revision, error) {
	revision := newRevision()
	return revision, b.replace(ctx, key, &record{nothing: true}, func(r record) (write, error) {
		if !r.nothing {
			return write{}, errConflict
		}
		return write{data: envelope(revision, time.Time{}, ttl, value), ttl: ttl}, nil
	})
}

// Update writes where the revision seen is.
func (b *bus) Update(ctx context.Context, key string, value []byte, ttl time.Duration, seen transport.Revision) (transport.Revision, error) {
	revision := newRevision()
	return revision, b.replace(ctx, key, nil, func(r record) (write, error) {
		switch {
		case r.foreign:
			return write{}, errForeign
		case r.nothing || r.revision != seen:
			return write{}, errConflict
		}
		return write{data: envelope(revision, time.Time{}, ttl, value), ttl: ttl}, nil
	})
}

// Delete writes a marker where the revision seen is.
func (b *bus) Delete(ctx context.Context, key string, seen transport.Revision) error {
	return b.replace(ctx, key, nil, func(r record) (write, error) {
		switch {
		case r.foreign:
			return write{}, errForeign
		case r.nothing:
			return write{}, errMissing
		case r.revision != seen:
			return write{}, errConflict
		}
		return write{ttl: markerTTL, marker: true}, nil
	})
}

// Expire writes the value anew, with the revision and the time that it has.
func (b *bus) Expire(ctx context.Context, key string, ttl time.Duration) error {
	return b.replace(ctx, key, nil, func(r record) (write, error) {
		switch {
		case r.foreign:
			return write{}, errForeign
		case r.nothing:
			return write{}, errMissing
		}
		return write{data: envelope(r.revision, r.written, ttl, r.value), ttl: ttl}, nil
	})
}

func newRevision() transport.Revision {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: see crypto/rand
	return transport.Revision(binary.BigEndian.Uint64(random[:]))
}

// write is a message that is to replace another one.
type write struct {
	data   []byte
	ttl    time.Duration
	marker bool
}

// replace decides on what is there, and writes if that is still there. Else it decides again. The first time it decides on what
// it is to suppose, if anything.
func (b *bus) replace(ctx context.Context, key string, suppose *record, decide func(record) (write, error)) error {
	return b.inBucket(ctx, func(ctx context.Context, k bucket) error {
		for {
			r := suppose
			if suppose = nil; r == nil {
				var err error
				if r, err = k.look(ctx, key); err != nil {
					return err
				}
			}
			w, err := decide(*r)
			if err != nil {
				return err
			}
			if err = k.put(ctx, key, r.sequence, w); !errors.Is(err, errOvertaken) {
				return err
			}
		}
	})
}

// Watch asks every second. What JetStream tells of changes only makes it ask earlier: the consumer that tells may be lost
// with the server that has it.
func (b *bus) Watch(ctx context.Context, key string, f func(*transport.Entry)) error {
	changed := make(chan struct{}, 1)
	var at *link // where changes are told of
	stop := func() {}
	defer func() { stop() }()
	return watch.Poll(ctx, changed, func() (transport.Entry, error) {
		if l, err := b.life.Current(); err == nil && l != at {
			stop()
			at, stop = l, b.tell(ctx, key, changed)
		}
		return b.Get(ctx, key)
	}, f)
}

// tell has the channel filled whenever the stream has a new message for the key, until stop. Where that cannot be had, for want
// of a permission for example, it is not.
func (b *bus) tell(ctx context.Context, key string, changed chan<- struct{}) (stop func()) {
	stop = func() {}
	_ = b.inBucket(ctx, func(ctx context.Context, k bucket) error {
		sub, err := k.consume(ctx, key, func(*natsgo.Msg) {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		if err == nil {
			stop = func() { _ = sub.Unsubscribe() } // the server removes the consumer, for which nobody is left
		}
		return err
	})
	return stop
}

var (
	errMissing  = &failure{class: transport.ErrKeyNotFound, text: "the store has nothing there"}
	errConflict = &failure{class: transport.ErrConflict, text: "the key has another revision, or none"}
	errForeign  = &failure{class: transport.ErrUnsupported, text: "the key has a value that this version did not write"}

	// errOvertaken never leaves the package: the message that a write was to replace is not the last one.
	errOvertaken = &failure{class: transport.ErrUnavailable, text: "the key changes all the time"}
)

// marked reports whether a message with these headers is a marker.
func marked(header []byte) bool {
	if len(header) == 0 {
		return false
	}
	h, err := natsgo.DecodeHeadersMsg(header)
	return err == nil && slices.ContainsFunc([]string{headerKV, headerMarker}, func(name string) bool { return h.Get(name) != "" })
}
