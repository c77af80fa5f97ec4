package backplane_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// storeless is a transport without a store, whatever is below it.
type storeless struct{ transport.Transport }

func TestStoreIsAnAbility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opener := inmem.NewBroker().Opener()
		with := open(t, opener, backplane.Options{})
		if _, ok := with.Store(); !ok {
			t.Error("a node over inmem has no store")
		}
		without := open(t, func(c transport.Config) (transport.Transport, error) {
			inner, err := opener(c)
			return storeless{inner}, err
		}, backplane.Options{})
		if s, ok := without.Store(); ok || s != nil {
			t.Error("a node over a transport without a store has one")
		}
	})
}

// What does not fit is refused before the broker is asked, and an error tells no key.
func TestStoreChecksWhatGoesIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		s, _ := n.Store()
		asked := 0
		broker.Deny(func(r inmem.Request) bool {
			if r.Op == inmem.OpStore {
				asked++
			}
			return false
		})
		ctx := t.Context()
		get := func(key string) error { _, err := s.Get(ctx, key); return err }
		create := func(key string, value []byte, ttl time.Duration) error {
			_, err := s.Create(ctx, key, value, ttl)
			return err
		}
		update := func(key string, value []byte, ttl time.Duration) error {
			_, err := s.Update(ctx, key, value, ttl, 1)
			return err
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		long := strings.Repeat("k", backplane.MaxKey+1)
		for what, row := range map[string]struct{ got, want error }{
			"no key":          {get(""), backplane.ErrInvalidKey},
			"a long key":      {get(long), backplane.ErrInvalidKey},
			"a space":         {create("secret key", nil, 0), backplane.ErrInvalidKey},
			"a colon":         {update("secret:key", nil, 0), backplane.ErrInvalidKey},
			"an umlaut":       {s.Delete(ctx, "secretä", 1), backplane.ErrInvalidKey},
			"no UTF-8":        {s.Expire(ctx, "secret\xff", 0), backplane.ErrInvalidKey},
			"a newline":       {s.Watch(ctx, "secret\n", nil), backplane.ErrInvalidKey},
			"a large value":   {create("k", make([]byte, backplane.MaxValue+1), 0), backplane.ErrTooLarge},
			"a larger value":  {update("k", make([]byte, backplane.MaxValue+1), 0), backplane.ErrTooLarge},
			"a negative time": {create("k", nil, -1), backplane.ErrInvalidOption},
			"a short time":    {update("k", nil, time.Microsecond), backplane.ErrInvalidOption},
			"a long time":     {s.Expire(ctx, "k", 20*365*24*time.Hour), backplane.ErrInvalidOption},
			"no time left":    {func() error { _, err := s.Get(ended, "k"); return err }(), backplane.ErrUnavailable},
		} {
			e, ok := errors.AsType[*backplane.Error](row.got)
			if !ok || !errors.Is(row.got, row.want) || strings.Contains(row.got.Error(), "secret") || e.Op == "" {
				t.Errorf("%s: %v, want %v in an *Error without the key", what, row.got, row.want)
			}
		}
		if asked != 0 {
			t.Errorf("the broker was asked %d times", asked)
		}
		if err := create(strings.Repeat("aZ09-_/=", 32), make([]byte, backplane.MaxValue), time.Millisecond); err != nil {
			t.Errorf("the largest there is: %v", err)
		}
		if asked != 1 {
			t.Errorf("the broker was asked %d times, want 1", asked)
		}
		if err := n.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if err := get("k"); !errors.Is(err, backplane.ErrClosed) {
			t.Errorf("after Close: %v, want ErrClosed", err)
		}
	})
}

// A broker that does not answer is waited for no longer than for a probe, and a write may have been done then.
func TestStoreIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		s, _ := n.Store()
		broker.Deafen(n.ID())
		start := time.Now()
		if _, err := s.Create(t.Context(), "k", []byte("v"), 0); !errors.Is(err, backplane.ErrUncertain) {
			t.Errorf("a write without an answer: %v, want ErrUncertain", err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		broker.Heal(n.ID())
		time.Sleep(5 * time.Second)
		if e, err := s.Get(t.Context(), "k"); err != nil || string(e.Value) != "v" {
			t.Errorf("it was done: %q, %v", e.Value, err)
		}
		broker.Hang(n.ID())
		if _, err := s.Get(t.Context(), "k"); !errors.Is(err, backplane.ErrUnavailable) || errors.Is(err, backplane.ErrUncertain) {
			t.Errorf("a read without an answer: %v, want ErrUnavailable", err)
		}
	})
}
