package hubkit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/gobackplane/backplane"
)

const (
	// listBytes is how large one instance's part of a page may be. It is less than the default of MaxPayload; where that is set lower,
	// instances are asked for less, down to what one connection can need.
	listBytes      = 256 << 10
	listBytesLeast = 4 << 10
)

// listQuestion asks an instance for its connections, sorted by id.
//
//	limit  uvarint  how many at most
//	bytes  uvarint  how large the answer may be; one connection is listed in any case
//	after  uvarint length, an id; only those greater than it
//	selection
type listQuestion struct {
	limit, bytes int
	after        string
	of           selection
}

func (q *listQuestion) encode() []byte {
	b := []byte{questionVersion, askList}
	b = binary.AppendUvarint(b, uint64(q.limit)) //nolint:gosec // positive
	b = binary.AppendUvarint(b, uint64(q.bytes)) //nolint:gosec // positive
	b = appendID(b, q.after)
	return q.of.append(b)
}

func decodeListQuestion(b []byte) (listQuestion, error) {
	var q listQuestion
	limit, b, ok1 := cutUvarint(b)
	most, b, ok2 := cutUvarint(b)
	after, b, ok3 := cutBytes(b)
	if !ok1 || !ok2 || !ok3 || limit == 0 || len(after) > maxID {
		return q, fmt.Errorf("%w: a question for a list", errBroken)
	}
	q.limit, q.bytes = int(min(limit, MaxPage)), int(min(most, listBytes))
	q.after = string(after)
	_, err := q.of.cut(b)
	return q, err
}

// encodeList writes what fits into an answer:
//
//	more  1 byte   1 where there are more connections
//	for each connection: id, user, label: each uvarint length, bytes; since: varint, Unix time in nanoseconds;
//	metadata: uvarint count, then for each: key, value: uvarint length, bytes
func encodeList(list []*Connection, q *listQuestion) []byte {
	b := []byte{0}
	for i, c := range list {
		end := len(b)
		b = appendID(b, c.id)
		b = appendID(b, c.user)
		b = appendID(b, c.label)
		b = binary.AppendVarint(b, c.since)
		b = binary.AppendUvarint(b, uint64(len(c.metadata)))
		for k, v := range c.metadata {
			b = appendID(b, k)
			b = appendID(b, v)
		}
		if i >= q.limit || i > 0 && len(b) > q.bytes {
			b = b[:end]
			b[0] = 1
			return b
		}
	}
	return b
}

// decodeList reads what an instance listed. Its connections must be its own, in order, and no more than were asked for.
func decodeList(b []byte, node backplane.NodeID, limit int) (listed, error) {
	if len(b) == 0 {
		return listed{}, fmt.Errorf("%w: a list", errBroken)
	}
	a := listed{more: b[0]&1 != 0}
	last := ""
	for b = b[1:]; len(b) > 0; {
		var c ConnectionInfo
		var ok bool
		if b, ok = c.cut(b); !ok || len(a.list) == limit || c.ID <= last {
			return listed{}, fmt.Errorf("%w: a list", errBroken)
		}
		if home, is := homeOf(c.ID); !is || home != node {
			return listed{}, fmt.Errorf("%w: node %s lists a connection of another", errBroken, node)
		}
		last = c.ID
		a.list = append(a.list, c)
	}
	if a.more && len(a.list) == 0 {
		return listed{}, fmt.Errorf("%w: a list of none, with more", errBroken)
	}
	return a, nil
}

// cut reads a connection.
func (c *ConnectionInfo) cut(b []byte) (rest []byte, ok bool) {
	for _, field := range []*string{&c.ID, &c.User, &c.Label} {
		var v []byte
		if v, b, ok = cutBytes(b); !ok {
			return nil, false
		}
		*field = string(v)
	}
	since, k := binary.Varint(b)
	if k <= 0 {
		return nil, false
	}
	c.Since = time.Unix(0, since)
	n, b, ok := cutUvarint(b[k:])
	if !ok || n > uint64(len(b)) {
		return nil, false
	}
	for range n {
		var key, value []byte
		if key, b, ok = cutBytes(b); !ok {
			return nil, false
		}
		if value, b, ok = cutBytes(b); !ok {
			return nil, false
		}
		if c.Metadata == nil {
			c.Metadata = make(map[string]string)
		}
		c.Metadata[string(key)] = string(value)
	}
	return b, true
}

// place is where a page of a listing ends: after a connection of a home. The zero place is the beginning.
type place struct {
	home backplane.NodeID
	id   string
}

// on returns the id after which a node's connections are wanted.
func (p place) on(node backplane.NodeID) string {
	if node == p.home {
		return p.id
	}
	return ""
}

// fingerprint stands for what is listed, so that a token is for one listing only.
type fingerprint [8]byte

// fingerprint returns that of a selection, whatever the order of its names.
func (s *selection) fingerprint(hub string) (f fingerprint) {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s\n%v\n", hub, s.all) // writing to a hash never fails
	for _, l := range s.lists() {
		names := slices.Collect(l.list.all())
		slices.SortFunc(names, bytes.Compare)
		_, _ = fmt.Fprintf(sum, "%q\n", names)
	}
	copy(f[:], sum.Sum(nil))
	return f
}

// A page token is, in base64url:
//
//	version      1 byte   tokenVersion
//	fingerprint  8 bytes  of what is listed
//	id           the rest: the last one listed
const tokenVersion = 1

// maxToken bounds a token that comes from a caller.
const maxToken = 200

func (f fingerprint) token(id string) string {
	b := append([]byte{tokenVersion}, f[:]...)
	return base64.RawURLEncoding.EncodeToString(append(b, id...))
}

// readToken returns the place that a token of a listing means.
func readToken(token string, f fingerprint) (place, error) {
	if token == "" {
		return place{}, nil
	}
	if len(token) > maxToken {
		return place{}, fmt.Errorf("%w: it has %d bytes", ErrInvalidToken, len(token))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	switch {
	case err != nil || len(b) < 1+len(f):
		return place{}, fmt.Errorf("%w: it cannot be read", ErrInvalidToken)
	case b[0] != tokenVersion:
		return place{}, fmt.Errorf("%w: of version %d", ErrInvalidToken, b[0])
	case !bytes.Equal(b[1:1+len(f)], f[:]):
		return place{}, fmt.Errorf("%w: of another listing", ErrInvalidToken)
	}
	id := string(b[1+len(f):])
	home, ok := homeOf(id)
	if !ok {
		return place{}, fmt.Errorf("%w: it cannot be read", ErrInvalidToken)
	}
	return place{home: home, id: id}, nil
}
