package watch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/internal/watch"
	"github.com/gobackplane/backplane/transport"
)

// answer is what a store says.
type answer struct {
	revision transport.Revision // 0 for nothing there
	err      error
}

func value(revision transport.Revision) answer { return answer{revision: revision} }

func (a answer) entry() (transport.Entry, error) {
	switch {
	case a.err != nil:
		return transport.Entry{}, a.err
	case a.revision == 0:
		return transport.Entry{}, transport.ErrKeyNotFound
	}
	return transport.Entry{Revision: a.revision}, nil
}

func TestPollTellsChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		answers := []answer{
			{err: transport.ErrUnavailable}, value(1), value(1), value(2), {err: fmt.Errorf("no: %w", transport.ErrUnavailable)},
			value(2), value(0), value(0), value(2), {err: broken},
		}
		var told []transport.Revision
		began, asked := time.Now(), 0
		err := watch.Poll(t.Context(), nil, func() (transport.Entry, error) {
			if took := time.Since(began); took != time.Duration(asked)*watch.Interval {
				t.Errorf("asked %d times after %v", asked, took)
			}
			asked++
			return answers[asked-1].entry()
		}, func(e *transport.Entry) {
			if e == nil {
				e = &transport.Entry{}
			}
			told = append(told, e.Revision)
		})
		if !errors.Is(err, broken) {
			t.Errorf("Poll: %v", err)
		}
		if want := []transport.Revision{1, 2, 0, 2}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// That there is nothing is told once as well, and a change that somebody tells of is not waited for.
func TestPollAsksWhenItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changed, answers, began := make(chan struct{}), make(chan answer, 1), time.Now()
		told, ended := make(chan *transport.Entry, 1), make(chan error, 1)
		go func() {
			ended <- watch.Poll(ctx, changed, func() (transport.Entry, error) { return (<-answers).entry() }, func(e *transport.Entry) { told <- e })
		}()
		answers <- value(0)
		if e := <-told; e != nil {
			t.Errorf("told %v", e)
		}
		answers <- value(1)
		changed <- struct{}{}
		if e := <-told; e == nil || e.Revision != 1 {
			t.Errorf("told %v", e)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Poll: %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// An answer that comes when the watch has ended is nobody's any more.
func TestPollEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	err := watch.Poll(ctx, nil, func() (transport.Entry, error) {
		cancel()
		return value(1).entry()
	}, func(*transport.Entry) { t.Error("told") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Poll: %v", err)
	}
}
