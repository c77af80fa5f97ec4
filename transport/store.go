package transport

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Store is an optional ability: a transport whose broker can keep small values implements it, and package backplane
// surfaces it as Node.Store. Keys belong to the namespace. It serves records that must outlive an instance, a
// few hundred bytes each; it is no database.
//
// What a value is worth depends on the broker: one that keeps nothing on disk forgets all of them when it is restarted, and
// a replica that takes over may lack the newest. A store that lost its memory looks like one in which everything was deleted;
// what is never seen is half a value, or a write that replaced another revision than the one it named.
//
// All methods may be called concurrently. They fail at once where the broker is not connected, end with their
// context, which the engine bounds except for Watch's, and are not retried. Errors wrap [ErrKeyNotFound] and [ErrConflict] as each
// method says, [ErrDenied], [ErrClosed], and [ErrUnavailable] where nothing was done; every other error of a write
// means that it may have been done (wrap [ErrUncertain]). The engine has checked keys, values and times before.
type Store interface {
	// Get returns the value of a key. ErrKeyNotFound: there is none, or not any more.
	Get(ctx context.Context, key string) (Entry, error)
	// Create stores a value under a key that has none. ErrConflict: it has one. The value is gone after ttl on the
	// broker's clock; 0 keeps it.
	Create(ctx context.Context, key string, value []byte, ttl time.Duration) (Revision, error)
	// Update replaces the revision that the caller has seen, and its time to live. ErrConflict: the key has another one,
	// or none.
	Update(ctx context.Context, key string, value []byte, ttl time.Duration, seen Revision) (Revision, error)
	// Delete removes the revision that the caller has seen. ErrConflict: the key has another one. ErrKeyNotFound: it
	// has none.
	Delete(ctx context.Context, key string, seen Revision) error
	// Expire gives the value a new time to live from now on, 0 for ever; its revision and its age stay. ErrKeyNotFound:
	// there is none.
	Expire(ctx context.Context, key string, ttl time.Duration) error
	// Watch calls f with what the key has, or with nil where it has nothing, and then again after that has changed, until
	// ctx ends: it returns ctx's error then, or ErrClosed. Changes in quick succession may be told as one, the newest is
	// told within seconds while the broker can be reached. f is called from the caller's goroutine.
	Watch(ctx context.Context, key string, f func(*Entry)) error
}

// Revision names a write: no two writes to a key have the same. It is not a count.
type Revision uint64

// Entry is what a key has.
type Entry struct {
	Value    []byte // the caller's to keep
	Revision Revision
	// Age is how long ago the value was written, on the broker's clock: instances may disagree about the time, and
	// agree about this.
	Age time.Duration
}

// The limits of keys, values and times to live.
const (
	MaxKey   = 256       // bytes of a key
	MaxValue = 256 << 10 // bytes of a value
	MaxTTL   = 10 * 365 * 24 * time.Hour
)

const keyBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/="

// CheckKey returns nil for a key that every store can hold: 1 to 256 bytes of letters, digits, '-', '_', '/' and '='.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey || strings.ContainsFunc(key, foreign) {
		return fmt.Errorf("%w: it must be 1 to %d bytes of a-z A-Z 0-9 - _ / =", ErrInvalidKey, MaxKey)
	}
	return nil
}

func foreign(r rune) bool { return !strings.ContainsRune(keyBytes, r) }

// CheckTTL returns nil for a time to live that every store can keep: 0, or from a millisecond to ten years.
func CheckTTL(ttl time.Duration) error {
	if ttl != 0 && (ttl < time.Millisecond || ttl > MaxTTL) {
		return fmt.Errorf("%w: a time to live must be 0, or from 1ms to %v, not %v", ErrInvalidOption, MaxTTL, ttl)
	}
	return nil
}
