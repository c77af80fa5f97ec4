package hubkit_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// onResumeWith is onResume with options of the test's own.
func onResumeWith(t *testing.T, change func(*hubkit.Options), test func(*farm)) {
	t.Helper()
	o := resumeOptions()
	change(&o)
	onNodes(t, o, func(f *farm) {
		settleFor(f.t, settling)
		test(f)
	})
}

// Without the hook nothing is restored, but the old connection is closed and the gap is told.
func TestResumeWithoutHook(t *testing.T) {
	onResumeWith(t, func(o *hubkit.Options) { o.Resume.Restore = nil }, func(f *farm) {
		old := f.user(0, "nurse", "4B")
		token := old.token()
		c := f.back(1, token)
		if c.User() != "" || len(c.Groups()) != 0 || !c.Resumed() {
			f.t.Errorf("it came back as %q in %q, resumed: %v", c.User(), c.Groups(), c.Resumed())
		}
		settle()
		if first := c.sock.Deliveries()[0]; first.Gap == nil {
			f.t.Errorf("the first delivery is %+v", first)
		}
		if r := old.ended(); r.Code != hubkit.ReasonReplaced {
			f.t.Errorf("the old one ended: %v", r)
		}
		named := f.connect(2, hubkit.ConnectOptions{Resume: token, User: "nurse"})
		if named.User() != "nurse" || len(named.Groups()) != 0 || !c.over() {
			f.t.Errorf("it came back as %q in %q", named.User(), named.Groups())
		}
	})
}

// The hook sees what is known and decides; when it declines, or names what cannot be, the old connection stays.
func TestResumeHookDecides(t *testing.T) {
	var seen hubkit.Resumption
	var groups []string
	declined := errors.New("not on this ward any more")
	var answer error
	hook := func(ctx context.Context, r hubkit.Resumption) ([]string, error) {
		seen = r
		if len(r.Groups) > 0 {
			r.Groups[0] = "scribbled over" // it is the hook's
		}
		return groups, errors.Join(answer, ctx.Err())
	}
	onResumeWith(t, func(o *hubkit.Options) { o.Resume.Restore = hook }, func(f *farm) {
		old := f.user(0, "nurse", "5A", "4B")
		began := time.Now()
		token := old.token()
		answer = declined
		f.refusedAs("declined", 1, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeDeclined)
		_, err := f.hubs[1].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token})
		if !errors.Is(err, declined) {
			f.t.Errorf("the hook's error is lost: %v", err)
		}
		answer, groups = nil, []string{"fine", "\xff"}
		if _, err = f.hubs[1].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, backplane.ErrInvalidAddress) {
			f.t.Errorf("a group that cannot be: %v", err)
		}
		groups = []string{"fine", "denied", "fine too"}
		f.broker.Deny(func(r inmem.Request) bool { return r.Op == inmem.OpSubscribe && strings.Contains(r.Channel, "denied") })
		if _, err = f.hubs[1].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, backplane.ErrDenied) {
			f.t.Errorf("a group that the broker denies: %v", err)
		}
		f.broker.Deny(nil)
		if s := f.hubs[1].Stats(); s.Groups != 0 || s.Connections != 0 {
			f.t.Errorf("left behind: %+v", s)
		}
		if old.over() {
			f.t.Fatal("a refusal closed the old connection")
		}

		groups = []string{"4B", "new", "4B"}
		c := f.back(1, token)
		id, _ := old.Session()
		want := hubkit.Resumption{Session: id, Generation: 2, User: "nurse", Groups: []string{"scribbled over", "5A"}, Issued: seen.Issued, Expires: seen.Expires}
		if seen.Session != want.Session || seen.Generation != 2 || seen.User != "nurse" || !slices.Equal(seen.Groups, want.Groups) || seen.Trimmed || seen.Stale ||
			seen.Issued.Before(began.Truncate(time.Millisecond)) || seen.Issued.After(time.Now()) || seen.Expires.Sub(seen.Issued) != 10*time.Minute {
			f.t.Errorf("the hook was asked about %+v, want %+v", seen, want)
		}
		if got := c.Groups(); !slices.Equal(got, []string{"4B", "new"}) {
			f.t.Errorf("it came back in %q", got)
		}
		f.send(2, hubkit.ToGroups("new"), "one")
		c.got("one")
	})
}

