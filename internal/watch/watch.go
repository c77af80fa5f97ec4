// Package watch is transport.Store's Watch where the broker does not tell all changes by itself: it asks.
package watch

import (
	"context"
	"errors"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// Interval is how long a change may stay unknown that nobody tells.
const Interval = time.Second

// Poll calls get at once, every [Interval], and whenever changed has something, and f with what is there, nil for nothing:
// the first time, and then where its revision is another one. An answer that does not come is no change. Poll returns when
// ctx ends, or get fails in another way.
func Poll(ctx context.Context, changed <-chan struct{}, get func() (transport.Entry, error), f func(*transport.Entry)) error {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	var told transport.Revision
	for never := true; ; {
		e, err := get()
		there := err == nil
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, transport.ErrUnavailable):
		case err != nil && !errors.Is(err, transport.ErrKeyNotFound):
			return err
		case never || e.Revision != told:
			told, never = e.Revision, false
			if there {
				f(&e)
			} else {
				f(nil)
			}
		}
		select {
		case <-ticker.C:
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
