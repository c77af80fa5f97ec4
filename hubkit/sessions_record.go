package hubkit

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/gobackplane/backplane"
)

// checkRecord refuses a session that the store has as ended. A store that cannot be read refuses too.
func (h *Hub) checkRecord(ctx context.Context, id sessionID) error {
	if h.sessionStore() == nil {
		return nil
	}
	look := func(id sessionID) error {
		return h.whenAvailable(ctx, func() error {
			_, err := h.resumeStore.Get(ctx, h.sessionKey(id))
			return err
		})
	}
	err := look(id)
	if errors.Is(err, backplane.ErrUnsupported) {
		// Either there is no store, or a later version wrote the record. The record of no session, which nobody writes, tells.
		if none := look(sessionID{}); errors.Is(none, backplane.ErrUnsupported) {
			h.noSessionStore(err)
			return nil
		}
	}
	switch {
	case errors.Is(err, backplane.ErrKeyNotFound):
		return nil
	case err != nil:
		return err
	}
	h.sessions.end(id, time.Now().Add(h.opts.Resume.keep()))
	return ErrResumeEnded
}

// sessionStore is where ended sessions are recorded, nil where there is none.
func (h *Hub) sessionStore() backplane.Store {
	if h.storeless.Load() {
		return nil
	}
	return h.resumeStore
}

// noSessionStore notes that the broker has no store after all: NATS without JetStream, for example. The hub then does without.
func (h *Hub) noSessionStore(err error) {
	if h.storeless.CompareAndSwap(false, true) {
		h.log.Warn("the broker has no store: that a session has ended is known to the instances only, as with Resume.NoStore", "err", err)
	}
}

// storeEnded records ended sessions in the store, and reports whether it could. What fails is tried again later.
func (a *announcer) storeEnded(ctx context.Context, list []notice) bool {
	h := a.hub
	errs := inParallel(list, func(n notice) error {
		keep := time.Until(n.until)
		if keep < time.Millisecond {
			return nil
		}
		_, err := h.resumeStore.Create(ctx, h.sessionKey(n.session), []byte{sessionRecordVersion}, keep)
		switch {
		case errors.Is(err, backplane.ErrConflict):
			return nil // it is there
		case errors.Is(err, backplane.ErrUnsupported):
			h.noSessionStore(err)
			return nil
		}
		return err
	})
	var failed []notice
	for i, err := range errs {
		if err != nil {
			failed = append(failed, list[i])
		}
	}
	if len(failed) == 0 {
		return true
	}
	h.log.Warn("ended sessions could not be recorded in the store; they are tried again", "sessions", len(failed), "err", cmp.Or(errs...))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.store = append(failed, a.store...)
	return false
}

// sessionRecordVersion is all that a record of an ended session holds.
const sessionRecordVersion = 1

// sessionKey is where the store has that a session was ended.
func (h *Hub) sessionKey(id sessionID) string {
	return "sessions/" + h.name + "/" + hex.EncodeToString(id[:])
}