// A leave that comes while the hook is asked is not undone by what the hook has seen; nor is a disconnect.
func TestResumeHookIsOvertaken(t *testing.T) {
	var meanwhile func()
	hook := func(_ context.Context, r hubkit.Resumption) ([]string, error) {
		meanwhile()
		groups := append(slices.Clone(r.Groups), "new")
		clear(r.Groups) // they are the hook's
		return groups, nil
	}
	onResumeWith(t, func(o *hubkit.Options) { o.Resume.Restore = hook }, func(f *farm) {
		ctx := f.t.Context()
		for i := range f.hubs {
			old := f.user(0, "nurse", "1", "2", "3")
			meanwhile = func() {
				f.changed("leave", 1)(f.hubs[2].Leave(ctx, hubkit.ToUsers("nurse"), "2"))
			}
			c := f.back(i, old.token())
			if got := c.Groups(); !slices.Equal(got, []string{"1", "3", "new"}) {
				f.t.Errorf("it came back in %q", got)
			}
			token := c.token()
			c.Disconnect(hubkit.Reason{})
			<-c.Done()
			meanwhile = func() {
				f.changed("leave of who is away", 0)(f.hubs[2].Leave(ctx, hubkit.ToUsers("nurse"), "3"))
			}
			c = f.back((i+1)%instances, token)
			if got := c.Groups(); !slices.Equal(got, []string{"1", "new"}) {
				f.t.Errorf("it came back in %q", got)
			}
			meanwhile = func() {
				f.changed("kick", 1)(f.hubs[2].Disconnect(ctx, hubkit.ToUsers("nurse"), hubkit.Reason{}))
			}
			f.refusedAs("a kick meanwhile", (i+2)%instances, hubkit.ConnectOptions{Resume: c.token()}, hubkit.ErrResumeEnded)
		}
	})
}

// What does not fit into the token is known to the old instance, and to nobody else; the hook is told.
func TestResumeHookIsToldWhatIsUncertain(t *testing.T) {
	var seen hubkit.Resumption
	hook := func(_ context.Context, r hubkit.Resumption) ([]string, error) { seen = r; return r.Groups, nil }
	onResumeWith(t, func(o *hubkit.Options) { o.Resume.Restore, o.Resume.MaxToken = hook, 2048 }, func(f *farm) {
		names := []string{strings.Repeat("a", 900), strings.Repeat("b", 900), "c"}
		old := f.user(0, "nurse", names...)
		token := old.token()
		if s := f.hubs[0].Stats(); s.ResumeTrimmed == 0 || len(token) > 2048 {
			f.t.Errorf("%d tokens trimmed, of %d bytes", s.ResumeTrimmed, len(token))
		}
		c := f.back(1, token)
		if !slices.Equal(c.Groups(), names) || seen.Trimmed || seen.Stale {
			f.t.Errorf("it came back in %d groups; trimmed %v, stale %v", len(c.Groups()), seen.Trimmed, seen.Stale)
		}
		newer := c.token()
		settleFor(f.t, 2*time.Second) // all have heard of the second connection
		f.broker.Cut(f.nodes[1].ID())
		settleFor(f.t, settling)
		third := f.back(2, newer)
		if !slices.Equal(third.Groups(), names[:1]) || !seen.Trimmed || seen.Stale {
			f.t.Errorf("by its token alone it came back in %d groups; trimmed %v, stale %v", len(third.Groups()), seen.Trimmed, seen.Stale)
		}
		f.broker.Heal(f.nodes[1].ID())
		settleFor(f.t, settling)
		if !c.over() || third.over() {
			f.t.Error("not the newest survives")
		}

		// A token of the second connection, when the third one's instance is gone, is not the newest: and that is known.
		f.broker.Cut(f.nodes[2].ID())
		settleFor(f.t, settling)
		fourth := f.back(0, newer)
		if _, generation := fourth.Session(); !seen.Stale || generation != 4 {
			f.t.Errorf("stale: %v; it is number %d", seen.Stale, generation)
		}
		f.broker.Heal(f.nodes[2].ID())
		settleFor(f.t, settling)
		if !third.over() || fourth.over() {
			f.t.Error("not the newest survives")
		}
	})
}

// A token is its user's. Whoever logged in as somebody else, or has logged in since, comes anew.
func TestResumeOfAnotherUser(t *testing.T) {
	onResume(t, func(f *farm) {
		nurse, nobody := f.user(0, "nurse", "4B"), f.member(0, "4B")
		a, b := nurse.token(), nobody.token()
		f.refusedAs("another user", 1, hubkit.ConnectOptions{Resume: a, User: "doctor"}, hubkit.ErrResumeUser)
		f.refusedAs("logged in since", 1, hubkit.ConnectOptions{Resume: b, User: "nurse"}, hubkit.ErrResumeUser)
		if nurse.over() || nobody.over() {
			f.t.Error("a refusal closed the old connection")
		}
		if c := f.connect(1, hubkit.ConnectOptions{Resume: a, User: "nurse"}); c.User() != "nurse" {
			f.t.Errorf("it came back as %q", c.User())
		}
		if c := f.back(1, b); c.User() != "" || !slices.Equal(c.Groups(), []string{"4B"}) {
			f.t.Errorf("it came back as %q in %q", c.User(), c.Groups())
		}
	})
}

