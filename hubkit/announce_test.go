package hubkit_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// minted connects clients to instance i and returns a token of each.
func (f *farm) minted(i, n int) (tokens []string) {
	f.t.Helper()
	for range n {
		token, err := f.member(i).ResumeToken()
		if err != nil {
			f.t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	return tokens
}

// alone cuts all instances but one off, and waits until that one knows.
func (f *farm) alone(i int) {
	f.t.Helper()
	for j, n := range f.nodes {
		if j != i {
			f.broker.Cut(n.ID())
		}
	}
	settleFor(f.t, settling)
}

func (f *farm) together() {
	f.t.Helper()
	for _, n := range f.nodes {
		f.broker.Heal(n.ID())
	}
	settleFor(f.t, settling)
}

// Ended sessions reach everybody: thousands at once, an instance that was silent at the time, and one that came later. Each of them refuses
// the tokens when it is alone.
func TestEndedSessionsReachEverybody(t *testing.T) {
	onResumeWith(t, func(o *hubkit.Options) { o.Resume.NoStore = true }, func(f *farm) {
		ctx := f.t.Context()
		const many = 1200
		tokens := f.minted(0, many)
		f.changed("all", many)(f.hubs[2].Disconnect(ctx, hubkit.ToAll(), hubkit.Reason{}))
		if n := f.hubs[0].Stats().SessionsEnded; n != many {
			f.t.Errorf("%d sessions were ended", n)
		}
		f.broker.Cut(f.nodes[2].ID())
		more := f.minted(0, many)
		began := time.Now()
		n, err := f.hubs[0].Disconnect(ctx, hubkit.ToAll(), hubkit.Reason{})
		if took := time.Since(began); n != many || !errors.Is(err, hubkit.ErrPartial) || took > 20*time.Second {
			f.t.Errorf("one is silent: %d, %v, after %v", n, err, took)
		}
		settleFor(f.t, settling)
		f.together()

		node, err := backplane.Open(ctx, f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		o := resumeOptions()
		o.Resume.NoStore = true
		h, err := hubkit.New(node, o)
		if err != nil {
			f.t.Fatal(err)
		}
		f.nodes, f.hubs = append(f.nodes, node), append(f.hubs, h)
		settleFor(f.t, settling+10*time.Second) // 2,400 notices, 500 at a time
		for i := range f.hubs {
			f.alone(i)
			for k := 0; k < many; k += 97 {
				f.refusedAs(fmt.Sprintf("instance %d alone, token %d", i, k), i, hubkit.ConnectOptions{Resume: tokens[k]}, hubkit.ErrResumeEnded)
				f.refusedAs(fmt.Sprintf("instance %d alone, token %d more", i, k), i, hubkit.ConnectOptions{Resume: more[k]}, hubkit.ErrResumeEnded)
			}
			f.together()
		}
	})
}

// A store that refuses does not keep a session from being ended, nor for long the caller; when it takes again, it is told.
func TestEndedSessionsReachTheStoreLater(t *testing.T) {
	onResumeWith(t, func(*hubkit.Options) {}, func(f *farm) {
		token := f.user(0, "nurse", "4B").token()
		f.broker.Deny(func(r inmem.Request) bool { return r.Op == inmem.OpStore })
		began := time.Now()
		f.changed("kick", 1)(f.hubs[1].Disconnect(f.t.Context(), hubkit.ToUsers("nurse"), hubkit.Reason{}))
		if took := time.Since(began); took > 3*time.Second {
			f.t.Errorf("it took %v", took)
		}
		settleFor(f.t, 10*time.Second)
		f.broker.Deny(nil)
		settleFor(f.t, 3*time.Second)
		node, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		h, err := hubkit.New(node, resumeOptions())
		if err != nil {
			f.t.Fatal(err)
		}
		f.nodes, f.hubs = append(f.nodes, node), append(f.hubs, h)
		f.refusedAs("a newcomer", 3, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeEnded)
	})
}

// An instance that has just been made does not let in who has been thrown out before.
func TestEndedSessionsAreKnownToNewcomers(t *testing.T) {
	onResume(t, func(f *farm) {
		token := f.user(0, "nurse", "4B").token()
		f.changed("kick", 1)(f.hubs[1].Disconnect(f.t.Context(), hubkit.ToUsers("nurse"), hubkit.Reason{}))
		for i, what := range []string{"a newcomer", "a newcomer whose broker has no store"} {
			node, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
			if err != nil {
				f.t.Fatal(err)
			}
			seat, o := backplane.Backplane(node), resumeOptions()
			if i == 0 {
				o.Resume.NoStore = true
			} else {
				seat = storeless{node, noStore{}}
			}
			h, err := hubkit.New(seat, o)
			if err != nil {
				f.t.Fatal(err)
			}
			f.nodes, f.hubs = append(f.nodes, node), append(f.hubs, h)
			f.refusedAs(what, 3+i, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeEnded)
		}
	})
}

// An instance without Resume, and one without the hub, are no trouble: they are asked once, and nobody waits for them.
func TestResumeInAMixedFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{t: t, broker: inmem.NewBroker()}
		for i := range 4 {
			n, err := backplane.Open(t.Context(), f.broker.Opener(), backplane.Options{})
			if err != nil {
				t.Fatal(err)
			}
			f.nodes = append(f.nodes, n)
			o := resumeOptions()
			switch i {
			case 2:
				o.Resume = hubkit.ResumeOptions{}
			case 3:
				continue // no hub at all
			}
			h, err := hubkit.New(n, o)
			if err != nil {
				t.Fatal(err)
			}
			f.hubs = append(f.hubs, h)
		}
		settleFor(t, settling)
		old := f.user(0, "nurse", "4B")
		token := old.token()
		began := time.Now()
		c := f.back(1, token)
		if took := time.Since(began); took != 0 || !old.over() {
			t.Errorf("it took %v; the old one is over: %v", took, old.over())
		}
		settleFor(t, 2*time.Second)
		before := f.hubs[2].Stats().Questions
		settleFor(t, time.Minute)
		if n := f.hubs[2].Stats().Questions - before; n != 0 {
			t.Errorf("an instance that does not know of sessions was asked %d times", n)
		}
		f.changed("kick", 1)(f.hubs[2].Disconnect(t.Context(), hubkit.ToUsers("nurse"), hubkit.Reason{}))
		f.refusedAs("ended by one that does not know of sessions", 0, hubkit.ConnectOptions{Resume: c.sock.ResumeToken()}, hubkit.ErrResumeEnded)
		f.stop()
		for _, n := range f.nodes {
			if err := n.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A hub over the bare three verbs has itself only, and its clients come back to it.
func TestResumeOverTheBareVerbs(t *testing.T) {
	onBus(t, resumeOptions(), func(f *farm) {
		old := f.user(0, "nurse", "4B")
		token := old.token()
		c := f.back(0, token)
		if !old.over() || c.User() != "nurse" || len(c.Groups()) != 1 {
			f.t.Errorf("the old one is over: %v; it came back as %q in %q", old.over(), c.User(), c.Groups())
		}
		c.Disconnect(hubkit.Reason{Code: hubkit.ReasonRefused})
		f.refusedAs("ended", 0, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeEnded)
		if _, err := f.hubs[1].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token}); err != nil {
			f.t.Errorf("elsewhere, where nobody can be asked: %v", err)
		}
	})
}
