package conformance

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gobackplane/backplane"
)

// What a schedule does with the abilities of an instance that has them.

// modelService is what the instances of a schedule are asked.
const modelService = "model"

// join makes an instance answer what schedules ask, and follows its health twice: for each who watches there is another who
// has come or gone.
func (p *play) join(n *instance) {
	if c, is := n.backplane().(backplane.Cluster); is {
		id := c.ID()
		n.answers(modelService, func(_ context.Context, from backplane.NodeID, request []byte) ([]byte, error) {
			return said(id, from, request), nil
		})
	}
	if _, tells := n.reporter(); tells {
		first := n.followHealth()
		watchers := []*healthLog{n.followHealth(), n.followHealth()}
		first.stop()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.watchers = append(p.watchers, watchers...)
	}
}

// said is the answer of one instance to a question of another.
func said(id, from backplane.NodeID, request []byte) []byte {
	return fmt.Appendf(nil, "%s heard %q from %s", id, request, from)
}

// ask asks all members. Whoever is there from before to after, and is known to the one who asks, answers, once, unless
// something has happened to a link; and nobody ever says what was not asked.
func (p *play) ask(n *instance) {
	if _, is := n.backplane().(backplane.Cluster); !is {
		return
	}
	before, known := p.open(), n.ids()
	request := p.w.rec.question(n.id)
	ctx, cancel := p.patient(n)
	answers, err := n.askAll(ctx, modelService, request)
	cancel()
	if p.must(n, "AskAll", err); err != nil {
		return
	}
	after, id := p.open(), n.cluster().ID()
	heard := map[backplane.NodeID]bool{}
	for _, a := range answers {
		switch {
		case heard[a.Node]:
			p.w.fatalf("%s asked all, and has two answers of %s", n.name, p.nameOf(a.Node))
		case a.Err == nil && !bytes.Equal(a.Payload, said(a.Node, id, request)):
			p.w.fatalf("%s asked all %q, and of %s it has the answer %q", n.name, request, p.nameOf(a.Node), a.Payload)
		}
		heard[a.Node] = a.Err == nil
	}
	for _, other := range before {
		if p.troubled.Load() || n.closing() || other.closing() || !slices.Contains(after, other) {
			continue
		}
		if of := other.cluster().ID(); slices.Contains(known, of) && !heard[of] {
			p.w.fatalf("%s asked all, and %s, which nothing had happened to, has not answered", n.name, other.name)
		}
	}
	p.w.check()
}

// nameOf is the name of the instance that has an id.
func (p *play) nameOf(id backplane.NodeID) string {
	for _, n := range p.w.allInstances() {
		if c, is := n.backplane().(backplane.Cluster); is && c.ID() == id {
			return n.name
		}
	}
	return string(id)
}

// open returns the instances that are there.
func (p *play) open() (all []*instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seats {
		if s.n != nil {
			all = append(all, s.n)
		}
	}
	return all
}

// together waits until everybody who is left lists all the others and is up, and has told so to all who watch. After a fault that
// may take the time in which somebody who fell silent is given up, which a schedule has in a bubble and in a soak.
func (p *play) together() {
	if p.troubled.Load() && !p.w.suite.bubble && p.w.suite.soak == 0 {
		return
	}
	all := p.open()
	for _, n := range all {
		if _, is := n.backplane().(backplane.Cluster); is {
			p.w.inTime(memberTimeout, n.name+" to list all who are left and nobody else", func() bool { return n.knows(all) })
		}
	}
	for _, n := range all {
		if _, tells := n.reporter(); tells {
			p.w.inTime(memberTimeout, n.name+" to be up again", func() bool { return n.health().State == backplane.Up })
		}
	}
	p.mu.Lock()
	watchers := slices.Clone(p.watchers)
	p.mu.Unlock()
	for _, l := range watchers {
		if slices.Contains(all, l.n) {
			p.w.inTime(time.Second, l.n.name+" to tell everybody who watches that it is up", func() bool { return l.last() == backplane.Up })
		}
	}
}
