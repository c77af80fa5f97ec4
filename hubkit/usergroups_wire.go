package hubkit

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/gobackplane/backplane"
)

// userRecord is what the store has of a user:
//
//	version  1 byte   userVersion
//	groups   uvarint count, then for each: uvarint length, name; uvarint milliseconds that it lasted when it was written
//
// A reader refuses versions that it does not know: to write the record anew would lose what it holds.
type userRecord struct{ groups []UserGroup }

const userVersion = 1

func (r *userRecord) encode() []byte {
	b := binary.AppendUvarint([]byte{userVersion}, uint64(len(r.groups)))
	for _, g := range r.groups {
		b = binary.AppendUvarint(b, uint64(len(g.Group)))
		b = append(b, g.Group...)
		b = binary.AppendUvarint(b, uint64(max(g.Left.Milliseconds(), 0)))
	}
	return b
}

func decodeUserRecord(b []byte) (userRecord, error) {
	var r userRecord
	if len(b) == 0 {
		return r, fmt.Errorf("%w: a user's record is empty", errBroken)
	}
	if b[0] != userVersion {
		return r, fmt.Errorf("%w: version %d of a user's record", backplane.ErrUnsupported, b[0])
	}
	n, b, ok := cutUvarint(b[1:])
	if !ok || n > MaxUserGroups {
		return r, fmt.Errorf("%w: a user's record", errBroken)
	}
	for range n {
		var name []byte
		var left uint64
		if name, b, ok = cutBytes(b); ok {
			left, b, ok = cutUvarint(b)
		}
		if !ok || len(name) == 0 || len(name) > backplane.MaxName || left > uint64(math.MaxInt64/time.Millisecond) {
			return userRecord{}, fmt.Errorf("%w: a group of a user's record", errBroken)
		}
		r.groups = append(r.groups, UserGroup{Group: string(name), Left: time.Duration(left) * time.Millisecond})
	}
	if len(b) > 0 {
		return userRecord{}, fmt.Errorf("%w: a user's record has %d bytes too many", errBroken, len(b))
	}
	return r, nil
}

// userChange is a question: read the user's record anew, and put the connections into the group, or take them out.
//
//	user   uvarint length, bytes
//	join   1 byte   1 for join, 0 for leave
//	group  the rest
//
// Its answer is that of an operation.
type userChange struct { // of the kind askUser
	user, group string
	join        bool
}

func (c *userChange) encode() []byte {
	b := binary.AppendUvarint([]byte{questionVersion, askUser}, uint64(len(c.user)))
	b = append(b, c.user...)
	if c.join {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return append(b, c.group...)
}

// decodeUserChange reads a change without its version and kind.
func decodeUserChange(b []byte) (userChange, error) {
	user, b, ok := cutBytes(b)
	if !ok || len(user) == 0 || len(user) > backplane.MaxName || len(b) < 2 || b[0] > 1 || len(b)-1 > backplane.MaxName {
		return userChange{}, fmt.Errorf("%w: a change of a user's groups", errBroken)
	}
	return userChange{user: string(user), join: b[0] == 1, group: string(b[1:])}, nil
}
