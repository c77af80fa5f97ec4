package backplane_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// outcomes are what an asker must be able to tell apart.
var outcomes = []error{backplane.ErrTimeout, backplane.ErrNodeLost, backplane.ErrNodeLeft, backplane.ErrBusy}

// wantOutcome checks that an error is one of the outcomes, and none of the others; nil stands for this node's own link.
func wantOutcome(t *testing.T, what string, err, want error) {
	t.Helper()
	wantIs(t, what, err, backplane.ErrUnavailable)
	for _, o := range outcomes {
		if errors.Is(err, o) != errors.Is(want, o) {
			t.Errorf("%s: %v; want %v alone", what, err, want)
		}
	}
}

// A question that is not answered says why: four different things to its asker.
func TestAskTellsOutcomesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 4, backplane.Options{})
		a, slow, dying := nodes[0], nodes[1], nodes[2]
		leaving := openOnly(t, broker.Opener(), backplane.Options{})
		for _, n := range nodes {
			n.AnswerDeferred("never", func(_ context.Context, _ backplane.NodeID, _ []byte, reply func([]byte, error)) {
				t.Cleanup(func() { reply(nil, nil) })
			})
		}
		time.Sleep(10 * time.Second)
		ask := func(to backplane.NodeID) error {
			_, err := a.Ask(within(t, 20*time.Second), to, "never", nil)
			return err
		}
		late := async(func() error { return ask(slow.ID()) })
		lost := async(func() error { return ask(dying.ID()) })
		synctest.Wait()
		broker.Cut(dying.ID())
		wantIs(t, "close", leaving.Close(t.Context()))

		wantOutcome(t, "a node that left", ask(leaving.ID()), backplane.ErrNodeLeft)
		began := time.Now()
		wantOutcome(t, "a node that dies meanwhile", <-lost, backplane.ErrNodeLost)
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("a node that died was waited for %v", d)
		}
		wantOutcome(t, "a node that is dead", ask(dying.ID()), backplane.ErrNodeLost)
		wantOutcome(t, "a node that was never there", ask("0123456789abcdef"), backplane.ErrNodeLost)
		wantOutcome(t, "a node that does not answer", <-late, backplane.ErrTimeout)

		broker.Cut(a.ID())
		time.Sleep(10 * time.Second)
		wantOutcome(t, "no link of one's own", ask(slow.ID()), nil)
	})
}

// A member that says goodbye while it is asked ends the question with that.
func TestGoodbyeEndsAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a := open(t, broker.Opener(), backplane.Options{})
		b := openOnly(t, broker.Opener(), backplane.Options{})
		asked := make(chan struct{})
		b.AnswerDeferred("never", func(context.Context, backplane.NodeID, []byte, func([]byte, error)) { close(asked) })
		synctest.Wait()
		c := async(func() error { _, err := a.Ask(t.Context(), b.ID(), "never", nil); return err })
		<-asked
		wantIs(t, "close", b.Close(t.Context()))
		wantOutcome(t, "the question", <-c, backplane.ErrNodeLeft)
	})
}

// While a node is settling there may be others that it does not know: it asks them nevertheless, and says no when it knows.
func TestAskWhileSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		b := open(t, broker.Opener(), backplane.Options{})
		b.Answer("echo", echo)
		time.Sleep(10 * time.Second)
		if b.Settling() {
			t.Error("it is settling for ever")
		}
		a := open(t, broker.Opener(), backplane.Options{})
		if !a.Settling() {
			t.Error("a node that has just come knows all others")
		}
		began := time.Now()
		got, err := a.Ask(t.Context(), b.ID(), "echo", []byte("?")) // its answer to the hello need not have come
		if err != nil || string(got) != "?" || time.Since(began) != 0 {
			t.Errorf("%q, %v after %v", got, err, time.Since(began))
		}
		_, err = a.Ask(t.Context(), "0123456789abcdef", "echo", nil)
		wantOutcome(t, "a node that is not there", err, backplane.ErrNodeLost)
		if d := time.Since(began); d < 7*time.Second || d > 10*time.Second {
			t.Errorf("the answer took %v", d)
		}
		if a.Settling() {
			t.Error("it has not settled")
		}
		broker.Cut(a.ID())
		time.Sleep(10 * time.Second)
		if !a.Settling() {
			t.Error("a node without a link knows all others")
		}
		broker.Heal(a.ID())
		time.Sleep(5 * time.Second)
		if !a.Settling() {
			t.Error("a node that was away knows at once who lives")
		}
		time.Sleep(10 * time.Second)
		if a.Settling() {
			t.Error("it has not settled")
		}
	})
}

