package hubkit

import (
	"context"
	"fmt"
	"strings"

	"github.com/gobackplane/backplane"
)

// Join puts connections into a group, on whatever instances they are: all that the target names. When it returns nil, every
// send to the group that starts afterwards, on any instance, is delivered to each of them. It returns how many were not in the
// group before. Joining twice is joining once; connections made later are not put in.
//
// Of this and the other operations ([Hub.Leave], [Hub.LeaveAll], [Hub.Disconnect]): they return when they are effective
// everywhere concerned. What names groups, users or all asks every instance; connection ids concern their home only. Where a
// target of one connection fails, the error says which of four things happened:
//
//   - [ErrNotFound]: there is no such connection any more. Its home said so, or said goodbye.
//   - [backplane.ErrNodeLost]: its home is silent. The connection may live, and the operation may have been done.
//   - [backplane.ErrUnavailable]: this node's own link to the broker is down, or for a join the home's. Nothing was done.
//   - [backplane.ErrTimeout]: no answer before the context ended. It may have been done, or be done still; but a later operation
//     of this hub that reaches the same instance is applied after it.
//
// Others are [backplane.ErrBusy] (the home does too much at once; nothing was done), ErrUnsupported (its version cannot do it, or
// this backplane has no [backplane.Cluster]), ErrDenied for a join, and ErrClosed for this hub's end; ErrInvalidAddress and
// [ErrInvalidTarget] come before anything is done. With larger targets the error holds a [*PartialError] that names the
// instances and connections that failed; the others were done, and are counted. While this instance is settling, what
// concerns all instances ends with such an error too, because one that is not known yet may be missing.
//
// Without a deadline an operation takes at most 10 s, and a minute with one. No operation waits behind a handler, or for a slow
// connection.
func (h *Hub) Join(ctx context.Context, of Target, group string) (changed int, err error) {
	if err := backplane.Group(group).In(h.name).Validate(); err != nil {
		return 0, h.fail("join", err)
	}
	return h.operate(ctx, "join", of, operation{kind: askJoin, group: group})
}

// Leave takes connections out of a group. When it returns nil, nothing more of that group enters their outboxes. It returns
// how many were in the group. The rest is as with [Hub.Join].
func (h *Hub) Leave(ctx context.Context, of Target, group string) (changed int, err error) {
	if err := backplane.Group(group).In(h.name).Validate(); err != nil {
		return 0, h.fail("leave", err)
	}
	return h.operate(ctx, "leave", of, operation{kind: askLeave, group: group})
}

// LeaveAll takes connections out of all their groups, as [Hub.Leave] does out of each; they stay connected, and their users'. It
// returns how many were in any. A group that a connection is in by a membership of its user ([Hub.JoinUser]) is none that it keeps;
// but the membership itself goes on: connections made later are in the group, and these are again when the user is joined
// again. [Hub.LeaveUser] ends it. The rest is as with [Hub.Join].
func (h *Hub) LeaveAll(ctx context.Context, of Target) (changed int, err error) {
	return h.operate(ctx, "leave all", of, operation{kind: askLeaveAll})
}

// Disconnect ends connections, as [Connection.Disconnect] does. When it returns nil they are in no group, nothing more
// enters their outboxes, and what waited there is discarded, also where [Hub.Drain] had closed one and was only writing that
// out. It returns how many it ended: a second call finds none, which for a single connection id is [ErrNotFound]. Reason.Err stays
// here. The rest is as with [Hub.Join].
//
// With [Options.Resume], a disconnect whose reason does not ask the client to come back ends its session, also one with the zero Reason, which
// in [Connection.Disconnect] says that the client left by itself: its resume tokens are refused on every
// instance, also those of clients that are away just now and were connected to an instance that is reached; these are not counted. What asks it
// to come back is [ReasonGoingAway], [ReasonSlow] and [ReasonFailed]. It returns when that is in the backplane's store, where it has one, and known
// to whoever can be reached, or after two seconds: an instance or a store that cannot be reached then is told later.
func (h *Hub) Disconnect(ctx context.Context, of Target, reason Reason) (changed int, err error) {
	reason.Text = reason.text()
	return h.operate(ctx, "disconnect", of, operation{kind: askDisconnect, reason: reason})
}

