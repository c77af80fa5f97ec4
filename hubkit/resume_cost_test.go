package hubkit_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

// A client that can come back takes some more memory than one that cannot, and not much.
func TestResumeIsSmall(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector more is allocated")
	}
	const clients, most = 20_000, 320
	measure := func(t *testing.T, o hubkit.Options) int64 {
		t.Helper()
		h, err := hubkit.New(silence{}, o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := h.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		before := heap()
		for i := range clients {
			joined(t, h, nullConn{new(atomic.Int64)}, "", "a", "b", "c"+strconv.Itoa(i%2))
		}
		took := (heap() - before) / clients
		runtime.KeepAlive(h)
		return took
	}
	var without, with int64 // in a bubble, whose clock stands still: nothing is being written
	synctest.Test(t, func(t *testing.T) {
		without, with = measure(t, hubkit.Options{Name: "ward"}), measure(t, resumeOptions())
	})
	t.Logf("%d bytes for each connection, %d without Resume", with, without)
	if with-without > most {
		t.Errorf("Resume takes %d bytes for each connection, at most %d", with-without, most)
	}
}

// busyNode says of its first answers that all were too busy.
type busyNode struct {
	*backplane.Node

	busy *atomic.Int64
}

func (n busyNode) AskAll(ctx context.Context, service string, request []byte) ([]backplane.Answer, error) {
	answers, err := n.Node.AskAll(ctx, service, request)
	if n.busy.Add(-1) >= 0 {
		for i := range answers {
			answers[i] = backplane.Answer{Node: answers[i].Node, Err: errors.Join(backplane.ErrUnavailable, backplane.ErrBusy)}
		}
	}
	return answers, err
}

// An instance that is too busy to say what it knows is asked again, and not taken for one that knows nothing.
func TestResumeAsksTheBusyAgain(t *testing.T) {
	onResumeWith(t, func(o *hubkit.Options) { o.Resume.NoStore = true }, func(f *farm) {
		old := f.user(0, "nurse", "1", "2")
		token := old.token()
		if err := old.Leave(f.t.Context(), "1"); err != nil {
			f.t.Error(err)
		}
		node, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		busy := new(atomic.Int64)
		h, err := hubkit.New(busyNode{node, busy}, resumeOptions())
		if err != nil {
			f.t.Fatal(err)
		}
		f.nodes, f.hubs = append(f.nodes, node), append(f.hubs, h)
		settleFor(f.t, settling)
		busy.Store(3)
		if c := f.back(3, token); !slices.Equal(c.Groups(), []string{"2"}) || !old.over() {
			f.t.Errorf("it came back in %q; the old one is over: %v", c.Groups(), old.over())
		}
		busy.Store(1 << 40)
		began := time.Now()
		c, err := h.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token})
		if took := time.Since(began); err != nil || took > 2*time.Second {
			f.t.Errorf("where they stay busy: %v, %v, after %v", c, err, took)
		}
		busy.Store(0)
		settleFor(f.t, 5*time.Second)
	})
}
