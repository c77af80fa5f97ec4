package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// hanging is a node whose store does not answer reads any more once it hangs.
type hanging struct {
	*backplane.Node

	hangs chan struct{} // closed when it does
}

func (n hanging) Store() (backplane.Store, bool) {
	s, ok := n.Node.Store()
	return hangingStore{s, n.hangs}, ok
}

type hangingStore struct {
	backplane.Store

	hangs chan struct{}
}

func (s hangingStore) Get(ctx context.Context, key string) (backplane.Entry, error) {
	select {
	case <-s.hangs:
		<-ctx.Done()
		return backplane.Entry{}, fmt.Errorf("%w: %w", backplane.ErrUnavailable, ctx.Err())
	default:
		return s.Store.Get(ctx, key)
	}
}

// A resume that waits for a store or a hook that hangs does not keep the hub from closing, although its own context never ends.
func TestCloseEndsResumesThatHang(t *testing.T) {
	for _, what := range []string{"store", "hook"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, err := backplane.Open(t.Context(), inmem.NewBroker().Opener(), backplane.Options{})
				if err != nil {
					t.Fatal(err)
				}
				hangs := make(chan struct{})
				o := resumeOptions()
				o.Resume.Restore = func(ctx context.Context, _ hubkit.Resumption) ([]string, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				h, err := hubkit.New(hanging{n, hangs}, o)
				if err != nil {
					t.Fatal(err)
				}
				c, err := h.Connect(t.Context(), conntest.New(), hubkit.ConnectOptions{})
				if err != nil {
					t.Fatal(err)
				}
				token, err := c.ResumeToken()
				if err != nil {
					t.Fatal(err)
				}
				if what == "store" {
					close(hangs)
				}
				outcome := make(chan error, 1)
				go func() {
					_, err := h.Connect(context.WithoutCancel(t.Context()), conntest.New(), hubkit.ConnectOptions{Resume: token})
					outcome <- err
				}()
				settle()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := h.Close(ctx); err != nil {
					t.Fatal(err)
				}
				if err := <-outcome; !errors.Is(err, backplane.ErrClosed) {
					t.Errorf("the resume ended with %v", err)
				}
				if err := n.Close(ctx); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Where the backplane's payloads are small, what there is to tell of sessions travels in smaller parts.
func TestAnnouncementsFitSmallPayloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{t: t, broker: inmem.NewBroker()}
		for range instances {
			n, err := backplane.Open(t.Context(), f.broker.Opener(), backplane.Options{MaxPayload: 1024})
			if err != nil {
				t.Fatal(err)
			}
			f.nodes, f.seats = append(f.nodes, n), append(f.seats, n)
		}
		f.start(resumeOptions())
		settleFor(t, settling)
		var ghosts []*client
		var tokens []string
		for range 100 {
			ghosts = append(ghosts, f.member(0))
		}
		for _, c := range ghosts {
			tokens = append(tokens, c.token())
		}
		f.broker.Cut(f.nodes[0].ID())
		settleFor(t, time.Minute)
		for _, token := range tokens {
			f.back(1, token)
		}
		f.broker.Heal(f.nodes[0].ID())
		settleFor(t, 20*time.Second)
		for i, c := range ghosts {
			if !c.over() {
				t.Errorf("ghost %d lives", i)
			}
		}
		f.stop()
		for _, n := range f.nodes {
			if err := n.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// What is done to a client that is coming back reaches it, also where its old instance is gone or cannot be reached, and whether the one
// who is asked to do it knows that.
func TestOperationsReachWhoIsComingBack(t *testing.T) {
	var meanwhile func()
	hook := func(_ context.Context, r hubkit.Resumption) ([]string, error) {
		meanwhile()
		return append(slices.Clone(r.Groups), "new"), nil
	}
	change := func(o *hubkit.Options) { o.Resume.Restore, o.UserGroups = hook, true }
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprintf("dead %v", dead), func(t *testing.T) {
			onResumeWith(t, change, func(f *farm) {
				ctx, nurse, others := f.t.Context(), hubkit.ToUsers("nurse"), hubkit.ToUsers("other")
				silent := func(_ int, err error) {
					f.t.Helper()
					if err != nil && (dead || !errors.Is(err, hubkit.ErrPartial)) {
						f.t.Errorf("the operation: %v", err)
					}
				}
				var tokens []string
				for range 6 {
					c := f.user(0, "nurse", "1", "2")
					tokens = append(tokens, c.token())
				}
				f.broker.Cut(f.nodes[0].ID())
				if dead {
					settleFor(f.t, time.Minute)
				}
				back := func(i int, groups []string, op func()) {
					f.t.Helper()
					meanwhile = op
					c := f.back(1, tokens[i])
					settle()
					if got := c.Groups(); c.over() || !slices.Equal(got, groups) {
						f.t.Errorf("it came back in %q, want %q; over %v", got, groups, c.over())
					}
					c.Disconnect(hubkit.Reason{})
				}
				back(0, []string{"1", "new"}, func() { silent(f.hubs[2].Leave(ctx, nurse, "2")) })
				back(1, []string{"new"}, func() { silent(f.hubs[2].LeaveAll(ctx, hubkit.ToAll())) })
				back(2, []string{"2", "new"}, func() { silent(f.hubs[2].LeaveUser(ctx, "nurse", "1")) })
				back(3, []string{"1", "2", "new"}, func() {
					silent(f.hubs[2].Leave(ctx, others, "2"))
					silent(f.hubs[2].Disconnect(ctx, others, hubkit.Reason{}))
					silent(f.hubs[2].Disconnect(ctx, nurse, hubkit.Reason{Code: hubkit.ReasonGoingAway}))
				})
				for i, of := range []hubkit.Target{nurse, hubkit.ToAll()} {
					meanwhile = func() { silent(f.hubs[2].Disconnect(ctx, of, hubkit.Reason{})) }
					f.refusedAs("a kick meanwhile", 1, hubkit.ConnectOptions{Resume: tokens[4+i]}, hubkit.ErrResumeEnded)
				}
				f.broker.Heal(f.nodes[0].ID())
				settleFor(f.t, time.Minute)
				if n := f.hubs[0].Stats().Connections; n != 0 {
					f.t.Errorf("the old instance has %d connections", n)
				}
			})
		})
	}
}

// A disconnect of many returns when all of their sessions are recorded, also where there is no other instance to tell: whoever opens
// the next one refuses their tokens.
func TestManyEndedSessionsAreInTheStore(t *testing.T) {
	const many = 1200
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n, h, shut := alone(t, broker)
		settleFor(t, settling)
		var tokens []string
		for range many {
			c, err := h.Connect(t.Context(), conntest.New(), hubkit.ConnectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			token, err := c.ResumeToken()
			if err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, token)
		}
		if _, err := h.Disconnect(t.Context(), hubkit.ToAll(), hubkit.Reason{Code: hubkit.ReasonRefused}); err != nil {
			t.Fatal(err)
		}
		broker.Cut(n.ID()) // nothing more is recorded
		settleFor(t, time.Minute)
		_, hub, shutNext := alone(t, broker)
		accepted := 0
		for _, token := range tokens {
			if _, err := hub.Connect(t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, hubkit.ErrResumeEnded) {
				accepted++
			}
		}
		if accepted > 0 {
			t.Errorf("%d of %d tokens are accepted", accepted, many)
		}
		shutNext()
		broker.Heal(n.ID())
		shut()
	})
}
