package hubkit_test

import (
	"context"
	"errors"
	"fmt"
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

// resumeKey makes a key of a name.
func resumeKey(id string) hubkit.ResumeKey {
	return hubkit.ResumeKey{ID: id, Secret: []byte(fmt.Sprintf("%-16s0123456789abcdef0123456789abcdef", id))}
}

// everything restores what was.
func everything(_ context.Context, r hubkit.Resumption) ([]string, error) { return r.Groups, nil }

func resumeOptions() hubkit.Options {
	return hubkit.Options{Name: "ward", Resume: hubkit.ResumeOptions{Keys: []hubkit.ResumeKey{resumeKey("k1")}, Restore: everything}}
}

// onResume runs a test over nodes that know one another, and whose clients can come back.
func onResume(t *testing.T, test func(*farm)) {
	t.Helper()
	for _, store := range []bool{true, false} {
		t.Run(map[bool]string{true: "store", false: "no store"}[store], func(t *testing.T) {
			o := resumeOptions()
			o.Resume.NoStore = !store
			onNodes(t, o, func(f *farm) {
				settleFor(f.t, settling)
				test(f)
			})
		})
	}
	t.Run("a broker without a store", func(t *testing.T) {
		onSeats(t, resumeOptions(), func(n *backplane.Node) backplane.Backplane { return storeless{n, noStore{}} }, func(f *farm) {
			settleFor(f.t, settling)
			test(f)
		})
	})
}

// storeless is a node whose transport could use a store that the broker does not have, or whose records of sessions a later version wrote.
type storeless struct {
	*backplane.Node

	store backplane.Store
}

func (n storeless) Store() (backplane.Store, bool) { return n.store, true }

type noStore struct{ backplane.Store }

func (noStore) Get(context.Context, string) (backplane.Entry, error) {
	return backplane.Entry{}, backplane.ErrUnsupported
}

func (noStore) Create(context.Context, string, []byte, time.Duration) (backplane.Revision, error) {
	return 0, backplane.ErrUnsupported
}

// laterStore has records of all sessions, of a later version.
type laterStore struct{ noStore }

func (laterStore) Get(_ context.Context, key string) (backplane.Entry, error) {
	if strings.HasSuffix(key, "/"+strings.Repeat("0", 32)) {
		return backplane.Entry{}, backplane.ErrKeyNotFound
	}
	return backplane.Entry{}, backplane.ErrUnsupported
}

// A record that this version cannot read is not taken for a store that is not there: who was thrown out would come back.
func TestResumeRefusesWhatALaterVersionRecorded(t *testing.T) {
	onSeats(t, resumeOptions(), func(n *backplane.Node) backplane.Backplane { return storeless{n, laterStore{}} }, func(f *farm) {
		settleFor(f.t, settling)
		token := f.user(0, "nurse", "4B").token()
		for range 2 {
			_, err := f.hubs[1].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token})
			if !errors.Is(err, backplane.ErrUnsupported) {
				f.t.Errorf("it came back: %v", err)
			}
		}
	})
}

// token waits for the newest token that the client was given.
func (c *client) token() string {
	c.f.t.Helper()
	settleFor(c.f.t, time.Second)
	token := c.sock.ResumeToken()
	if token == "" {
		c.f.t.Fatal("the client got no token")
	}
	return token
}

// back connects a client that comes back to instance i.
func (f *farm) back(i int, token string) *client {
	f.t.Helper()
	return f.connect(i, hubkit.ConnectOptions{Resume: token})
}

