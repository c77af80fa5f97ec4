package backplane

import (
	"context"
	"fmt"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// Store keeps small values in the broker, under keys of the namespace; see [transport.Store] for what it promises and
// what it depends on. Get one from [Node.Store].
type Store = transport.Store

// Entry is what a key of a [Store] has.
type Entry = transport.Entry

// Revision names a write to a key of a [Store].
type Revision = transport.Revision

// The limits of a [Store].
const (
	MaxKey   = transport.MaxKey   // bytes of a key
	MaxValue = transport.MaxValue // bytes of a value
)

// Store returns the broker's store, or false if the transport has none. Keys are 1 to 256 bytes of letters, digits, '-',
// '_', '/' and '=', and belong to the node's namespace; values are at most 256 KiB; times to live are 0 for ever, or from a
// millisecond to ten years. What does not fit is ErrInvalidKey, ErrTooLarge or ErrInvalidOption before any I/O. A call takes
// at most [Options.ProbeTimeout]. After [Node.Close] the methods return ErrClosed.
func (n *Node) Store() (s Store, ok bool) {
	inner, ok := n.t.(transport.Store)
	if !ok {
		return nil, false
	}
	return nodeStore{n, inner}, true
}

// nodeStore checks what goes into a transport's store, and names the operation in errors. An error tells no key: it may
// be made of a user's name.
type nodeStore struct {
	n *Node
	s transport.Store
}

func (s nodeStore) Get(ctx context.Context, key string) (Entry, error) {
	if err := s.check(ctx, key, nil, 0); err != nil {
		return Entry{}, s.fail("get", err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	e, err := s.s.Get(ctx, key)
	return e, s.fail("get", err)
}

func (s nodeStore) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (Revision, error) {
	if err := s.check(ctx, key, value, ttl); err != nil {
		return 0, s.fail("create", err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	r, err := s.s.Create(ctx, key, value, ttl)
	return r, s.fail("create", err)
}

func (s nodeStore) Update(ctx context.Context, key string, value []byte, ttl time.Duration, seen Revision) (Revision, error) {
	if err := s.check(ctx, key, value, ttl); err != nil {
		return 0, s.fail("update", err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	r, err := s.s.Update(ctx, key, value, ttl, seen)
	return r, s.fail("update", err)
}

func (s nodeStore) Delete(ctx context.Context, key string, seen Revision) error {
	if err := s.check(ctx, key, nil, 0); err != nil {
		return s.fail("delete", err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return s.fail("delete", s.s.Delete(ctx, key, seen))
}

func (s nodeStore) Expire(ctx context.Context, key string, ttl time.Duration) error {
	if err := s.check(ctx, key, nil, ttl); err != nil {
		return s.fail("expire", err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return s.fail("expire", s.s.Expire(ctx, key, ttl))
}

func (s nodeStore) Watch(ctx context.Context, key string, f func(*Entry)) error {
	if err := s.check(ctx, key, nil, 0); err != nil {
		return s.fail("watch", err)
	}
	return s.fail("watch", s.s.Watch(ctx, key, f))
}

func (s nodeStore) check(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	switch {
	case s.n.closed():
		return ErrClosed
	case len(value) > MaxValue:
		return fmt.Errorf("%w: a value of %d bytes, the limit is %d", ErrTooLarge, len(value), MaxValue)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	if err := transport.CheckKey(key); err != nil {
		return err
	}
	return transport.CheckTTL(ttl)
}

// bounded makes a call end when an exchange with the broker has taken too long.
func (s nodeStore) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.n.o.ProbeTimeout)
}

func (s nodeStore) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return s.n.error(op, Address{}, err)
}
