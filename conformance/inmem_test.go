package conformance_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
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
	broker := b.of(in)
	return conformance.Faults{
		Cut:    func() { broker.Cut(n.ID()) },
		Hang:   func() { broker.Hang(n.ID()) },
		Deafen: func() { broker.Deafen(n.ID()) },
		Heal:   func() { broker.Heal(n.ID()) },
	}
}

func inMemory() (conformance.Opener, conformance.Option) {
	all := &brokers{byWorld: map[string]*inmem.Broker{}}
	open := conformance.Transport(func(in conformance.Instance) transport.Opener { return all.of(in).Opener() }, backplane.Options{})
	return open, conformance.Inject(all.faults)
}

func TestInMemory(t *testing.T) {
	open, faults := inMemory()
	conformance.Test(t, open, faults, conformance.Bubble(), conformance.Strict())
}

func TestInMemoryOutsideABubble(t *testing.T) {
	open, faults := inMemory()
	conformance.Test(t, open, faults, conformance.Short(), conformance.Strict())
}

func ExampleRun() {
	broker := inmem.NewBroker()
	open := conformance.Transport(func(conformance.Instance) transport.Opener { return broker.Opener() }, backplane.Options{})
	result := conformance.Run(context.Background(), "order/per-publisher", open, conformance.Short())
	fmt.Println(result.Verdict)
	// Output: proven
}