// refusedAs checks that a token is not accepted by instance i, that the error is the one wanted and no other, tells nothing of
// the token, and that nothing is left behind.
func (f *farm) refusedAs(what string, i int, o hubkit.ConnectOptions, want error) {
	f.t.Helper()
	before := f.hubs[i].Stats()
	sock := conntest.New()
	c, err := f.hubs[i].Connect(f.t.Context(), sock, o)
	if err == nil {
		f.t.Errorf("%s: it is accepted", what)
		c.Disconnect(hubkit.Reason{})
		return
	}
	for _, e := range resumeErrors {
		if errors.Is(err, e) != errors.Is(want, e) {
			f.t.Errorf("%s: %v; want %v alone", what, err, want)
		}
	}
	if !errors.Is(err, want) {
		f.t.Errorf("%s: %v; want %v", what, err, want)
	}
	if len(o.Resume) > 20 && strings.Contains(err.Error(), o.Resume[5:20]) {
		f.t.Errorf("%s: the error shows the token: %v", what, err)
	}
	after := f.hubs[i].Stats()
	if after.Connections != before.Connections || after.Groups != before.Groups || after.Users != before.Users || len(sock.Deliveries()) != 0 {
		f.t.Errorf("%s: left behind: %+v, before it was %+v", what, after, before)
	}
	if err = sock.Close(hubkit.Reason{}); err != nil { // it is the caller's
		f.t.Errorf("%s: %v", what, err)
	}
	if after.ResumesRefused != before.ResumesRefused+1 {
		f.t.Errorf("%s: %d refusals counted, before it were %d", what, after.ResumesRefused, before.ResumesRefused)
	}
}

var resumeErrors = []error{
	hubkit.ErrResume, hubkit.ErrResumeTooLong, hubkit.ErrResumeMalformed, hubkit.ErrResumeForged, hubkit.ErrResumeForeign, hubkit.ErrResumeExpired,
	hubkit.ErrResumeUser, hubkit.ErrResumeEnded, hubkit.ErrResumeReplaced, hubkit.ErrResumeDeclined, backplane.ErrUnsupported,
}

// A client that lost its socket comes back on another instance: its groups are there before the first message, it is told first that
// something may be missing, and what hangs on the old instance is closed.
func TestResumeOnAnotherInstance(t *testing.T) {
	onResume(t, func(f *farm) {
		old := f.user(0, "nurse", "4B", "5A")
		if old.Resumed() {
			f.t.Error("a new client has come back")
		}
		token := old.token()
		f.send(2, hubkit.ToGroups("4B"), "one")
		old.got("one")

		c := f.back(1, token)
		f.send(2, hubkit.ToGroups("4B"), "two") // at once
		f.send(2, hubkit.ToUsers("nurse"), "three")
		f.send(2, hubkit.ToGroups("5A"), "four")
		settle()
		if got := c.sock.Payloads(); len(got) != 3 {
			f.t.Errorf("the client got %q", got)
		}
		if first := c.sock.Deliveries()[0]; first.Gap == nil || first.Gap.Cause != backplane.GapLink || !first.Lost() {
			f.t.Errorf("the first delivery is %+v", first)
		}
		if r := old.ended(); r.Code != hubkit.ReasonReplaced || r.CloseCode() != 1008 {
			f.t.Errorf("the old connection ended: %v", r)
		}
		old.got("one")
		id, generation := c.Session()
		before, _ := old.Session()
		if !c.Resumed() || c.User() != "nurse" || !slices.Equal(c.Groups(), []string{"4B", "5A"}) || id != before || generation != 2 {
			f.t.Errorf("it came back as %q in %q, session %s (%d), before it was %s", c.User(), c.Groups(), id, generation, before)
		}
		if n := f.hubs[0].Stats(); n.Connections != 0 || n.Groups != 0 {
			f.t.Errorf("the old instance has %+v", n)
		}
		again := f.back(0, c.token())
		if _, generation = again.Session(); generation != 3 || !slices.Equal(again.Groups(), []string{"4B", "5A"}) {
			f.t.Errorf("the third connection is number %d, in %q", generation, again.Groups())
		}
	})
}

// The instance dies with its client's socket. It comes back elsewhere, and the ghost is closed when the instance is heard again.
func TestResumeAfterInstanceWentSilent(t *testing.T) {
	onResume(t, func(f *farm) {
		old := f.user(0, "nurse", "4B")
		token := old.token()
		f.broker.Cut(f.nodes[0].ID())
		began := time.Now()
		c := f.back(1, token)
		if took := time.Since(began); took > 2*time.Second {
			f.t.Errorf("it took %v", took)
		}
		f.send(2, hubkit.ToGroups("4B"), "one")
		c.got("one")
		settleFor(f.t, 3*time.Minute)
		if _, closed := old.Reason(); closed {
			f.t.Error("the ghost is closed already")
		}
		f.broker.Heal(f.nodes[0].ID())
		settleFor(f.t, 20*time.Second)
		if r := old.ended(); r.Code != hubkit.ReasonReplaced {
			f.t.Errorf("the ghost ended: %v", r)
		}
		if c.over() {
			f.t.Error("the newer one was closed")
		}
	})
}

