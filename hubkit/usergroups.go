package hubkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gobackplane/backplane"
)

// A user's memberships are a record in the backplane's store, so that they outlive every instance. Each instance that has
// connections of the user holds the memberships that it has read (grants.go). A change is made in the record first; then
// all instances are asked to read it anew, and the change is effective when they have answered. What an instance reads is
// the newest, so questions may overtake one another, and a connect that races a change is covered either way: it
// holds the user's grants before it reads, so that the question finds it.

// The limits of a user's memberships.
const (
	MaxUserGroups = 100                  // groups of one user
	MaxUserTTL    = 365 * 24 * time.Hour // also where no time to live is given: nothing is kept for ever
)

// UserGroup is one of a user's memberships.
type UserGroup struct {
	Group string
	// Left is how long the membership still lasts.
	Left time.Duration
}

// storer is the optional ability to keep small values. [backplane.Node] has it, where its transport can.
type storer interface {
	Store() (backplane.Store, bool)
}

// useStore finds the store where options ask for it. It returns false while it is not known whether it serves.
func (h *Hub) useStore() (served bool, err error) {
	var store backplane.Store
	if bp, ok := h.bp.(storer); ok && h.cluster != nil {
		if s, ok := bp.Store(); ok {
			store = s
		}
	}
	if r := &h.opts.Resume; r.on() && !r.NoStore {
		h.resumeStore = store
	}
	switch {
	case !h.opts.UserGroups:
		return true, nil
	case store == nil:
		return false, fmt.Errorf("%w: %w: UserGroups needs a backplane with a store", backplane.ErrInvalidOption, backplane.ErrUnsupported)
	}
	h.store = store
	err = h.checkStore()
	if refusedByStore(err) {
		return false, fmt.Errorf("%w: UserGroups needs the broker's store: %w", backplane.ErrInvalidOption, err)
	}
	return err == nil, nil
}

// JoinUser makes a user a member of a group: all connections that the user has now, on whatever instances, and all that
// are made until the membership ends. It ends after ttl on the broker's clock, at [MaxUserTTL] where ttl is 0, or with
// [Hub.LeaveUser]; when it ends by its time, connections that also joined by themselves stay. Joining again sets a new
// time. A connection may leave the group by itself, and is put in again when the user is joined again.
//
// When it returns nil, every send to the group that starts afterwards, on any instance, is delivered to every connection of
// the user; those made later are in the group when [Hub.Connect] has returned. It returns how many connections were not
// in the group before. Errors of instances are told as by [Hub.Join], in a [*PartialError]: the membership is
// recorded then, and holds for connections made later; an instance that could not be reached, or could not read it, catches up by
// itself once it can, and calling again makes sure. Other errors are ErrUnsupported
// without [Options.UserGroups], [ErrTooManyGroups], and those of [backplane.Store]; with ErrUncertain it may have
// been recorded. The membership lasts as long as the broker keeps it: see docs/operating.md for what a Redis does that
// is restarted.
func (h *Hub) JoinUser(ctx context.Context, user, group string, ttl time.Duration) (changed int, err error) {
	if ttl < 0 || ttl > MaxUserTTL || ttl > 0 && ttl < time.Millisecond {
		return 0, h.fail("join user", invalidOption("a user's time to live", "must be 0, or from 1ms to %v, not %v", MaxUserTTL, ttl))
	}
	if ttl == 0 {
		ttl = MaxUserTTL
	}
	return h.changeUser(ctx, "join user", userChange{user: user, group: group, join: true}, ttl)
}

// LeaveUser ends a user's membership in a group, and takes all connections of the user out of it, also those that joined
// by themselves. When it returns nil, nothing more of that group enters their outboxes. It returns how many connections
// were in the group. A user who is no member is none afterwards. An instance that catches up later lets those stay that joined
// by themselves. The rest is as with [Hub.JoinUser].
func (h *Hub) LeaveUser(ctx context.Context, user, group string) (changed int, err error) {
	return h.changeUser(ctx, "leave user", userChange{user: user, group: group}, 0)
}

// UserGroups returns the memberships of a user that [Hub.JoinUser] made and that have not ended, by name. The errors are
// ErrUnsupported without [Options.UserGroups], ErrInvalidAddress, ErrClosed, and those of [backplane.Store].
func (h *Hub) UserGroups(ctx context.Context, user string) ([]UserGroup, error) {
	record, err := h.userGroups(ctx, user)
	if err != nil {
		return nil, h.fail("user groups", err)
	}
	return record.groups, nil
}