// Settled returns when the node has settled, and no sooner, or with its context or the node.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := openOnly(t, broker.Opener(), backplane.Options{MemberTimeout: 12 * time.Second})
		wantIs(t, "too early", n.Settled(within(t, time.Second)), backplane.ErrUnavailable, context.DeadlineExceeded)
		began := time.Now()
		wantIs(t, "settled", n.Settled(t.Context()))
		if d := time.Since(began); d < 10*time.Second || d > 12*time.Second || n.Settling() {
			t.Errorf("it took %v", d)
		}
		wantIs(t, "again", n.Settled(t.Context()))
		broker.Cut(n.ID())
		time.Sleep(10 * time.Second)
		wantIs(t, "without a link", n.Settled(within(t, time.Minute)), backplane.ErrUnavailable)
		waits := async(func() error { return n.Settled(context.Background()) })
		synctest.Wait()
		broker.Heal(n.ID())
		wantIs(t, "close", n.Close(t.Context()))
		wantIs(t, "a node that closes", <-waits, backplane.ErrClosed)
		wantIs(t, "a closed node", n.Settled(t.Context()), backplane.ErrClosed)
	})
}

// A deferred answer takes no place from other questions, is sent once, and does not wait for the broker.
func TestDeferredAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 2, backplane.Options{MaxPayload: 1000})
		a, b := nodes[0], nodes[1]
		for _, to := range nodes { // the other and oneself alike
			var mu sync.Mutex
			var replies []func([]byte, error)
			to.AnswerDeferred("later", func(ctx context.Context, from backplane.NodeID, request []byte, reply func([]byte, error)) {
				if _, ok := ctx.Deadline(); !ok || from != a.ID() || string(request) != "?" {
					t.Errorf("asked %q by %s", request, from)
				}
				mu.Lock()
				defer mu.Unlock()
				replies = append(replies, reply)
			})
			to.AnswerDeferred("now", func(_ context.Context, _ backplane.NodeID, _ []byte, reply func([]byte, error)) {
				reply(nil, errors.New("out of beds"))
				reply([]byte("twice"), nil)
			})
			to.AnswerDeferred("large", func(_ context.Context, _ backplane.NodeID, _ []byte, reply func([]byte, error)) {
				reply(make([]byte, 1001), nil)
			})
			synctest.Wait()
			answers := make(chan string, 1000)
			const many = 600 // more than may run at once
			var asked sync.WaitGroup
			ask := func() {
				got, err := a.Ask(t.Context(), to.ID(), "later", []byte("?"))
				if err != nil {
					t.Error(err)
				}
				answers <- string(got)
			}
			for range many {
				asked.Go(ask)
				synctest.Wait()
			}
			_, err := a.Ask(t.Context(), to.ID(), "now", nil)
			if err == nil || !strings.HasSuffix(err.Error(), "out of beds") {
				t.Errorf("beside them: %v", err)
			}
			if _, err = a.Ask(t.Context(), to.ID(), "large", nil); to == b {
				wantIs(t, "too large an answer", err, backplane.ErrTooLarge)
			}
			if len(replies) != many {
				t.Fatalf("%d questions came", len(replies))
			}
			for _, reply := range replies {
				reply([]byte("late"), nil)
				reply([]byte("twice"), nil)
			}
			asked.Wait()
			for range many {
				if got := <-answers; got != "late" {
					t.Errorf("the answer %q", got)
				}
			}
			replies = nil
		}
	})
}

// What is owed is bounded, and who owes nothing any more is asked again.
func TestOwedAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := openOnly(t, broker.Opener(), backplane.Options{})
		var mu sync.Mutex
		var replies []func([]byte, error)
		n.AnswerDeferred("later", func(_ context.Context, _ backplane.NodeID, _ []byte, reply func([]byte, error)) {
			mu.Lock()
			defer mu.Unlock()
			replies = append(replies, reply)
		})
		const most = 16384
		var asked sync.WaitGroup
		for i := range most + 1 {
			asked.Go(func() {
				_, err := n.Ask(within(t, 30*time.Second), n.ID(), "later", nil)
				if i < most {
					wantIs(t, "ask", err)
				} else {
					wantOutcome(t, "one too many", err, backplane.ErrBusy)
				}
			})
			if i%200 == 0 || i >= most-1 {
				synctest.Wait()
			}
		}
		for _, reply := range replies {
			reply(nil, nil)
		}
		asked.Wait()
		replies = nil
		synctest.Wait()
		again := async(func() error { _, err := n.Ask(within(t, time.Minute), n.ID(), "later", nil); return err })
		synctest.Wait()
		if len(replies) != 1 {
			t.Fatalf("%d questions came", len(replies))
		}
		wantIs(t, "close", n.Close(t.Context()))
		replies[0](nil, nil) // nobody is there any more
		wantIs(t, "ask", <-again, backplane.ErrClosed)
	})
}
