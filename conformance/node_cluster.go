package conformance

import (
	"context"
	"slices"

	"github.com/gobackplane/backplane"
)

// cluster is the instance as a member of its cluster; the property that calls it names the ability.
func (n *instance) cluster() backplane.Cluster {
	c, is := n.backplane().(backplane.Cluster)
	if !is {
		n.w.without("the backplane is no "+string(AbilityCluster), NotClaimed)
	}
	return c
}

// ids returns the ids of the members that the instance knows.
func (n *instance) ids() []backplane.NodeID {
	var ids []backplane.NodeID
	for _, m := range n.cluster().Members() {
		ids = append(ids, m.ID)
	}
	return ids
}

// ask asks one node.
func (n *instance) ask(ctx context.Context, node backplane.NodeID, service string, request []byte) (answer []byte, err error) {
	defer n.w.while("Ask of " + n.name)()
	n.labelled(func() { answer, err = n.cluster().Ask(ctx, node, service, request) })
	return answer, err
}

// askAll asks all members.
func (n *instance) askAll(ctx context.Context, service string, request []byte) (answers []backplane.Answer, err error) {
	defer n.w.while("AskAll of " + n.name)()
	n.labelled(func() { answers, err = n.cluster().AskAll(ctx, service, request) })
	return answers, err
}

// answers lets the instance answer questions for a service.
func (n *instance) answers(service string, f backplane.AnswerFunc) (stop func()) {
	n.labelled(func() { stop = n.cluster().Answer(service, f) })
	return stop
}

// knows reports whether the instance lists just these others and itself.
func (n *instance) knows(all []*instance) bool {
	var want []backplane.NodeID
	for _, other := range all {
		want = append(want, other.cluster().ID())
	}
	slices.Sort(want)
	have := n.ids()
	slices.Sort(have)
	return slices.Equal(have, want)
}

// listsInOrder fails the property if the list of members is not what its documentation says: sorted, with this instance
// marked, and with times that stay.
func (n *instance) listsInOrder() {
	first := n.cluster().Members()
	for i, m := range first {
		switch {
		case m.Self != (m.ID == n.cluster().ID()):
			n.w.fatalf("%s lists %s with Self %v", n.name, m.ID, m.Self)
		case i > 0 && m.ID <= first[i-1].ID:
			n.w.fatalf("%s lists %s after %s; members are sorted by id", n.name, m.ID, first[i-1].ID)
		case m.Since.IsZero():
			n.w.fatalf("%s lists %s, and does not say since when", n.name, m.ID)
		}
	}
	for _, m := range n.cluster().Members() {
		i := slices.IndexFunc(first, func(other backplane.Member) bool { return other.ID == m.ID })
		if i >= 0 && !first[i].Since.Equal(m.Since) {
			n.w.fatalf("%s lists %s since another time, when it is asked again", n.name, m.ID)
		}
	}
}
