package hubkit

import (
	"context"
	"errors"
	"time"

	"github.com/gobackplane/backplane"
)

// With Options.UserGroups each Connect of a user reads the store. Whether the broker has one, and permits what is needed, it tells
// only when it is asked: NATS without JetStream does not, or an account without it, or a user who may not. So New asks, and
// fails. Where the broker cannot be reached then, it is asked later, and the log and readiness tell.

const (
	storeCheckMost  = time.Second     // how long New waits for the store
	storeCheckPause = 5 * time.Second // between two questions, where the answer was none or a refusal
)

// checkStore asks for what nobody has: it returns nil where the store serves.
func (h *Hub) checkStore() error {
	ctx, cancel := context.WithTimeout(h.closing, storeCheckMost)
	defer cancel()
	key := "users/" + h.name + "/nobody"
	_, err := h.store.Get(ctx, key)
	if errors.Is(err, backplane.ErrKeyNotFound) {
		err = h.store.Delete(ctx, key, 1) // takes the right to write, and over Redis to run scripts
	}
	if errors.Is(err, backplane.ErrKeyNotFound) {
		return nil
	}
	return err
}

// refusedByStore reports whether asking again would not help: something has to be changed.
func refusedByStore(err error) bool {
	return errors.Is(err, backplane.ErrUnsupported) || errors.Is(err, backplane.ErrDenied)
}

// watchStore asks until the store serves. It logs once that it does not, and why.
func (h *Hub) watchStore() {
	timer := time.NewTimer(storeCheckPause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-h.closing.Done():
			return
		}
		err := h.checkStore()
		switch {
		case err == nil:
			if h.storeRefused.Swap(false) {
				h.log.Info("the broker's store serves now")
			}
			return
		case refusedByStore(err) && !h.storeRefused.Swap(true):
			h.log.Error("UserGroups needs the broker's store, which does not serve: no user can connect", "err", err)
		}
		timer.Reset(storeCheckPause)
	}
}
