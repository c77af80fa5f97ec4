package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// Questions, beside what ask/answers says of them.

func askingProperties() []Property {
	return []Property{
		{
			ID:    "ask/registration",
			Says:  "the function that was registered last for a service answers, and stopping an older registration stops no newer one.",
			Why:   "a hub that is replaced by another one of its name would leave that one deaf when it closes.",
			Often: "a stop that removes whatever is registered under the name, a registration that keeps the first.",
			Since: "v1", Ability: AbilityCluster, run: askRegistration,
		},
		{
			ID:    "ask/side-by-side",
			Says:  "questions are answered side by side, on each instance, and each one gets its own answer, in whatever order they come.",
			Why:   "one slow answer would hold up all others, and a client would be told what was said of another one.",
			Often: "one goroutine for all questions, answers matched by their order.",
			Since: "v1", Ability: AbilityCluster, run: askSideBySide,
		},
		{
			ID:    "ask/ends",
			Says:  "a question ends with its context, and when the member that it waits for closes; after Close it is refused with ErrClosed.",
			Why:   "what waits for the answer would wait for ever, or for all of its time.",
			Often: "a wait for answers that does not look at who is left.",
			Since: "v1", Ability: AbilityCluster, run: askEnds,
		},
		{
			ID:    "ask/payload",
			Says:  "questions and answers of any bytes and many sizes arrive as they were, and are their receivers' to keep.",
			Why:   "the answer would change after it has been read.",
			Often: "a buffer that is used again, text where there should be bytes.",
			Since: "v1", Ability: AbilityCluster, run: askPayload,
		},
	}
}

// answersWith is an answer that says who gave it.
func answersWith(text string) backplane.AnswerFunc {
	return func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return []byte(text), nil }
}

func askRegistration(w *world) {
	crew := w.crew()
	w.together(crew)
	asker, other := crew[0], crew[1]
	said := func(by *instance, want string) {
		ctx, cancel := w.patient()
		defer cancel()
		answer, err := asker.ask(ctx, by.cluster().ID(), "service", nil)
		if want == "" && errors.Is(err, backplane.ErrUnsupported) {
			return
		}
		if err != nil || string(answer) != want {
			w.check()
			w.fatalf("%s should be answered with %q by %s, and is with %q, %v", asker.name, want, by.name, answer, err)
		}
	}
	for _, by := range []*instance{other, asker} {
		first := by.answers("service", answersWith("first"))
		beside := by.answers("another service", answersWith("beside"))
		said(by, "first")
		second := by.answers("service", answersWith("second"))
		said(by, "second")
		first() // it is not registered any more
		said(by, "second")
		beside()
		said(by, "second")
		second()
		said(by, "")
		third := by.answers("service", answersWith("third"))
		said(by, "third")
		second() // a second time
		said(by, "third")
		third()
		said(by, "")
	}
}

