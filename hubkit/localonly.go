package hubkit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gobackplane/backplane"
)

// deliverLocally is Options.LocalWhenDown: what the backplane surely did not take for all, a group or a user goes to
// those of its connections that are here. It turns the errors of the addresses that somebody here got into ErrLocalOnly.
//
// Nobody gets such a message twice: the broker has not taken it, so no copy of it comes. Where another message of the
// same send was taken, the send has an id, by which a connection that both reach takes the first to come (H1).
func (h *Hub) deliverLocally(ctx context.Context, p *plan, content parcel, errs []error) []error {
	errs = slices.Clone(errs)
	var here *parcel // content, with a payload of its own for the outboxes to keep
	for i, to := range p.addresses {
		if !h.down(ctx, errs[i]) {
			continue
		}
		if here == nil {
			own := content
			own.payload = append([]byte{}, content.payload...)
			here = &own
		}
		if t := h.local(to); t != nil && t.deliver(here) > 0 {
			errs[i] = fmt.Errorf("%w: %s", ErrLocalOnly, errs[i].Error()) // it is not ErrUnavailable: somebody heard it
		}
	}
	return errs
}

// down reports whether an error of a publish means that the backplane is down and nobody hears the message. That the
// caller's context ended says nothing of the backplane, unless the backplane does.
func (h *Hub) down(ctx context.Context, err error) bool {
	return errors.Is(err, backplane.ErrUnavailable) && !errors.Is(err, backplane.ErrUncertain) &&
		(ctx.Err() == nil || h.backplaneState() == backplane.Down)
}

// local returns the topic of an address that a send can have, nil if it has no members here.
func (h *Hub) local(to backplane.Address) *topic {
	switch to.Kind() {
	case backplane.KindAll:
		return h.all
	case backplane.KindGroup:
		return h.groups.find(to.Name())
	case backplane.KindUser:
		return h.users.find(to.Name())
	default:
		return nil
	}
}
