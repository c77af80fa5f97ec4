package conformance_test

import (
	"context"
	"fmt"
	"math"
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
		Mute:   func() { broker.Mute(n.ID()) },
		Lose:   func() { broker.Drop(n.ID(), math.MaxInt, nil) },
		Heal:   func() { broker.Heal(n.ID()) },
	}
}

func (b *brokers) stop(_ context.Context, world string) error {
	b.of(conformance.Instance{World: world}).Stop()
	return nil
}

func (b *brokers) start(_ context.Context, world string) error {
	b.of(conformance.Instance{World: world}).Start()
	return nil
}

func inMemory() (conformance.Opener, []conformance.Option) {
	all := &brokers{byWorld: map[string]*inmem.Broker{}}
	open := conformance.Transport(func(in conformance.Instance) transport.Opener { return all.of(in).Opener() }, backplane.Options{})
	return open, []conformance.Option{conformance.Inject(all.faults), conformance.Broker(all.stop, all.start), conformance.Strict("link/slow", "link/torn", "link/last-words", "clock/skew", "open/fails-clean"),
		conformance.Claims(conformance.AbilityCluster, conformance.AbilityHealth)}
}

func TestInMemory(t *testing.T) {
	open, hooks := inMemory()
	conformance.Test(t, open, append(hooks, conformance.Bubble(), conformance.Subject("inmem", ""))...)
}

func TestInMemoryOutsideABubble(t *testing.T) {
	open, hooks := inMemory()
	conformance.Test(t, open, append(hooks, conformance.Short())...)
}

func ExampleRun() {
	broker := inmem.NewBroker()
	open := conformance.Transport(func(conformance.Instance) transport.Opener { return broker.Opener() }, backplane.Options{})
	result := conformance.Run(context.Background(), "order/per-publisher", open, conformance.Short())
	fmt.Println(result.Verdict)
	// Output: proven
}
