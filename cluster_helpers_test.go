package backplane_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/internal/routed"
	"github.com/gobackplane/backplane/transport"
)

// lan are three servers whose routes take 5 to 25 ms, which is slow, so that every race is lost that can be.
func lan(seed uint64) *routed.Cluster {
	return routed.New(routed.Options{Servers: 3, Latency: 5 * time.Millisecond, Jitter: 20 * time.Millisecond, Seed: seed})
}

// openAt opens a node at a server, for the length of the test.
func openAt(t *testing.T, c *routed.Cluster, server int, label ...string) *backplane.Node {
	t.Helper()
	return openOver(t, c.Opener(server), label...)
}

func openOver(t *testing.T, o transport.Opener, label ...string) *backplane.Node {
	t.Helper()
	n, err := backplane.Open(t.Context(), o, backplane.Options{Label: strings.Join(label, " ")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// unclustered hides that the broker is several servers.
func unclustered(open transport.Opener) transport.Opener {
	return func(c transport.Config) (transport.Transport, error) {
		tr, err := open(c)
		return struct{ transport.Transport }{tr}, err
	}
}

// told is what was published by several nodes to several subscriptions, and what they heard, for judging later.
type told struct {
	t     *testing.T
	mu    sync.Mutex // guards what follows
	ticks int
	said  map[backplane.NodeID][]*word
	ears  []*listening
}

// word is a message that was taken.
type word struct {
	to   backplane.Address
	text string
	at   int // where in the order of all that happened Publish was called
}

// listening is a subscription.
type listening struct {
	name   string
	to     backplane.Address
	at     int // when Subscribe had returned
	left   bool
	events []hearing
	sub    backplane.Subscription
}

type hearing struct {
	text string
	gap  *backplane.Gap
	at   int
}

// clock orders what happens, in a bubble as well, where much happens at the same time. The caller holds mu.
func (w *told) clock() int {
	w.ticks++
	return w.ticks
}

// nameOf is a node's label, or its id.
func nameOf(n *backplane.Node) string {
	for _, m := range n.Members() {
		if m.Self && m.Label != "" {
			return m.Label
		}
	}
	return string(n.ID())
}

func newTold(t *testing.T) *told {
	t.Helper()
	return &told{t: t, said: map[backplane.NodeID][]*word{}}
}

// say publishes, which must succeed.
func (w *told) say(n *backplane.Node, to backplane.Address) {
	w.t.Helper()
	if err := w.try(n, to); err != nil {
		w.t.Errorf("publish: %v", err)
	}
}

// try publishes; what is not taken is not said.
func (w *told) try(n *backplane.Node, to backplane.Address) error {
	w.mu.Lock()
	m := &word{to: to, at: w.clock()}
	m.text = fmt.Sprintf("%s %v #%d", nameOf(n), to, m.at)
	w.mu.Unlock()
	if err := n.Publish(w.t.Context(), to, []byte(m.text)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said[n.ID()] = append(w.said[n.ID()], m)
	return nil
}

// listen subscribes, which must succeed.
func (w *told) listen(n *backplane.Node, to backplane.Address) *listening {
	w.t.Helper()
	e := &listening{name: fmt.Sprintf("%s on %v", nameOf(n), to), to: to}
	sub, err := n.Subscribe(w.t.Context(), to, func(_ context.Context, ev backplane.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		h := hearing{at: w.clock()}
		switch ev := ev.(type) {
		case *backplane.Message:
			h.text = string(ev.Payload)
		case *backplane.Gap:
			h.gap = ev
		}
		e.events = append(e.events, h)
	})
	if err != nil {
		w.t.Fatalf("subscribe: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e.at, e.sub = w.clock(), sub
	w.ears = append(w.ears, e)
	return e
}

// leave ends a subscription, for good.
func (w *told) leave(e *listening) {
	w.t.Helper()
	w.mu.Lock()
	e.left = true
	w.mu.Unlock()
	if err := e.sub.Close(w.t.Context()); err != nil {
		w.t.Errorf("unsubscribe: %v", err)
	}
}

// gaps is how many gaps a subscription was told.
func (w *told) gaps(e *listening) (k int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range e.events {
		if h.gap != nil {
			k++
		}
	}
	return k
}

// judge reports each message that was published after a Subscribe had returned, and that was neither heard there nor covered
// by a gap in front of what that publisher said next. It returns how many were missed at all.
func (w *told) judge() (missed int) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.ears {
		heard := map[string]int{}
		for i, h := range e.events {
			if h.gap != nil {
				continue
			}
			if _, twice := heard[h.text]; twice {
				w.t.Errorf("%s heard %q twice", e.name, h.text)
			}
			heard[h.text] = i
		}
		for id, said := range w.said {
			said = slices.DeleteFunc(slices.Clone(said), func(m *word) bool { return m.to != e.to || m.at < e.at })
			slices.SortStableFunc(said, func(a, b *word) int { return a.at - b.at })
			until := len(e.events) // the place of what was heard next
			for _, m := range slices.Backward(said) {
				if i, is := heard[m.text]; is {
					until = i
					continue
				}
				if e.left && until == len(e.events) {
					continue // what is on its way or queued then is not heard
				}
				missed++
				covers := func(h hearing) bool {
					return h.gap != nil && h.at > m.at && (h.gap.Publisher == "" || h.gap.Publisher == id)
				}
				if slices.ContainsFunc(e.events[:until], covers) {
					continue
				}
				when := "never"
				if i := slices.IndexFunc(e.events[until:], covers); i >= 0 {
					when = fmt.Sprintf("only after it had heard %q", e.events[until].text)
				}
				w.t.Errorf("%s missed %q, and was %s told of it by a gap", e.name, m.text, when)
			}
		}
	}
	return missed
}
