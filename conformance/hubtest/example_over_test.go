package hubtest_test //nolint:testableexamples // TestInMemory runs it

import (
	"sync"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// brokers holds an in-memory broker for each world of the suite.
type brokers struct {
	mu      sync.Mutex
	byWorld map[string]*inmem.Broker // guarded by mu
}

func (b *brokers) of(in conformance.Instance) *inmem.Broker {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byWorld[in.World] == nil {
		b.byWorld[in.World] = inmem.NewBroker()
	}
	return b.byWorld[in.World]
}

// faults makes the link of one instance fail, for the suite to see what its hub does then.
func (b *brokers) faults(in conformance.Instance, bp backplane.Backplane) conformance.Faults {
	n, ours := bp.(*backplane.Node)
	if !ours {
		return conformance.Faults{}
	}
	id := n.ID()
	return conformance.Faults{
		Cut:  func() { b.of(in).Cut(id) },
		Hang: func() { b.of(in).Hang(id) },
		Heal: func() { b.of(in).Heal(id) },
	}
}

// inMemory opens hubs of hubkit over in-memory brokers.
func inMemory() hubtest.Opener {
	all := &brokers{byWorld: map[string]*inmem.Broker{}}
	open := conformance.Transport(func(in conformance.Instance) transport.Opener { return all.of(in).Opener() }, backplane.Options{})
	return hubtest.Over(open, all.faults)
}

// An in-memory broker has no sockets that the suite could cut, so it is given the faults.
func ExampleOver() {
	var t *testing.T // the test function's
	hubtest.Test(t, inMemory(), hubtest.Bubble(), hubtest.Strict())
}
