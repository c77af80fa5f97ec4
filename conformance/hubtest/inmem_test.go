package hubtest_test

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

func TestInMemory(t *testing.T) {
	hubtest.Test(t, inMemory(), hubtest.Bubble(), hubtest.Strict())
}