func (h *Hub) userGroups(ctx context.Context, user string) (userRecord, error) {
	if err := h.checkUser(user); err != nil {
		return userRecord{}, err
	}
	if err := h.enter(); err != nil {
		return userRecord{}, err
	}
	defer h.leave()
	record, _, err := h.readUser(ctx, user)
	return record, err
}

func (h *Hub) checkUser(user string) error {
	if h.store == nil {
		return fmt.Errorf("%w: the hub was made without UserGroups", backplane.ErrUnsupported)
	}
	return backplane.User(user).In(h.name).Validate()
}

func (h *Hub) changeUser(ctx context.Context, name string, c userChange, ttl time.Duration) (changed int, err error) {
	if err = h.checkUser(c.user); err == nil {
		err = backplane.Group(c.group).In(h.name).Validate()
	}
	if err == nil {
		err = h.enter()
	}
	if err != nil {
		return 0, h.fail(name, err)
	}
	defer h.leave()
	ctx, cancel := askContext(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	if err = h.recordUser(ctx, c, ttl); err == nil {
		changed, err = h.tellUser(ctx, c)
	}
	if err != nil && h.closing.Err() != nil {
		err = backplane.ErrClosed
	}
	if err != nil {
		return changed, h.fail(name, err)
	}
	return changed, nil
}

// tellUser makes a change effective on every instance.
func (h *Hub) tellUser(ctx context.Context, c userChange) (changed int, err error) {
	answers, missed, err := h.askEverybody(ctx, c.encode())
	if err != nil { // it is recorded nevertheless
		missed.Missing = append(missed.Missing, FailedNode{Err: err})
	}
	for _, s := range answers {
		a, err := decodeApplied(s.answer)
		if err != nil {
			missed.Missing = append(missed.Missing, FailedNode{Node: s.node, Err: err})
			continue
		}
		changed += a.changed
	}
	return changed, missed.err()
}

// recordUser makes a change in the user's record.
func (h *Hub) recordUser(ctx context.Context, c userChange, ttl time.Duration) error {
	for {
		record, seen, err := h.readUser(ctx, c.user)
		if err != nil {
			return err
		}
		before := len(record.groups)
		record.groups = slices.DeleteFunc(record.groups, func(g UserGroup) bool { return g.Group == c.group })
		switch {
		case c.join && len(record.groups) >= MaxUserGroups:
			return fmt.Errorf("%w: %d are the most", ErrTooManyGroups, MaxUserGroups)
		case c.join:
			record.groups = append(record.groups, UserGroup{Group: c.group, Left: ttl})
		case before == len(record.groups):
			return nil // it is not there
		}
		err = h.writeUser(ctx, c.user, record, seen)
		if !errors.Is(err, backplane.ErrConflict) && !errors.Is(err, backplane.ErrKeyNotFound) {
			return err
		}
		// Another change came between, or the record has just ended: read again, until the context ends.
	}
}

// userKey is where the record of a user is. Names may be longer than a key, and are nobody's business in a list of keys.
func (h *Hub) userKey(user string) string {
	sum := sha256.Sum256([]byte(user))
	return "users/" + h.name + "/" + hex.EncodeToString(sum[:])
}

// readUser returns what a user's record says now, and its revision, 0 where there is none. What has ended is left out.
func (h *Hub) readUser(ctx context.Context, user string) (userRecord, backplane.Revision, error) {
	e, err := h.store.Get(ctx, h.userKey(user))
	switch {
	case errors.Is(err, backplane.ErrKeyNotFound):
		return userRecord{}, 0, nil
	case err != nil:
		return userRecord{}, 0, err
	}
	record, err := decodeUserRecord(e.Value)
	if err != nil {
		return userRecord{}, 0, err
	}
	for i := range record.groups {
		record.groups[i].Left -= e.Age
	}
	record.groups = slices.DeleteFunc(record.groups, func(g UserGroup) bool { return g.Left < time.Millisecond })
	return record, e.Revision, nil
}

// writeUser replaces a user's record. The broker forgets it when the last membership ends.
func (h *Hub) writeUser(ctx context.Context, user string, record userRecord, seen backplane.Revision) error {
	key, longest := h.userKey(user), time.Duration(0)
	for _, g := range record.groups {
		longest = max(longest, g.Left)
	}
	slices.SortFunc(record.groups, func(a, b UserGroup) int { return strings.Compare(a.Group, b.Group) })
	var err error
	switch {
	case len(record.groups) == 0:
		err = h.store.Delete(ctx, key, seen)
	case seen == 0:
		_, err = h.store.Create(ctx, key, record.encode(), longest)
	default:
		_, err = h.store.Update(ctx, key, record.encode(), longest, seen)
	}
	return err
}
