package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance/internal/mutant"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/routed"
	"github.com/gobackplane/backplane/transport"
)

// The suite is measured by the broken backplanes that it catches: each of package mutant has to fail the property that it
// names, and each property has to catch one at least.

// opensInMemory is the property that is exercised in part only where nothing is dialled: nothing makes Open fail.
const opensInMemory = "open/fails-clean"

// kill is what came of a mutant.
type kill struct {
	mutant  mutant.Mutant
	verdict Verdict
	err     error
	history history
}

// gate returns what is wrong with the suite, seen by what became of the mutants.
func gate(properties []Property, kills []kill) (wrong []string) {
	caught := map[string]int{}
	for _, k := range kills {
		p, err := find(k.mutant.Breaks)
		var f *Failure
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Sprintf("%s names %q, which is no property", k.mutant.Name, k.mutant.Breaks))
		case k.mutant.Strict && k.verdict == NotExercised: // which Strict makes a failure
			caught[p.ID]++
		case k.verdict != Failed || !errors.As(k.err, &f):
			wrong = append(wrong, fmt.Sprintf("%s (%s) survives %s: %v, %v", k.mutant.Name, k.mutant.Defect, p.ID, k.verdict, k.err))
		case !strings.Contains(k.err.Error(), p.Says):
			wrong = append(wrong, fmt.Sprintf("%s is caught by %s, but the failure does not tell the promise:\n%v", k.mutant.Name, p.ID, k.err))
		case f.watchdog:
			wrong = append(wrong, fmt.Sprintf("%s is caught by the watchdog, not by %s:\n%v", k.mutant.Name, p.ID, k.err))
		case f.Rule != "" && !slices.Contains(p.about, f.Rule):
			wrong = append(wrong, fmt.Sprintf("%s is caught by the rule %q, which %s is not about:\n%v", k.mutant.Name, f.Rule, p.ID, k.err))
		default:
			caught[p.ID]++
		}
	}
	for _, p := range properties {
		if caught[p.ID] == 0 {
			wrong = append(wrong, p.ID+" catches no mutant, and so proves nothing")
		}
	}
	return wrong
}

// center is what the instances of a world meet at.
type center struct {
	opener      func() transport.Opener // for the next instance
	faults      func(transport.NodeID) mutant.Faults
	stop, start func()
}

func newCenter(cluster bool) *center {
	if cluster {
		return newClusterCenter()
	}
	b := inmem.NewBroker()
	return &center{
		opener: b.Opener,
		faults: func(id transport.NodeID) mutant.Faults {
			return mutant.Faults{
				Cut:    func() { b.Cut(id) },
				Hang:   func() { b.Hang(id) },
				Deafen: func() { b.Deafen(id) },
				Mute:   func() { b.Mute(id) },
				Lose:   func() { b.Drop(id, math.MaxInt, nil) },
				Heal:   func() { b.Heal(id) },
			}
		},
		stop: b.Stop, start: b.Start,
	}
}

// newClusterCenter has five servers, and the next instance is connected to the next of them. The last two are far away.
func newClusterCenter() *center {
	const servers, near = 5, 3
	c := routed.New(routed.Options{Servers: servers, Latency: 5 * time.Millisecond, Jitter: 20 * time.Millisecond, PerByte: time.Nanosecond, Seed: 1})
	for far := near; far < servers; far++ {
		for other := range far {
			c.SetLatency(far, other, 100*time.Millisecond)
		}
	}
	var next atomic.Int64
	each := func(do func(int)) func() {
		return func() {
			for i := range servers {
				do(i)
			}
		}
	}
	return &center{
		opener: func() transport.Opener { return c.Opener(int(next.Add(1)-1) % servers) },
		faults: func(id transport.NodeID) mutant.Faults {
			rejoin := func() {}
			return mutant.Faults{
				Cut:       func() { c.CutNode(id) },
				Hang:      func() { c.Hang(id) },
				Deafen:    func() { c.Deafen(id) },
				Mute:      func() { c.Mute(id) },
				Lose:      func() { c.Lose(id) },
				Partition: func() { rejoin = c.Part(id) },
				Heal: func() {
					rejoin()
					c.HealNode(id)
				},
			}
		},
		stop: each(c.Stop), start: each(c.Start),
	}
}