// text returns the text as it is told to a client.
func (r Reason) text() string {
	return strings.ToValidUTF8(r.Text[:min(len(r.Text), maxReasonText)], "")
}

func (h *Hub) operate(ctx context.Context, name string, of Target, op operation) (changed int, err error) {
	if err = h.enter(); err != nil {
		return 0, h.fail(name, err)
	}
	defer h.leave()
	changed, err = h.operateAt(ctx, of, op)
	if err = h.orClosed(err); err != nil {
		return changed, h.fail(name, err)
	}
	return changed, nil
}

// operateAt does an operation everywhere concerned.
func (h *Hub) operateAt(ctx context.Context, of Target, op operation) (changed int, err error) {
	s, at, wide, err := h.selection(of)
	if err != nil {
		return 0, err
	}
	if foreign := len(at) > 1 || len(at) == 1 && at[h.home] == nil; h.cluster == nil && (wide || foreign) {
		return 0, errNoCluster
	}
	ctx, cancel := askContext(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	op.origin = h.origin
	op.number, op.floor = h.issued.begin()
	defer h.issued.end(op.number)

	var missed Coverage
	// Those named by id come first: a disconnect of their group would make them unknown to their homes.
	for _, r := range inParallel(at.list(), func(at homeIDs) atHome { return h.operateAtHome(ctx, op, at) }) {
		changed += r.changed
		missed.Missing = append(missed.Missing, r.failed...)
	}
	if !wide {
		if len(of.Connections) == 1 && len(missed.Missing) == 1 {
			return changed, missed.Missing[0].Err
		}
		return changed, missed.err()
	}
	op.of = s
	n, more, err := h.operateEverywhere(ctx, &op)
	switch {
	case err != nil && len(at) == 0:
		return 0, err
	case err != nil:
		more.Missing = append(more.Missing, FailedNode{Err: err})
	}
	missed.Missing, missed.Settling = append(missed.Missing, more.Missing...), more.Settling
	return changed + n, missed.err()
}

// operateEverywhere asks all instances to do an operation.
func (h *Hub) operateEverywhere(ctx context.Context, op *operation) (changed int, missed Coverage, err error) {
	answers, missed, err := h.askEverybody(ctx, op.encode())
	for _, s := range answers {
		a, unread := decodeApplied(s.answer)
		if unread != nil {
			missed.Missing = append(missed.Missing, FailedNode{Node: s.node, Err: unread})
			continue
		}
		changed += a.changed
	}
	return changed, missed, err
}

// atHome is what became of an operation at the home of connections.
type atHome struct {
	changed int
	failed  []FailedNode
}

// operateAtHome does an operation with connections of one home.
func (h *Hub) operateAtHome(ctx context.Context, op operation, at homeIDs) atHome {
	op.of = selection{connections: newIDList(at.ids)}
	a, err := h.appliedAt(ctx, at.node, &op)
	r := atHome{changed: a.changed}
	if err != nil {
		r.failed = append(r.failed, FailedNode{Node: at.node, Label: h.labels()[at.node], Connections: at.ids, Err: err})
		return r
	}
	if len(a.absent) > 0 {
		gone := FailedNode{Node: at.node, Err: ErrNotFound}
		for id := range a.absent.all() {
			gone.Connections = append(gone.Connections, string(id))
		}
		r.failed = append(r.failed, gone)
	}
	return r
}

// appliedAt does an operation with connections of one home, here or there.
func (h *Hub) appliedAt(ctx context.Context, node backplane.NodeID, op *operation) (applied, error) {
	if node == h.home {
		return h.apply(ctx, op, func(ctx context.Context, t *topic) error { return t.ensure(ctx) })
	}
	s := h.askNode(ctx, node, op.encode())
	switch {
	case s.nobody: // the node is there and has no such hub: its connections are gone
		return applied{}, fmt.Errorf("%w: node %s has no such hub any more", ErrNotFound, node)
	case s.err != nil:
		return applied{}, s.err
	default:
		return decodeApplied(s.answer)
	}
}
