package hubkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

const (
	// askDefault bounds an operation or query whose context has no deadline; askLongest bounds every one.
	askDefault = 10 * time.Second
	askLongest = time.Minute
	// askedAtOnce is how many single nodes one call asks at a time.
	askedAtOnce = 16
)

// askContext bounds an operation or a query.
func askContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); !ok {
		return context.WithTimeout(ctx, askDefault)
	}
	return context.WithTimeout(ctx, askLongest)
}

// settler is the optional ability to tell that not all members are known. [backplane.Node] has it.
type settler interface{ Settling() bool }

// deferrer is the optional ability to answer later. [backplane.Node] has it.
type deferrer interface {
	AnswerDeferred(service string, f backplane.DeferredAnswerFunc) (stop func())
}

// serveQuestions begins to answer other instances, where the backplane has a cluster.
func (h *Hub) serveQuestions() (stop func()) {
	switch bp := h.bp.(type) {
	case deferrer:
		return bp.AnswerDeferred(service(h.name), h.answer)
	case backplane.Cluster:
		return bp.Answer(service(h.name), func(ctx context.Context, from backplane.NodeID, question []byte) ([]byte, error) {
			answered := make(chan []byte, 1)
			h.answer(ctx, from, question, func(answer []byte, _ error) { answered <- answer })
			select {
			case answer := <-answered:
				return answer, nil
			case <-ctx.Done():
				return newAnswer(statusTimeout), nil
			}
		})
	default:
		return func() {}
	}
}

// orClosed returns ErrClosed in place of an error where the hub was closed meanwhile.
func (h *Hub) orClosed(err error) error {
	if err != nil && h.closing.Err() != nil {
		return backplane.ErrClosed
	}
	return err
}

// settling reports whether there may be instances that are not known.
func (h *Hub) settling() bool {
	s, ok := h.bp.(settler)
	return ok && s.Settling()
}

// labels returns the labels of all members.
func (h *Hub) labels() map[backplane.NodeID]string {
	labels := make(map[backplane.NodeID]string)
	if h.cluster != nil {
		for _, m := range h.cluster.Members() {
			labels[m.ID] = m.Label
		}
	}
	return labels
}

// said is what one instance answered: the rest of the answer, or why there is none.
type said struct {
	node   backplane.NodeID
	answer []byte
	err    error
	nobody bool // there is no such hub, or not any more
}

// hears makes of a node's answer what it said.
func hears(node backplane.NodeID, answer []byte, err error) said {
	s := said{node: node}
	if s.nobody, s.err = outcome(node, err); s.err != nil || s.nobody {
		return s
	}
	s.answer, s.err = readAnswer(answer)
	switch {
	case s.err == nil:
	case errors.Is(s.err, backplane.ErrClosed):
		s.err, s.nobody = nil, true
	default:
		s.err = fmt.Errorf("%w: node %s", s.err, node)
	}
	return s
}

// askNode asks one instance.
func (h *Hub) askNode(ctx context.Context, node backplane.NodeID, question []byte) said {
	answer, err := h.cluster.Ask(ctx, node, service(h.name), question)
	return hears(node, answer, err)
}

// askEverybody asks all instances that have such a hub, this one included. The error is this node's own; then nobody was asked.
// An instance that has left in the meantime is no miss.
func (h *Hub) askEverybody(ctx context.Context, question []byte) (answers []said, missing Coverage, err error) {
	if h.cluster == nil {
		return nil, missing, errNoCluster
	}
	missing.Settling = h.settling()
	labels := h.labels()
	all, err := h.cluster.AskAll(ctx, service(h.name), question)
	if err != nil {
		return nil, missing, err
	}
	for _, a := range all {
		s := hears(a.Node, a.Payload, a.Err)
		switch {
		case s.nobody, errors.Is(a.Err, backplane.ErrNodeLeft):
		case s.err != nil:
			missing.Missing = append(missing.Missing, FailedNode{Node: a.Node, Label: labels[a.Node], Err: s.err})
		default:
			answers = append(answers, s)
		}
	}
	missing.Settling = missing.Settling || h.settling()
	return answers, missing, nil
}

var errNoCluster = fmt.Errorf("%w: this backplane cannot ask other instances", backplane.ErrUnsupported)

// homes are the connections that a target names by id, by the node that they belong to.
type homes map[backplane.NodeID][]string

// list returns the homes in order, each with at most maxInboxIDs connections.
func (m homes) list() []homeIDs {
	var list []homeIDs
	for node, ids := range m {
		for part := range slices.Chunk(ids, maxInboxIDs) {
			list = append(list, homeIDs{node, part})
		}
	}
	slices.SortFunc(list, func(a, b homeIDs) int { return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.ids[0], b.ids[0])) })
	return list
}

type homeIDs struct {
	node backplane.NodeID
	ids  []string
}

// selection checks a target and takes it apart: what every instance has to be asked for, and the connections named by id. wide is
// false where nothing but ids are named.
func (h *Hub) selection(to Target) (s selection, at homes, wide bool, err error) {
	except, err := exceptSet(to.Except)
	if err != nil {
		return s, nil, false, err
	}
	var p plan
	if err := p.name(h, to.Groups, backplane.Group); err != nil {
		return s, nil, false, err
	}
	if err := p.name(h, to.Users, backplane.User); err != nil {
		return s, nil, false, err
	}
	for _, id := range distinct(to.Connections) {
		home, ok := homeOf(id)
		if !ok {
			return s, nil, false, fmt.Errorf("%w: %.64q is no connection id", ErrInvalidTarget, id)
		}
		if _, left := except[id]; left || to.All {
			continue
		}
		if at == nil {
			at = make(homes)
		}
		at[home] = append(at[home], id)
	}
	s.except = newIDList(to.Except)
	switch {
	case to.All:
		s.all = true
	default:
		s.groups, s.users = newIDList(distinct(to.Groups)), newIDList(distinct(to.Users))
	}
	return s, at, s.all || len(s.groups) > 0 || len(s.users) > 0, nil
}

// inParallel calls f for each item, for several at a time, and returns what it returned in the same order.
func inParallel[T, R any](items []T, f func(T) R) []R {
	results := make([]R, len(items))
	if len(items) == 1 {
		results[0] = f(items[0])
		return results
	}
	free := make(chan struct{}, askedAtOnce)
	var all sync.WaitGroup
	for i, item := range items {
		free <- struct{}{}
		all.Go(func() {
			results[i] = f(item)
			<-free
		})
	}
	all.Wait()
	return results
}