// opener returns an opener of a mutant's instances, each world on a broker of its own, and the faults.
func opener(m mutant.Mutant) (Opener, Option) {
	var mu sync.Mutex
	worlds := map[string]*mutant.World{}
	brokers := map[string]*center{}
	nodes := map[string]*mutant.Node{} // by the address that they dial
	open := func(ctx context.Context, in Instance) (backplane.Backplane, error) {
		mu.Lock()
		w, b := worlds[in.World], brokers[in.World]
		if w == nil {
			b = newCenter(m.Cluster)
			w = m.World(func(ctx context.Context, i mutant.Instance) (*backplane.Node, error) {
				return backplane.Open(ctx, w.Transport(b.opener()), backplane.Options{Namespace: i.Namespace, Label: i.Name, Logger: in.Logger})
			})
			worlds[in.World], brokers[in.World] = w, b
		}
		mu.Unlock()
		n, err := w.Open(ctx, mutant.Instance{Namespace: in.Namespace, Name: in.Name, Now: in.Now, Dial: func(ctx context.Context) (net.Conn, error) {
			return in.Dial(ctx, "pipe", in.World+in.Name)
		}})
		if err != nil {
			return nil, err
		}
		mu.Lock()
		nodes[in.World+in.Name] = n
		mu.Unlock()
		if m.Bare {
			return struct{ backplane.Backplane }{n}, nil
		}
		return n, nil
	}
	inject := func(in Instance, bp backplane.Backplane) Faults {
		n, ours := bp.(*mutant.Node)
		if !ours {
			return Faults{}
		}
		mu.Lock()
		b := brokers[in.World]
		mu.Unlock()
		return Faults(n.Faults(b.faults(n.Node.ID())))
	}
	stop := func(_ context.Context, world string) error {
		mu.Lock()
		defer mu.Unlock()
		brokers[world].stop()
		return nil
	}
	start := func(_ context.Context, world string) error {
		mu.Lock()
		defer mu.Unlock()
		worlds[world].Restarted()
		brokers[world].start()
		return nil
	}
	return open, func(s *settings) {
		if m.Cluster {
			Baselines()(s)
		}
		Inject(inject)(s)
		Broker(stop, start)(s)
		s.dial = func(_ context.Context, _, address string) (net.Conn, error) {
			near, far := net.Pipe()
			mu.Lock()
			defer mu.Unlock()
			go nodes[address].Serve(far)
			return near, nil
		}
	}
}

// face runs a property over a mutant, in a bubble, or in a child process where the property ends it.
func face(t *testing.T, p Property, m mutant.Mutant) kill {
	t.Helper()
	open, faults := opener(m)
	opts := []Option{faults, Bubble(), Seed(1), Claims(AbilityCluster, AbilityHealth), Child(facing(t.Context(), m))}
	if p.Needs&NeedTime == 0 && !m.Full {
		opts = append(opts, Short())
	}
	s := newSuite(open, opts)
	k := kill{mutant: m}
	switch {
	case s.apart(p):
		r := s.prove(t.Context(), p)
		k.verdict, k.err, k.history = r.Verdict, r.Err, r.history
	default:
		r := s.inBubble(t, p)
		k.verdict, k.err, k.history = r.Verdict, r.Err, r.history
	}
	return k
}

const mutantEnv = "CONFORMANCE_MUTANT"

// facing makes the commands by which a mutant faces a property in a child process.
func facing(ctx context.Context, m mutant.Mutant) func(id string) *exec.Cmd {
	return func(string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestMatrixInAChild$", "-test.timeout=1m")
		cmd.Env = append(cmd.Environ(), mutantEnv+"="+m.Name)
		return cmd
	}
}

