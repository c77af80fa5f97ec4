package hubkit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gobackplane/backplane"
)

// Count is how many connections there are of a target.
type Count struct {
	Connections int
	// Instances are those that have any, sorted by node.
	Instances []InstanceCount
	Coverage
}

// InstanceCount is one instance's part of a Count.
type InstanceCount struct {
	Node        backplane.NodeID
	Label       string // its Options.Label
	Connections int
}

// add adds what an instance has; its parts follow one another.
func (c *Count) add(node backplane.NodeID, label string, n int) {
	if n == 0 {
		return
	}
	c.Connections += n
	if k := len(c.Instances) - 1; k >= 0 && c.Instances[k].Node == node {
		c.Instances[k].Connections += n
		return
	}
	c.Instances = append(c.Instances, InstanceCount{Node: node, Label: label, Connections: n})
}

// Count asks all instances how many connections a target means, each counted once. The count is that of the instances
// that answered; [Coverage] names the others. An instance that has died is not asked any more, and is not missed: its
// connections are gone with it. The error is that of the call itself: ErrInvalidAddress, [ErrInvalidTarget], ErrUnsupported
// over a backplane without [backplane.Cluster], ErrUnavailable where this node's own link is down, ErrClosed. Without a
// deadline the call takes at most 10 s, and a minute with one.
func (h *Hub) Count(ctx context.Context, of Target) (Count, error) {
	if err := h.enter(); err != nil {
		return Count{}, h.fail("count", err)
	}
	defer h.leave()
	c, err := h.counted(ctx, of)
	if err = h.orClosed(err); err != nil {
		return Count{}, h.fail("count", err)
	}
	return c, nil
}

// Exists reports whether a target means anybody: whether a connection exists, with [ToConnections]; whether a user is online,
// with [ToUsers]; whether a group has members, with [ToGroups]. A connection concerns its home only, everything else asks all
// instances. What it returns without an error is certain: where nobody was found and an instance is missing, or this one is
// settling, the error holds a [*PartialError]; for a connection it is one of those that [Hub.Join] describes, but never
// [ErrNotFound].
func (h *Hub) Exists(ctx context.Context, of Target) (bool, error) {
	if err := h.enter(); err != nil {
		return false, h.fail("exists", err)
	}
	defer h.leave()
	found, err := h.exists(ctx, of)
	if err = h.orClosed(err); err != nil {
		return false, h.fail("exists", err)
	}
	return found, nil
}

// counted is Count without its frame.
func (h *Hub) counted(ctx context.Context, of Target) (Count, error) {
	s, at, wide, err := h.selection(of)
	if err != nil {
		return Count{}, err
	}
	ctx, cancel := askContext(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	var c Count
	var answers []said
	if wide {
		s.connections = at.all()
		answers, c.Coverage, err = h.askEverybody(ctx, countQuestion(&s))
	} else {
		answers, c.Coverage, err = h.countAt(ctx, at)
	}
	if err != nil {
		return Count{}, err
	}
	labels := h.labels()
	for _, a := range answers {
		n, _, ok := cutUvarint(a.answer)
		if !ok || n > maxCount {
			c.Missing = append(c.Missing, FailedNode{Node: a.node, Label: labels[a.node], Err: fmt.Errorf("%w: a count", errBroken)})
			continue
		}
		c.add(a.node, labels[a.node], int(n))
	}
	return c, nil
}

// exists returns true, or an error where it cannot be certain.
func (h *Hub) exists(ctx context.Context, of Target) (bool, error) {
	c, err := h.counted(ctx, of)
	switch {
	case err != nil:
		return false, err
	case c.Connections > 0:
		return true, nil
	case len(of.Connections) == 1 && !of.All && len(of.Groups)+len(of.Users) == 0 && len(c.Missing) == 1:
		return false, c.Missing[0].Err
	default:
		return false, c.err()
	}
}

// countAt asks the homes of connections how many there are. A home that has left, or has no such hub, has none.
func (h *Hub) countAt(ctx context.Context, at homes) (answers []said, missed Coverage, err error) {
	if len(at) > 0 && h.cluster == nil && (len(at) > 1 || at[h.home] == nil) {
		return nil, missed, errNoCluster
	}
	list := at.list()
	asked := inParallel(list, func(at homeIDs) said {
		s := selection{connections: newIDList(at.ids)}
		if at.node == h.home {
			return said{node: h.home, answer: h.countHere(&s)}
		}
		return h.askNode(ctx, at.node, countQuestion(&s))
	})
	labels := h.labels()
	for i, a := range asked {
		switch {
		case a.nobody, errors.Is(a.err, ErrNotFound):
		case a.err != nil:
			missed.Missing = append(missed.Missing, FailedNode{Node: a.node, Label: labels[a.node], Connections: list[i].ids, Err: a.err})
		default:
			answers = append(answers, a)
		}
	}
	return answers, missed, nil
}

func countQuestion(s *selection) []byte { return s.append([]byte{questionVersion, askCount}) }

func (h *Hub) answerCount(b []byte) ([]byte, error) {
	var s selection
	if _, err := s.cut(b); err != nil {
		return nil, err
	}
	return append(newAnswer(statusOK), h.countHere(&s)...), nil
}

// countHere counts the connections of this instance.
func (h *Hub) countHere(s *selection) []byte {
	n := uint64(0)
	h.visit(s, func(*Connection) { n++ })
	return binary.AppendUvarint(nil, n)
}

// all lists the ids of all homes.
func (m homes) all() (ids idList) {
	for _, at := range m.list() {
		for _, id := range at.ids {
			ids = appendID(ids, id)
		}
	}
	return ids
}