// over reports whether the connection has ended.
func (c *client) over() bool {
	_, over := c.Reason()
	return over
}

// A token that is presented twice at the same moment makes one connection in the end, wherever, also where the one who
// could decide is gone.
func TestResumeTwiceAtOnce(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut %v", cut), func(t *testing.T) {
			onResume(t, func(f *farm) {
				for round := range 10 {
					old := f.user(0, "nurse", "4B")
					token := old.token()
					if cut {
						f.broker.Cut(f.nodes[0].ID())
					}
					made := make(chan *hubkit.Connection)
					for _, i := range []int{1, 2, 1, 2} {
						go func() {
							c, err := f.hubs[i].Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token})
							if err != nil && !errors.Is(err, hubkit.ErrResumeReplaced) {
								f.t.Error(err)
							}
							made <- c
						}()
					}
					var all []*hubkit.Connection
					for range 4 {
						if c := <-made; c != nil {
							all = append(all, c)
						}
					}
					settleFor(f.t, time.Second)
					var open []*hubkit.Connection
					for _, c := range all {
						if r, closed := c.Reason(); !closed {
							open = append(open, c)
						} else if r.Code != hubkit.ReasonReplaced {
							f.t.Errorf("one ended: %v", r)
						}
					}
					if len(open) != 1 {
						f.t.Fatalf("round %d: %d of %d connections survive", round, len(open), len(all))
					}
					if cut {
						f.broker.Heal(f.nodes[0].ID())
						settleFor(f.t, 20*time.Second)
					}
					if !old.over() {
						f.t.Error("the old connection is there still")
					}
					if _, closed := open[0].Reason(); closed {
						f.t.Error("the one that survived did not")
					}
					open[0].Disconnect(hubkit.Reason{})
				}
			})
		})
	}
}

// One after the other: the later one wins, although both were made of the same token.
func TestResumeTwiceLaterWins(t *testing.T) {
	onResume(t, func(f *farm) {
		token := f.user(0, "nurse", "4B").token()
		first := f.back(1, token)
		if err := first.Join(f.t.Context(), "5A"); err != nil {
			f.t.Fatal(err)
		}
		second := f.back(2, token)
		settle()
		if !first.over() || second.over() {
			f.t.Errorf("the first is over: %v, the second: %v", first.over(), second.over())
		}
		if got := second.Groups(); !slices.Equal(got, []string{"4B", "5A"}) { // what the first one had, not what the token says
			f.t.Errorf("the second is in %q", got)
		}
		third := f.back(2, token)
		settle()
		if !second.over() || third.over() {
			f.t.Errorf("the second is over: %v, the third: %v", second.over(), third.over())
		}
	})
}

