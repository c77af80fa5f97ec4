package hubkit

import (
	"context"
	"errors"
	"fmt"

	"github.com/gobackplane/backplane"
)

// Target says who a send is for: the union of what is named, without the exceptions. A connection that is named in
// several ways gets one copy. A target that names nobody sends nothing. The slices are not kept.
type Target struct {
	All         bool     // every connection of the hub
	Groups      []string // the members of these groups
	Users       []string // the connections of these users
	Connections []string // these connections, by id
	Except      []string // but not these connections; at most [MaxExcept]
}

// ToAll targets every connection of the hub, on all instances.
func ToAll() Target { return Target{All: true} }

// ToGroups targets the members of groups.
func ToGroups(names ...string) Target { return Target{Groups: names} }

// ToUsers targets all connections of users.
func ToUsers(ids ...string) Target { return Target{Users: ids} }

// ToConnections targets connections by the ids that [Connection.ID] gives.
func ToConnections(ids ...string) Target { return Target{Connections: ids} }

// Send sends payload to the target, on whatever instances its connections are. nil means that the broker has taken
// every message that this needed; messages to connections of this very instance do not need the broker. The context
// bounds the call. The payload may be reused when Send has returned.
//
// An error with several targets holds a [*SendError] that names the targets that failed; the others were sent.
// Causes: ErrInvalidAddress for the name of a group or user, [ErrInvalidTarget] for a connection id that no hub can have
// made or too long an except-list (both before anything is sent), [ErrNotFound] for a connection that had its home here
// and is gone, those of [backplane.Backplane.Publish], and with [Options.LocalWhenDown] [ErrLocalOnly]. The largest
// payload is the node's MaxPayload less 64 bytes and what the key and the except-list take, and for connections of other
// instances their ids: 34 bytes each, for at most 1,000 that share a home.
func (h *Hub) Send(ctx context.Context, to Target, payload []byte) error {
	return h.SendLatest(ctx, to, "", payload)
}

// maxKey bounds a key, in bytes: what waits in an outbox is counted without it.
const maxKey = backplane.MaxName

// SendLatest is Send with a key: in the outbox of a connection whose policy is [KeepLatest], the payload takes the place
// of a waiting one that was sent with the same key. For all other connections it is Send. The key is at most 1,024 bytes
// and says what the payload is the newest value of, "vitals:bed-12", say; "" means no key.
func (h *Hub) SendLatest(ctx context.Context, to Target, key string, payload []byte) error {
	err := h.send(ctx, to, key, payload)
	if err != nil {
		h.stats.sendsFailed.Add(1)
		if errors.Is(err, ErrLocalOnly) {
			h.stats.localOnly.Add(1)
		}
		return h.fail("send", err)
	}
	h.stats.sends.Add(1)
	return nil
}

func (h *Hub) send(ctx context.Context, to Target, key string, payload []byte) error {
	if h.closing.Err() != nil {
		return backplane.ErrClosed
	}
	if len(key) > maxKey {
		return fmt.Errorf("%w: the key is longer than %d bytes", ErrInvalidTarget, maxKey)
	}
	plan, err := h.plan(to)
	if err != nil {
		return err
	}
	p := parcel{key: key, except: newIDList(to.Except), payload: payload}
	if plan.overlaps() {
		p.send = sendID{origin: h.origin, number: h.sendNumber.Add(1)}
	}
	failed := plan.missing
	if len(plan.local) > 0 {
		h.deliverHere(plan.local, p)
	}
	if batch := plan.batch(p); len(batch) > 0 {
		errs := h.publish(ctx, batch)
		if errs != nil && h.opts.LocalWhenDown {
			errs = h.deliverLocally(ctx, &plan, p, errs)
		}
		failed = append(failed, plan.failures(errs)...)
	}
	switch {
	case len(failed) == 0:
		return nil
	case plan.total() == 1:
		return failed[0].Err
	default:
		return &SendError{Failed: failed, Total: plan.total()}
	}
}

// deliverHere delivers to connections of this instance without the broker.
func (h *Hub) deliverHere(to []*Connection, p parcel) {
	d := dispatch{msg: &message{payload: append([]byte{}, p.payload...), key: p.key}}
	if p.send.number != 0 {
		d.serial, _ = h.once.of(p.send) // it is the newest: it cannot have been forgotten
	}
	for _, c := range to {
		d.to(c)
	}
	h.count(&d.tally)
}