// Tokens of another hub, another namespace, another key ring and another day are refused, each as what it is.
func TestResumeOfForeignTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		f := &farm{t: t, broker: broker}
		for _, row := range []struct {
			namespace string
			change    func(*hubkit.Options)
		}{
			{"a", func(*hubkit.Options) {}},
			{"a", func(o *hubkit.Options) { o.Name = "chat" }},
			{"b", func(*hubkit.Options) {}},
			{"a", func(o *hubkit.Options) {
				o.Resume.Keys = []hubkit.ResumeKey{{ID: "k1", Secret: bytes.Repeat([]byte("abcdefgh"), 4)}}
			}},
			{"a", func(o *hubkit.Options) { o.Resume = hubkit.ResumeOptions{} }},
		} {
			n, err := backplane.Open(t.Context(), broker.Opener(), backplane.Options{Namespace: row.namespace})
			if err != nil {
				t.Fatal(err)
			}
			o := resumeOptions()
			row.change(&o)
			h, err := hubkit.New(n, o)
			if err != nil {
				t.Fatal(err)
			}
			f.nodes, f.hubs = append(f.nodes, n), append(f.hubs, h)
		}
		c := f.user(0, "nurse", "4B")
		token := c.token()
		f.refusedAs("another hub", 1, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeForeign)
		f.refusedAs("another namespace", 2, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeForeign)
		f.refusedAs("another key", 3, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeForged)
		f.refusedAs("garbage", 0, hubkit.ConnectOptions{Resume: "garbage!"}, hubkit.ErrResumeMalformed)
		f.refusedAs("too long", 0, hubkit.ConnectOptions{Resume: strings.Repeat("x", 4097)}, hubkit.ErrResumeTooLong)
		if _, err := f.hubs[4].Connect(t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, backplane.ErrUnsupported) || errors.Is(err, hubkit.ErrResume) {
			t.Errorf("a hub without Resume: %v", err)
		}
		plain := f.member(4)
		if _, err := plain.ResumeToken(); !errors.Is(err, backplane.ErrUnsupported) {
			t.Errorf("a token of a hub without Resume: %v", err)
		}
		if id, generation := plain.Session(); id != "" || generation != 0 || plain.Resumed() {
			t.Errorf("a session without Resume: %q, %d", id, generation)
		}
		settleFor(t, 10*time.Minute)
		f.refusedAs("expired", 0, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeExpired)
		if c.over() {
			t.Error("a refusal closed the old connection")
		}
		f.stop()
		for _, n := range f.nodes {
			if err := n.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
}

// The client's newest token says what it is in: a burst of changes makes one token, and a token is made anew in time.
func TestTokensAreHandedOut(t *testing.T) {
	onResume(t, func(f *farm) {
		ctx := f.t.Context()
		c := f.user(0, "nurse", "1", "2", "3")
		tokens := func() (n int) {
			for _, d := range c.sock.Deliveries() {
				if d.Resume != "" {
					n++
					if d.Payload != nil || d.Lost() {
						f.t.Errorf("a token with something else: %+v", d)
					}
				}
			}
			return n
		}
		settleFor(f.t, time.Second)
		if n := tokens(); n != 1 {
			f.t.Errorf("%d tokens after the connect and three joins", n)
		}
		for i, change := range []func() error{
			func() error { return c.Leave(ctx, "1") },
			func() error { return c.Join(ctx, "4") },
			func() error { _, err := f.hubs[1].Join(ctx, hubkit.ToUsers("nurse"), "5"); return err },
			func() error { _, err := f.hubs[1].Leave(ctx, hubkit.ToUsers("nurse"), "2"); return err },
			func() error { _, err := f.hubs[1].LeaveAll(ctx, hubkit.ToUsers("nurse")); return err },
		} {
			before := tokens()
			if err := change(); err != nil {
				f.t.Error(err)
			}
			settleFor(f.t, time.Second)
			if n := tokens(); n != before+1 {
				f.t.Errorf("change %d: %d new tokens", i, n-before)
			}
		}
		if err := c.Join(ctx, "4"); err != nil {
			f.t.Error(err)
		}
		settleFor(f.t, time.Second)
		before := tokens()
		for range 2 {
			if err := errors.Join(c.Join(ctx, "4"), c.Leave(ctx, "none")); err != nil { // which changes nothing
				f.t.Error(err)
			}
		}
		settleFor(f.t, 3*time.Minute)
		if n := tokens(); n != before {
			f.t.Errorf("%d tokens without a change", n-before)
		}
		settleFor(f.t, 57*time.Minute)
		if n := tokens() - before; n < 9 || n > 12 {
			f.t.Errorf("%d tokens in an hour", n)
		}
		if got := f.back(1, c.sock.ResumeToken()); !slices.Equal(got.Groups(), []string{"4"}) {
			f.t.Errorf("it came back in %q", got.Groups())
		}
	})
}