// An older token does not undo what came after it, as long as somebody knows: a leave, here or from elsewhere, by id or by user, also
// after the client has gone.
func TestResumeOfAnOlderToken(t *testing.T) {
	onResume(t, func(f *farm) {
		ctx := f.t.Context()
		restored := func(what string, i int, token string, groups ...string) {
			f.t.Helper()
			c := f.back(i, token)
			if got := c.Groups(); !slices.Equal(got, groups) {
				f.t.Errorf("%s: it came back in %q, want %q", what, got, groups)
			}
			c.Disconnect(hubkit.Reason{})
		}
		old := f.user(0, "a", "1", "2", "3")
		token := old.token()
		if err := old.Leave(ctx, "1"); err != nil {
			f.t.Error(err)
		}
		f.changed("leave", 1)(f.hubs[2].Leave(ctx, hubkit.ToConnections(old.ID()), "2"))
		f.changed("join", 1)(f.hubs[2].Join(ctx, hubkit.ToUsers("a"), "4"))
		restored("while it hangs", 1, token, "3", "4")
		restored("after it has gone", 2, token, "3", "4")

		old = f.user(0, "b", "1", "2", "3", "4", "5")
		token = old.token()
		old.Disconnect(hubkit.Reason{})
		<-old.Done()
		_, err := f.hubs[2].Leave(ctx, hubkit.ToConnections(old.ID()), "1")
		f.failedAs("it is not there", err, hubkit.ErrNotFound)
		f.changed("leave of the absent", 0)(f.hubs[1].Leave(ctx, hubkit.ToUsers("b"), "2"))
		f.changed("leave of all", 0)(f.hubs[1].Leave(ctx, hubkit.ToAll(), "3"))
		f.changed("leave of a group", 0)(f.hubs[1].Leave(ctx, hubkit.ToGroups("4"), "4"))
		restored("left while it was away", 1, token, "5")
		f.changed("leave all", 0)(f.hubs[1].LeaveAll(ctx, hubkit.ToUsers("b")))
		restored("left all while it was away", 1, token)

		old = f.user(0, "c", "1")
		token = old.token()
		f.broker.Cut(f.nodes[0].ID())
		settleFor(f.t, settling)
		restored("nobody knows better", 1, token, "1")
		f.broker.Heal(f.nodes[0].ID())
		settleFor(f.t, settling)
	})
}

// A client that the server disconnected does not come back, wherever the disconnect came from, and wherever it tries. One that
// was told to come back does.
func TestResumeAfterDisconnect(t *testing.T) {
	onResume(t, func(f *farm) {
		ctx := f.t.Context()
		for _, row := range []struct {
			what   string
			reason hubkit.ReasonCode
			local  bool // Connection.Disconnect
			ends   bool
		}{
			{"an ordinary end by an operation", hubkit.ReasonDone, false, true},
			{"refused by an operation", hubkit.ReasonRefused, false, true},
			{"an unknown reason by an operation", 99, false, true},
			{"going away by an operation", hubkit.ReasonGoingAway, false, false},
			{"slow by an operation", hubkit.ReasonSlow, false, false},
			{"failed by an operation", hubkit.ReasonFailed, false, false},
			{"the client has gone", hubkit.ReasonDone, true, false},
			{"refused", hubkit.ReasonRefused, true, true},
			{"going away", hubkit.ReasonGoingAway, true, false},
		} {
			old := f.user(0, "nurse", "4B")
			token := old.token()
			if row.local {
				old.Disconnect(hubkit.Reason{Code: row.reason})
			} else {
				f.changed(row.what, 1)(f.hubs[2].Disconnect(ctx, hubkit.ToUsers("nurse"), hubkit.Reason{Code: row.reason}))
			}
			for i := range f.hubs {
				if row.ends {
					f.refusedAs(row.what, i, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeEnded)
				} else {
					c := f.back(i, token)
					c.Disconnect(hubkit.Reason{})
				}
			}
			if _, err := old.ResumeToken(); !errors.Is(err, hubkit.ErrDisconnected) {
				f.t.Errorf("%s: a token after the end: %v", row.what, err)
			}
		}
	})
}

// A kick reaches a client that is away just now, and what a server refuses after the socket has gone is refused.
func TestResumeAfterDisconnectOfAnAbsentClient(t *testing.T) {
	onResume(t, func(f *farm) {
		ctx := f.t.Context()
		for what, kick := range map[string]func(*client){
			"by user": func(*client) {
				f.changed("kick", 0)(f.hubs[1].Disconnect(ctx, hubkit.ToUsers("nurse"), hubkit.Reason{Code: hubkit.ReasonRefused}))
			},
			"by id": func(c *client) {
				_, err := f.hubs[1].Disconnect(ctx, hubkit.ToConnections(c.ID()), hubkit.Reason{})
				f.failedAs("kick", err, hubkit.ErrNotFound)
			},
			"by group": func(*client) {
				f.changed("kick", 0)(f.hubs[1].Disconnect(ctx, hubkit.ToGroups("4B"), hubkit.Reason{}))
			},
			"by itself": func(c *client) { c.Disconnect(hubkit.Reason{Code: hubkit.ReasonRefused}) },
		} {
			old := f.user(0, "nurse", "4B")
			token := old.token()
			old.Disconnect(hubkit.Reason{})
			<-old.Done()
			kick(old)
			f.refusedAs(what, 2, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeEnded)
		}

		// An old connection's id says nothing of the newer connection of its session.
		old := f.user(0, "nurse")
		c := f.back(1, old.token())
		_, err := f.hubs[2].Disconnect(ctx, hubkit.ToConnections(old.ID()), hubkit.Reason{Code: hubkit.ReasonRefused})
		f.failedAs("the old one", err, hubkit.ErrNotFound)
		old.Disconnect(hubkit.Reason{Code: hubkit.ReasonRefused})
		settleFor(f.t, 5*time.Second)
		if c.over() {
			f.t.Error("the newer connection was closed with the old one")
		}
	})
}