func askSideBySide(w *world) {
	crew := w.crew()
	w.together(crew)
	asker := crew[0]
	const questions = 20
	for _, by := range crew {
		// Each question is answered only when all are there; then in the reverse of their order.
		var mu sync.Mutex
		waiting := 0 // guarded by mu
		turn := make([]chan struct{}, questions+1)
		for i := range turn {
			turn[i] = make(chan struct{})
		}
		stop := by.answers("together", func(ctx context.Context, _ backplane.NodeID, request []byte) ([]byte, error) {
			mu.Lock()
			place := waiting
			waiting++
			if waiting == questions {
				close(turn[questions])
			}
			mu.Unlock()
			select {
			case <-turn[place+1]:
				close(turn[place])
				return append([]byte("re: "), request...), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		w.each(questions, func(i int) {
			ctx, cancel := w.patient()
			defer cancel()
			request := fmt.Appendf(nil, "question %d", i)
			answer, err := asker.ask(ctx, by.cluster().ID(), "together", request)
			if want := "re: " + string(request); err != nil || string(answer) != want {
				w.check()
				w.fatalf("%s put %d questions to %s at once, and was told %q, %v in place of %q", asker.name, questions, by.name, answer, err, want)
			}
		})
		stop()
	}
}

func askEnds(w *world) {
	crew := w.crew()
	asker, rest := crew[0], crew[1:]
	leaver := w.newInstance(w.namespace())
	leaver.open()
	all := append(slices.Clone(crew), leaver)
	w.together(all)
	asked := make(chan struct{}, len(all))
	for _, n := range all {
		n.answers("never", func(ctx context.Context, _ backplane.NodeID, _ []byte) ([]byte, error) {
			asked <- struct{}{}
			if n != leaver {
				return nil, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
	}
	// With its context.
	began := time.Now()
	ctx, cancel := context.WithTimeout(w.ctx, shortAsk)
	_, err := asker.ask(ctx, leaver.cluster().ID(), "never", nil)
	cancel()
	<-asked
	if !errors.Is(err, backplane.ErrUnavailable) || time.Since(began) < shortAsk {
		w.check()
		w.fatalf("%s asked what is not answered, for %v, and after %v it was told %v, not ErrUnavailable",
			asker.name, shortAsk, time.Since(began), err)
	}
	// With the goodbye of who is asked. The time that is left is the suite's own.
	result := make(chan error, 2) //nolint:mnd // one for each question
	ctx, cancel = context.WithTimeout(w.ctx, watchdog*w.suite.patience)
	defer cancel()
	go func() {
		_, err := asker.ask(ctx, leaver.cluster().ID(), "never", nil)
		result <- err
	}()
	go func() {
		answers, err := asker.askAll(ctx, "never", nil)
		for _, a := range answers {
			if a.Node == leaver.cluster().ID() {
				err = a.Err
			}
		}
		result <- err
	}()
	for range len(all) + 1 { // all of them, and the leaver twice
		select {
		case <-asked:
		case <-ctx.Done():
			w.check()
			w.fatalf("%s asked all, and not everybody has heard it within %v", asker.name, watchdog*w.suite.patience)
		}
	}
	leaver.close()
	late := time.NewTimer(w.suite.patience)
	defer late.Stop()
	for range cap(result) {
		select {
		case err := <-result:
			if err == nil { // it is told that nobody answers, or what the function said when its context ended
				w.check()
				w.fatalf("%s waits for the answer of %s, which closes, and has one", asker.name, leaver.name)
			}
		case <-late.C:
			w.fatalf("%s waits for the answer of %s, which has closed %v ago", asker.name, leaver.name, w.suite.patience)
		case <-w.ctx.Done():
			w.check()
		}
	}
	w.together(crew)
	asker.close()
	if _, err := asker.ask(w.ctx, rest[0].cluster().ID(), "never", nil); classify(err).Class != closed {
		w.fatalf("Ask after Close returned %v, not ErrClosed", err)
	}
	if _, err := asker.askAll(w.ctx, "never", nil); classify(err).Class != closed {
		w.fatalf("AskAll after Close returned %v, not ErrClosed", err)
	}
}

func askPayload(w *world) {
	crew := w.crew()
	w.together(crew)
	asker, other := crew[0], crew[1]
	type kept struct{ heard, want []byte }
	var mu sync.Mutex
	var requests [][]byte // as they were heard; guarded by mu
	other.answers("echo", func(_ context.Context, _ backplane.NodeID, request []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, request)
		return bytes.Clone(request), nil
	})
	sizes := []int{0, 1, 2, 63, 64, 255, 256, 1 << 10}
	for size := 4 << 10; size <= w.suite.largest()/2; size *= 4 {
		sizes = append(sizes, size-1, size, size+1)
	}
	var all []kept
	buffer := make([]byte, w.suite.largest())
	for round := range 2 {
		for _, size := range sizes {
			request := buffer[:size] // used again for each
			for i := range request {
				request[i] = byte(w.rand.IntN(1 << 8)) //nolint:gosec // just below
			}
			want := bytes.Clone(request)
			ctx, cancel := w.patient()
			answer, err := asker.ask(ctx, other.cluster().ID(), "echo", request)
			cancel()
			if err != nil {
				w.check()
				w.fatalf("%s asked with %d bytes, in round %d, and got %w", asker.name, size, round+1, err)
			}
			all = append(all, kept{answer, want})
			clear(request)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, k := range all {
		if !bytes.Equal(k.heard, k.want) {
			w.fatalf("an answer of %d bytes has other bytes than were sent (%d of them), when it is looked at again after later ones",
				len(k.want), len(k.heard))
		}
		if i < len(requests) && !bytes.Equal(requests[i], k.want) {
			w.fatalf("a question of %d bytes has other bytes than were sent (%d of them), when it is looked at again after later ones",
				len(k.want), len(requests[i]))
		}
	}
	if len(requests) != len(all) {
		w.fatalf("%s put %d questions, and %s heard %d", asker.name, len(all), other.name, len(requests))
	}
}