// Memberships of the user are not the connection's own: they are read anew, and end while it is away.
func TestResumeAndMembershipsOfUsers(t *testing.T) {
	onResumeWith(t, func(o *hubkit.Options) { o.UserGroups = true }, func(f *farm) {
		f.joinUser(2, "nurse", "user's", time.Hour, 0)
		old := f.user(0, "nurse", "own", "both")
		f.joinUser(2, "nurse", "both", time.Hour, 0)
		token := old.token()
		c := f.back(1, token)
		if got := c.Groups(); !slices.Equal(got, []string{"both", "own", "user's"}) {
			f.t.Errorf("it came back in %q", got)
		}
		token = c.token()
		c.Disconnect(hubkit.Reason{})
		<-c.Done()
		f.leaveUser(0, "nurse", "user's", 0)
		f.leaveUser(0, "nurse", "both", 0)
		c = f.back(2, token)
		if got := c.Groups(); !slices.Equal(got, []string{"own"}) {
			f.t.Errorf("after the memberships ended while it was away it came back in %q", got)
		}
		f.joinUser(0, "nurse", "short", 2*time.Minute, 1)
		token = c.token()
		c.Disconnect(hubkit.Reason{})
		settleFor(f.t, 3*time.Minute)
		c = f.back(0, token)
		if got := c.Groups(); !slices.Equal(got, []string{"own"}) {
			f.t.Errorf("after a membership's time was over it came back in %q", got)
		}
	})
}

// When the end of a user's membership takes a connection out of what it had joined by itself, it gets a new token.
func TestTokensFollowMembershipsOfUsers(t *testing.T) {
	onResumeWith(t, func(o *hubkit.Options) { o.UserGroups = true }, func(f *farm) {
		c := f.user(0, "nurse", "own", "both")
		before := c.token()
		f.leaveUser(1, "nurse", "both", 1)
		token := c.token()
		if token == before {
			f.t.Error("there is no new token")
		}
		f.alone(1) // nobody knows better
		if got := f.back(1, token); !slices.Equal(got.Groups(), []string{"own"}) {
			f.t.Errorf("it came back in %q", got.Groups())
		}
		f.together()
	})
}

// A drain sends clients elsewhere, and their tokens work there.
func TestResumeAfterDrain(t *testing.T) {
	onResume(t, func(f *farm) {
		old := f.user(0, "nurse", "4B")
		token := old.token()
		if _, err := f.hubs[0].Drain(f.t.Context(), hubkit.DrainOptions{}); err != nil {
			f.t.Error(err)
		}
		if _, err := f.hubs[0].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, hubkit.ErrDraining) || errors.Is(err, hubkit.ErrResume) {
			f.t.Errorf("where it drains: %v", err)
		}
		if c := f.back(1, token); !slices.Equal(c.Groups(), []string{"4B"}) {
			f.t.Errorf("it came back in %q", c.Groups())
		}
		token = f.user(1, "doctor", "5A").token()
		if err := f.hubs[1].Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		if c := f.back(2, token); !slices.Equal(c.Groups(), []string{"5A"}) {
			f.t.Errorf("after a close it came back in %q", c.Groups())
		}
	})
}

// Without the broker a client waits, like any other; when its context ends first nothing is left, and the token is as good as before.
func TestResumeWhileDown(t *testing.T) {
	onResume(t, func(f *farm) {
		old := f.user(0, "nurse", "4B")
		token := old.token()
		f.member(1)
		f.broker.Stop()
		settleFor(f.t, settling)
		ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
		defer cancel()
		if _, err := f.hubs[1].Connect(ctx, conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, backplane.ErrUnavailable) || errors.Is(err, hubkit.ErrResume) {
			f.t.Errorf("while the broker is down: %v", err)
		}
		made := make(chan *hubkit.Connection)
		sock := conntest.New()
		go func() {
			c, err := f.hubs[1].Connect(f.t.Context(), sock, hubkit.ConnectOptions{Resume: token})
			if err != nil {
				f.t.Error(err)
			}
			made <- c
		}()
		settleFor(f.t, 10*time.Second)
		f.broker.Start()
		c := <-made
		if c == nil || !slices.Equal(c.Groups(), []string{"4B"}) {
			f.t.Fatalf("it came back as %v", c)
		}
		settleFor(f.t, settling)
		if !old.over() {
			f.t.Error("the old one is there still")
		}
	})
}
