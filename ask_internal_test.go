package backplane

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/wire"
)

// A member can die between being looked up and being waited for. Nobody tells the question then, so it looks itself.
func TestQuestionToWhoHasJustGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(t.Context(), inmem.NewBroker().Opener(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		gone := wire.Publisher{1}
		time.Sleep(n.o.MemberTimeout + time.Second) // settled: who is not known is not there
		ctx, cancel := questionContext(t.Context())
		defer cancel()
		began := time.Now()
		answers, err := n.askOthers(ctx, inboxAddress(nodeID(gone)), []wire.Publisher{gone}, "s", nil, func() {})
		if err != nil || len(answers) != 1 || !errors.Is(answers[0].Err, ErrUnavailable) || !errors.Is(answers[0].Err, ErrNodeLost) || time.Since(began) != 0 {
			t.Errorf("%v, %v after %v", answers, err, time.Since(began))
		}
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(n.questions.open) != 0 {
			t.Errorf("%d questions are left", len(n.questions.open))
		}
	})
}

// What is remembered of questions is bounded, and recent repeats are known.
func TestRepeatedQuestionsAreKnown(t *testing.T) {
	var q questionTable
	q.init()
	for i := uint64(1); i <= 10*heardMost; i++ {
		if q.repeated(questionID{wire.Publisher{1}, i}) {
			t.Fatalf("question %d is new", i)
		}
		if !q.repeated(questionID{wire.Publisher{1}, i}) || i > heardMost && !q.repeated(questionID{wire.Publisher{1}, i - heardMost + 1}) {
			t.Fatalf("a repeat of %d or of one shortly before was not known", i)
		}
		if q.repeated(questionID{wire.Publisher{2}, 1}) != (i > 1) && i < heardMost {
			t.Fatal("another node's question counts as this one's")
		}
	}
	if n := len(q.heard[0]) + len(q.heard[1]); n > 2*heardMost {
		t.Errorf("%d are remembered", n)
	}
}