// An ended session stays ended when the instance that ended it is gone, and when all that knew of it are: then by the store.
func TestEndedSessionsSurviveInstances(t *testing.T) {
	onResume(t, func(f *farm) {
		old := f.user(0, "nurse", "4B")
		token := old.token()
		f.changed("kick", 1)(f.hubs[0].Disconnect(f.t.Context(), hubkit.ToConnections(old.ID()), hubkit.Reason{}))
		f.broker.Cut(f.nodes[0].ID())
		f.refusedAs("the home is silent", 1, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeEnded)
		settleFor(f.t, settling)
		f.refusedAs("the home is dead", 2, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeEnded)

		n, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		o := resumeOptions()
		h, err := hubkit.New(n, o)
		if err != nil {
			f.t.Fatal(err)
		}
		f.nodes, f.hubs = append(f.nodes, n), append(f.hubs, h)
		settleFor(f.t, settling)
		f.refusedAs("a newcomer asks", 3, hubkit.ConnectOptions{Resume: token}, hubkit.ErrResumeEnded)
		f.broker.Heal(f.nodes[0].ID())
		settleFor(f.t, settling)
	})
}

// A session that was ended on an instance that nobody can hear may come back elsewhere; when the instance is heard again it ends there
// too.
func TestEndedSessionsOfAnIsland(t *testing.T) {
	onResume(t, func(f *farm) {
		old := f.user(0, "nurse", "4B")
		token := old.token()
		f.broker.Cut(f.nodes[0].ID())
		settleFor(f.t, settling)
		old.Disconnect(hubkit.Reason{Code: hubkit.ReasonRefused})
		c := f.back(1, token)
		settleFor(f.t, settling)
		if c.over() {
			f.t.Error("it has ended before anybody could know")
		}
		f.broker.Heal(f.nodes[0].ID())
		settleFor(f.t, settling)
		if r := c.ended(); r.Code != hubkit.ReasonRefused {
			f.t.Errorf("it ended: %v", r)
		}
		f.refusedAs("later", 2, hubkit.ConnectOptions{Resume: c.sock.ResumeToken()}, hubkit.ErrResumeEnded)
	})
}

// alone opens a node of a broker, with a hub whose clients can come back and no farm around it, and returns what closes both.
func alone(t *testing.T, broker *inmem.Broker) (n *backplane.Node, h *hubkit.Hub, shut func()) {
	t.Helper()
	n, err := backplane.Open(t.Context(), broker.Opener(), backplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err = hubkit.New(n, resumeOptions())
	if err != nil {
		t.Fatal(err)
	}
	return n, h, func() {
		if err := errors.Join(h.Close(t.Context()), n.Close(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// Where everybody who knew of an ended session is gone, the store knows.
func TestEndedSessionsAreInTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inmem.NewBroker()
		_, h, stop := alone(t, b)
		c, err := h.Connect(t.Context(), conntest.New(), hubkit.ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		token, err := c.ResumeToken()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = h.Disconnect(t.Context(), hubkit.ToConnections(c.ID()), hubkit.Reason{}); err != nil {
			t.Error(err)
		}
		stop() // at once
		_, h, stop = alone(t, b)
		if _, err = h.Connect(t.Context(), conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, hubkit.ErrResumeEnded) {
			t.Errorf("a newcomer alone: %v, want ErrResumeEnded", err)
		}
		stop()
	})
}