// TestMatrixInAChild is the child process of TestMatrix.
func TestMatrixInAChild(t *testing.T) {
	name, id := os.Getenv(mutantEnv), os.Getenv(childEnv)
	if name == "" {
		return
	}
	p, err := find(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(mutant.All(), mutant.Mutant{Name: healthy}) {
		if m.Name == name {
			k := face(t, p, m)
			t.Fatalf("the process has not ended: %v, %v", k.verdict, k.err)
		}
	}
	t.Fatalf("no mutant %q", name)
}

const healthy = "healthy"

// faceAll lets each mutant face the property that it names.
func faceAll(t *testing.T, properties []Property) []kill {
	t.Helper()
	var kills []kill
	for _, m := range mutant.All() {
		if i := slices.IndexFunc(properties, func(p Property) bool { return p.ID == m.Breaks }); i >= 0 {
			kills = append(kills, face(t, properties[i], m))
			continue
		}
		if _, err := find(m.Breaks); err != nil {
			kills = append(kills, kill{mutant: m}) // the gate says it
		}
	}
	return kills
}

func TestMatrix(t *testing.T) {
	properties := Properties()
	if underRace { // some of them send or idle much: two of three minutes. Without the race detector all are faced.
		properties = slices.DeleteFunc(properties, func(p Property) bool { return p.Needs&NeedTime != 0 })
	}
	for _, p := range properties {
		well := mutant.Mutant{Name: healthy}
		switch {
		case p.Needs&NeedWire != 0:
			well = mutant.Wired(healthy)
		case p.ID == "clock/skew":
			well = mutant.Stamped(healthy)
		case p.ID == "link/last-words", p.ID == "link/lost-first":
			well.Cluster = true
		}
		want := Proven
		if p.ID == opensInMemory {
			want = NotExercised
		}
		if k := face(t, p, well); k.verdict != want {
			t.Errorf("the healthy backplane, opened like the mutants, fails %s: %v", p.ID, k.err)
		}
	}
	kills := faceAll(t, properties)
	for _, complaint := range gate(properties, kills) {
		t.Error(complaint)
	}
	for _, k := range kills {
		if k.mutant.Name == "" || k.mutant.Defect == "" || len(gate(nil, []kill{k})) > 0 {
			continue
		}
		t.Logf("%-26s %-26s %s", k.mutant.Breaks, k.mutant.Name, firstLine(k))
	}

	if *update && !t.Failed() {
		writeMatrix(t, kills)
	}

	// The suite itself is broken now, in two ways, and the gate has to see it.
	for _, r := range allRules() {
		var blind []kill
		for _, k := range kills {
			blind = append(blind, without(r.name, k))
		}
		if len(gate(properties, blind)) == 0 {
			t.Errorf("if the rule %q always passed, the gate would not notice", r.name)
		}
	}
}

// firstLine is how a mutant was seen.
func firstLine(k kill) string {
	var f *Failure
	if !errors.As(k.err, &f) {
		return k.verdict.String()
	}
	if f.Rule == "" {
		return f.Witness
	}
	return f.Rule + ": " + f.Witness
}

// without is what would have come of a mutant if a rule always passed.
func without(rule string, k kill) kill {
	var f *Failure
	if !errors.As(k.err, &f) || f.Rule != rule {
		return k
	}
	p, err := find(k.mutant.Breaks)
	if err != nil {
		return k
	}
	left := slices.DeleteFunc(judge(k.history), func(v violation) bool { return v.Rule == rule })
	best, broken := choose(left, p)
	if !broken {
		k.verdict, k.err = Proven, nil
		return k
	}
	blind := *f
	blind.Rule, blind.Witness = best.Rule, best.Witness
	k.err = &blind
	return k
}

// A property that opens and subscribes and never publishes proves nothing, and the gate says so.
func TestGateSeesPropertiesThatDoNothing(t *testing.T) {
	properties := Properties()
	for i, p := range properties {
		if p.Needs&(NeedTime|NeedChild) != 0 { // a child process would run the real one
			continue
		}
		idle := slices.Clone(properties)
		idle[i].run = func(w *world) {
			for _, n := range w.openAll(2) {
				n.subscribe(group("room"))
			}
		}
		var kills []kill
		for _, m := range mutant.All() {
			if m.Breaks == p.ID {
				kills = append(kills, face(t, idle[i], m))
			}
		}
		said := strings.Join(gate([]Property{p}, kills), "\n")
		if !strings.Contains(said, p.ID+" catches no mutant") {
			t.Errorf("%s without a publish passes the gate, which says: %s", p.ID, said)
		}
	}
}
