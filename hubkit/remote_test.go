package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

// H2: operations from any instance.

// settling is longer than a node settles.
const settling = 10 * time.Second

// onSettled runs a test over nodes that know one another.
func onSettled(t *testing.T, test func(*farm)) {
	t.Helper()
	onNodes(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		settleFor(f.t, settling)
		test(f)
	})
}

// operations are all operations, from one instance on one target.
var operations = map[string]func(ctx context.Context, h *hubkit.Hub, of hubkit.Target) (int, error){
	"join":      func(ctx context.Context, h *hubkit.Hub, of hubkit.Target) (int, error) { return h.Join(ctx, of, "g") },
	"leave":     func(ctx context.Context, h *hubkit.Hub, of hubkit.Target) (int, error) { return h.Leave(ctx, of, "g") },
	"leave all": func(ctx context.Context, h *hubkit.Hub, of hubkit.Target) (int, error) { return h.LeaveAll(ctx, of) },
	"disconnect": func(ctx context.Context, h *hubkit.Hub, of hubkit.Target) (int, error) {
		return h.Disconnect(ctx, of, hubkit.Reason{})
	},
}

// changed checks what an operation returned.
func (f *farm) changed(what string, want int) func(int, error) {
	f.t.Helper()
	return func(n int, err error) {
		f.t.Helper()
		if n != want || err != nil {
			f.t.Errorf("%s: changed %d, want %d; %v", what, n, want, err)
		}
	}
}

// outcomes are what a caller must be able to tell apart.
var outcomes = []error{
	hubkit.ErrNotFound, backplane.ErrNodeLost, backplane.ErrUnavailable, backplane.ErrTimeout, backplane.ErrBusy,
	backplane.ErrUnsupported, backplane.ErrClosed, hubkit.ErrPartial,
}

// failedAs checks that an error is one of the outcomes, and no other.
func (f *farm) failedAs(what string, err, want error) {
	f.t.Helper()
	for _, o := range outcomes {
		if errors.Is(err, o) != errors.Is(want, o) {
			f.t.Errorf("%s: %v; want %v alone", what, err, want)
		}
	}
	if typed, ok := errors.AsType[*hubkit.Error](err); !ok || typed.Hub != "ward" {
		f.t.Errorf("%s: %#v", what, err)
	}
}

func TestOperationsReachEveryInstance(t *testing.T) {
	onSettled(t, func(f *farm) {
		ctx := f.t.Context()
		for from, h := range f.hubs {
			var all []*client
			for i := range instances {
				all = append(all, f.user(i, "u"+strconv.Itoa(i)), f.user(i, "u"+strconv.Itoa(i), "4B"))
			}
			one := hubkit.ToConnections(all[2].ID())
			f.changed("join one", 1)(h.Join(ctx, one, "g"))
			f.send(0, hubkit.ToGroups("g"), "to one") // at once: the join is effective
			settle()
			f.changed("join one twice", 0)(h.Join(ctx, one, "g"))
			f.changed("join a user", 1)(h.Join(ctx, hubkit.ToUsers("u1"), "g")) // the other one of them is in
			f.changed("join a group but one", 2)(h.Join(ctx, hubkit.Target{Groups: []string{"4B"}, Except: []string{all[1].ID(), all[0].ID()}}, "g2"))
			f.send(1, hubkit.ToGroups("g2"), "to two")
			settle()
			f.changed("join all", 4)(h.Join(ctx, hubkit.ToAll(), "g"))
			f.send(2, hubkit.ToGroups("g"), "to all")
			all[0].got("to all")
			all[1].got("to all")
			all[2].got("to one", "to all")
			all[3].got("to two", "to all")
			all[4].got("to all")
			all[5].got("to two", "to all")

			f.changed("leave", 2)(h.Leave(ctx, hubkit.ToConnections(all[0].ID(), all[5].ID()), "g"))
			f.changed("leave twice", 0)(h.Leave(ctx, hubkit.ToConnections(all[0].ID(), all[5].ID()), "g"))
			f.changed("leave all groups", 4)(h.LeaveAll(ctx, hubkit.Target{All: true, Except: []string{all[2].ID()}}))
			f.send(0, hubkit.ToGroups("g", "g2", "4B"), "to who is left")
			all[5].got("to two", "to all")
			all[2].got("to one", "to all", "to who is left")

			f.changed("a user is thrown out", 2)(h.Disconnect(ctx, hubkit.ToUsers("u0"), hubkit.Reason{Code: hubkit.ReasonRefused, Text: "bye\xff"}))
			for _, c := range all[:2] {
				if r := c.ended(); r.Code != hubkit.ReasonRefused || r.Text != "bye" {
					f.t.Errorf("the reason is %v", r)
				}
			}
			f.changed("nobody", 0)(h.Disconnect(ctx, hubkit.ToGroups("nobody"), hubkit.Reason{}))
			f.changed("nobody at all", 0)(h.Disconnect(ctx, hubkit.Target{}, hubkit.Reason{}))
			union := hubkit.Target{Users: []string{"u1"}, Groups: []string{"g"}, Connections: []string{all[2].ID(), all[5].ID()}, Except: []string{all[3].ID()}}
			f.changed("several at once", 2)(h.Disconnect(ctx, union, hubkit.Reason{}))
			f.changed("the rest", 2)(h.Disconnect(ctx, hubkit.ToAll(), hubkit.Reason{}))
			for i, h := range f.hubs {
				if s := h.Stats(); s.Connections != 0 || s.Groups != 0 || s.Users != 0 {
					f.t.Errorf("asked by %d, instance %d has left: %+v", from, i, s)
				}
			}
		}
	})
}

// What is not there, what may live, what cannot be reached and what is not known are different errors.
func TestOperationsTellOutcomesApart(t *testing.T) {
	onSettled(t, func(f *farm) {
		for name, do := range operations {
			ctx := f.t.Context()
			here, there := f.member(0, "g"), f.member(1, "g")
			for _, c := range []*client{here, there} {
				c.Disconnect(hubkit.Reason{})
				n, err := do(ctx, f.hubs[0], hubkit.ToConnections(c.ID()))
				f.failedAs(name+" who is gone", err, hubkit.ErrNotFound)
				if n != 0 {
					f.t.Errorf("%s: %d changed", name, n)
				}
			}
		}
		dead, slow := f.member(1, "g"), f.member(2, "g")
		left := f.another()
		gone, err := left.hub.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		left.close(f)
		for name, do := range operations {
			_, err := do(f.t.Context(), f.hubs[0], hubkit.ToConnections(gone.ID()))
			f.failedAs(name+" on a node that left", err, hubkit.ErrNotFound)
		}

		f.broker.Cut(f.nodes[1].ID())
		began := time.Now()
		_, err = f.hubs[0].Leave(f.t.Context(), hubkit.ToConnections(dead.ID()), "g")
		f.failedAs("a node that dies meanwhile", err, backplane.ErrNodeLost)
		if d := time.Since(began); d > settling {
			f.t.Errorf("a dead node was waited for %v", d)
		}
		f.broker.Hang(f.nodes[2].ID())
		for name, do := range operations {
			_, err := do(f.t.Context(), f.hubs[0], hubkit.ToConnections(dead.ID()))
			f.failedAs(name+" on a dead node", err, backplane.ErrNodeLost)
			ctx, cancel := context.WithTimeout(f.t.Context(), 100*time.Millisecond)
			_, err = do(ctx, f.hubs[0], hubkit.ToConnections(slow.ID()))
			f.failedAs(name+" on a node that does not answer", err, backplane.ErrTimeout)
			cancel()
		}
		f.broker.Heal(f.nodes[1].ID())
		f.broker.Heal(f.nodes[2].ID())
		settleFor(f.t, 2*settling)
		slow = f.member(2, "g") // the first one may have been disconnected late
		f.broker.Cut(f.nodes[0].ID())
		settleFor(f.t, settling)
		for name, do := range operations {
			_, err := do(f.t.Context(), f.hubs[0], hubkit.ToConnections(slow.ID()))
			f.failedAs(name+" without a link", err, backplane.ErrUnavailable)
			_, err = do(f.t.Context(), f.hubs[0], hubkit.ToUsers("u"))
			f.failedAs(name+" everywhere without a link", err, backplane.ErrUnavailable)
		}
		f.broker.Heal(f.nodes[0].ID())
		settleFor(f.t, settling)
		f.changed("healed", 1)(f.hubs[0].Leave(f.t.Context(), hubkit.ToConnections(slow.ID()), "g"))
		if err := f.hubs[0].Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		for name, do := range operations {
			_, err := do(f.t.Context(), f.hubs[0], hubkit.ToConnections(slow.ID()))
			f.failedAs(name+" on a closed hub", err, backplane.ErrClosed)
			_, err = do(f.t.Context(), f.hubs[1], hubkit.ToConnections(strings.Replace(slow.ID(), string(f.nodes[2].ID()), string(f.nodes[0].ID()), 1)))
			f.failedAs(name+" where the hub was closed", err, hubkit.ErrNotFound)
		}
	})
}

// extra is an instance beside the farm's.
type extra struct {
	node *backplane.Node
	hub  *hubkit.Hub
}

func (f *farm) another() extra {
	f.t.Helper()
	n, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{Label: "another"})
	if err != nil {
		f.t.Fatal(err)
	}
	h, err := hubkit.New(n, hubkit.Options{Name: "ward"})
	if err != nil {
		f.t.Fatal(err)
	}
	settle()
	return extra{n, h}
}

func (e extra) close(f *farm) {
	f.t.Helper()
	if err := e.hub.Close(context.Background()); err != nil {
		f.t.Error(err)
	}
	if err := e.node.Close(context.Background()); err != nil {
		f.t.Error(err)
	}
}

// What does not reach every instance says so and names it; what was done is counted.
func TestOperationsNameWhoIsMissing(t *testing.T) {
	onSettled(t, func(f *farm) {
		a, b := f.member(0, "4B"), f.member(1, "4B")
		gone := f.member(2)
		gone.Disconnect(hubkit.Reason{})
		n, err := f.hubs[2].Leave(f.t.Context(), hubkit.ToConnections(a.ID(), gone.ID()), "4B")
		partial, ok := errors.AsType[*hubkit.PartialError](err)
		if n != 1 || !ok || !errors.Is(err, hubkit.ErrPartial) || !errors.Is(err, hubkit.ErrNotFound) || partial.Settling ||
			len(partial.Missing) != 1 || fmt.Sprint(partial.Missing[0].Connections) != fmt.Sprint([]string{gone.ID()}) {
			f.t.Errorf("one of two is gone: %d, %v", n, err)
		}
		f.changed("again", 1)(f.hubs[2].Join(f.t.Context(), hubkit.ToConnections(a.ID()), "4B"))

		extra := f.another()
		dying := extra.node.ID()
		f.broker.Cut(dying)
		n, err = f.hubs[2].Join(f.t.Context(), hubkit.ToGroups("4B"), "g")
		partial, ok = errors.AsType[*hubkit.PartialError](err)
		if n != 2 || !ok || !errors.Is(err, backplane.ErrNodeLost) || partial.Settling || len(partial.Missing) != 1 ||
			partial.Missing[0].Node != dying || partial.Missing[0].Label != "another" || !strings.Contains(err.Error(), string(dying)) {
			f.t.Errorf("one of four died: %d, %v", n, err)
		}
		n, err = f.hubs[2].Join(f.t.Context(), hubkit.ToGroups("4B"), "g")
		if n != 0 || err != nil {
			f.t.Errorf("after its death: %d, %v", n, err)
		}
		f.broker.Heal(dying)
		settle()
		extra.close(f)

		late := f.another()
		n, err = late.hub.Join(f.t.Context(), hubkit.ToGroups("4B"), "h")
		partial, ok = errors.AsType[*hubkit.PartialError](err)
		if n != 2 || !ok || !partial.Settling || len(partial.Missing) != 0 {
			f.t.Errorf("one that has just come: %d, %v", n, err)
		}
		late.close(f)
		f.send(2, hubkit.ToGroups("h"), "h")
		a.got("h")
		b.got("h")
	})
}

// Nodes without the hub have nothing to say; hubs of another name are not concerned.
func TestOperationsWithForeignNodes(t *testing.T) {
	onSettled(t, func(f *farm) {
		bare, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		other, err := hubkit.New(bare, hubkit.Options{Name: "kitchen"})
		if err != nil {
			f.t.Fatal(err)
		}
		cook, err := other.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{User: "u"})
		if err != nil {
			f.t.Fatal(err)
		}
		f.user(1, "u")
		settle()
		f.changed("all", 1)(f.hubs[0].Join(f.t.Context(), hubkit.ToAll(), "g"))
		f.changed("a user", 1)(f.hubs[0].Disconnect(f.t.Context(), hubkit.ToUsers("u"), hubkit.Reason{}))
		_, err = f.hubs[0].Disconnect(f.t.Context(), hubkit.ToConnections(cook.ID()), hubkit.Reason{})
		f.failedAs("a connection of another hub", err, hubkit.ErrNotFound)
		if _, closed := cook.Reason(); closed || len(cook.Groups()) != 0 {
			f.t.Error("a connection of another hub was touched")
		}
		if err := other.Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		if err := bare.Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
	})
}

// Over the bare three verbs connections of this instance can be named, and nothing else.
func TestOperationsWithoutCluster(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		here, there := f.member(0), f.member(1)
		f.changed("here", 1)(f.hubs[0].Join(f.t.Context(), hubkit.ToConnections(here.ID()), "g"))
		f.send(1, hubkit.ToGroups("g"), "x")
		here.got("x")
		for name, do := range operations {
			for _, of := range []hubkit.Target{hubkit.ToConnections(here.ID(), there.ID()), hubkit.ToAll(), hubkit.ToGroups("g"), hubkit.ToUsers("u")} {
				n, err := do(f.t.Context(), f.hubs[0], of)
				f.failedAs(name, err, backplane.ErrUnsupported)
				if n != 0 {
					f.t.Errorf("%s: half done", name)
				}
			}
		}
		f.changed("disconnect", 1)(f.hubs[0].Disconnect(f.t.Context(), hubkit.ToConnections(here.ID()), hubkit.Reason{}))
		_, err := f.hubs[0].Disconnect(f.t.Context(), hubkit.ToConnections(here.ID()), hubkit.Reason{})
		f.failedAs("disconnect twice", err, hubkit.ErrNotFound)
	})
}

// Bad input is refused before anybody is asked.
func TestOperationsRefuseBadInput(t *testing.T) {
	onSettled(t, func(f *farm) {
		f.member(1, "g")
		tooMany := make([]string, hubkit.MaxExcept+1)
		for name, do := range operations {
			for _, bad := range []struct {
				of   hubkit.Target
				want error
			}{
				{hubkit.ToConnections("me"), hubkit.ErrInvalidTarget},
				{hubkit.ToConnections(""), hubkit.ErrInvalidTarget},
				{hubkit.Target{All: true, Except: []string{"me"}}, hubkit.ErrInvalidTarget},
				{hubkit.Target{All: true, Except: tooMany}, hubkit.ErrInvalidTarget},
				{hubkit.ToGroups("g", ""), backplane.ErrInvalidAddress},
				{hubkit.ToUsers("\xff"), backplane.ErrInvalidAddress},
			} {
				if _, err := do(f.t.Context(), f.hubs[0], bad.of); !errors.Is(err, bad.want) {
					f.t.Errorf("%s %v: %v", name, bad.of, err)
				}
			}
		}
		for _, group := range []string{"", "\xff", strings.Repeat("x", 1025)} {
			if _, err := f.hubs[0].Join(f.t.Context(), hubkit.ToAll(), group); !errors.Is(err, backplane.ErrInvalidAddress) {
				f.t.Errorf("join: %v", err)
			}
			if _, err := f.hubs[0].Leave(f.t.Context(), hubkit.ToAll(), group); !errors.Is(err, backplane.ErrInvalidAddress) {
				f.t.Errorf("leave: %v", err)
			}
		}
		if s := f.nodes[0].Stats(); s.QuestionsAsked != 0 {
			f.t.Errorf("%d questions were asked", s.QuestionsAsked)
		}
	})
}

// stalling is a node whose subscriptions to groups wait until they may go on.
type stalling struct {
	*backplane.Node

	proceed chan struct{}
	waiting chan struct{}
}

func (s stalling) Subscribe(ctx context.Context, to backplane.Address, f backplane.Handler) (backplane.Subscription, error) {
	if to.Kind() == backplane.KindGroup && strings.HasPrefix(to.Name(), "slow") {
		s.waiting <- struct{}{}
		select {
		case <-s.proceed:
		case <-ctx.Done():
			return nil, errors.Join(backplane.ErrUnavailable, ctx.Err())
		}
	}
	return s.Node.Subscribe(ctx, to, f)
}

// onStalling runs a test with an instance whose subscriptions to groups that begin with slow stall.
func onStalling(t *testing.T, test func(*farm, stalling, *hubkit.Hub)) {
	t.Helper()
	onSettled(t, func(f *farm) {
		n, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		s := stalling{n, make(chan struct{}), make(chan struct{}, 1000)}
		h, err := hubkit.New(s, hubkit.Options{Name: "ward"})
		if err != nil {
			f.t.Fatal(err)
		}
		settle()
		test(f, s, h)
		extra{n, h}.close(f)
		if s := h.Stats(); s.Groups != 0 || s.Subscriptions != 0 {
			f.t.Errorf("left behind: %+v", s)
		}
	})
}

// An operation that timed out and is carried out late does not undo a later one.
func TestLateJoinDoesNotUndoALaterLeave(t *testing.T) {
	onStalling(t, func(f *farm, s stalling, h *hubkit.Hub) {
		c, err := h.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		of := hubkit.ToConnections(c.ID())
		ctx, cancel := context.WithCancel(f.t.Context())
		joined := make(chan error, 1)
		go func() { _, err := f.hubs[0].Join(ctx, of, "slow"); joined <- err }()
		<-s.waiting
		cancel()
		f.failedAs("the join", <-joined, backplane.ErrTimeout)
		f.changed("the leave", 0)(f.hubs[0].Leave(f.t.Context(), of, "slow"))
		close(s.proceed)
		settle()
		if got := c.Groups(); len(got) != 0 {
			f.t.Errorf("the late join won: it is in %q", got)
		}
		if s := h.Stats(); s.Groups != 0 {
			f.t.Errorf("left behind: %+v", s)
		}
		f.changed("a new join", 1)(f.hubs[0].Join(f.t.Context(), of, "slow"))
	})
}

// While an operation is waited for it is not superseded by those that begin after it.
func TestConcurrentOperationsAreAllApplied(t *testing.T) {
	onStalling(t, func(f *farm, s stalling, h *hubkit.Hub) {
		c, err := h.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		of := hubkit.ToConnections(c.ID())
		joined := make(chan error, 1)
		go func() { _, err := f.hubs[0].Join(f.t.Context(), of, "slow"); joined <- err }()
		<-s.waiting
		for i := range 10 { // none of these waits for the broker's answer to the first
			f.changed("another group", 1)(f.hubs[0].Join(f.t.Context(), of, "g"+strconv.Itoa(i)))
		}
		f.changed("the leave", 1)(f.hubs[0].Leave(f.t.Context(), of, "g0"))
		close(s.proceed)
		if err := <-joined; err != nil {
			f.t.Error(err)
		}
		if got := c.Groups(); len(got) != 10 {
			f.t.Errorf("it is in %q", got)
		}
	})
}

// Joins that wait for the broker take no place from other operations: there is an end to them.
func TestWaitingJoinsAreBounded(t *testing.T) {
	onStalling(t, func(f *farm, s stalling, h *hubkit.Hub) {
		c, err := h.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		of := hubkit.ToConnections(c.ID())
		const most = 128
		var joins sync.WaitGroup
		for i := range most {
			joins.Go(func() { f.changed("join", 1)(f.hubs[i%instances].Join(f.t.Context(), of, "slow"+strconv.Itoa(i))) })
		}
		settle()
		_, err = f.hubs[0].Join(f.t.Context(), of, "slow too")
		f.failedAs("one too many", err, backplane.ErrBusy)
		began := time.Now()
		f.changed("leave", 0)(f.hubs[0].Leave(f.t.Context(), of, "g"))
		if d := time.Since(began); d != 0 {
			f.t.Errorf("a leave waited %v behind joins", d)
		}
		close(s.proceed)
		joins.Wait()
		f.changed("leave all", 1)(f.hubs[0].LeaveAll(f.t.Context(), of))
	})
}

// H3 for operations from afar: what comes after the return finds nobody.
func TestNothingEntersAfterARemoteLeave(t *testing.T) {
	onSettled(t, func(f *farm) {
		c := f.connect(1, hubkit.ConnectOptions{Outbox: hubkit.OutboxOptions{Policy: hubkit.DropOldest}}, "4B")
		f.connect(1, hubkit.ConnectOptions{Outbox: hubkit.OutboxOptions{Policy: hubkit.DropOldest}}, "4B") // stays
		c.sock.Block()
		stop := make(chan struct{})
		var flood sync.WaitGroup
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f.try(2, hubkit.ToGroups("4B"), "x")
				}
			}
		})
		for f.hubs[1].Stats().Delivered < 100 {
			f.send(0, hubkit.ToGroups("4B"), "x")
		}
		f.changed("leave", 1)(f.hubs[0].Leave(f.t.Context(), hubkit.ToConnections(c.ID()), "4B"))
		if err := c.Connection.Send([]byte("fence")); err != nil {
			f.t.Error(err)
		}
		for range 50 {
			f.send(0, hubkit.ToGroups("4B"), "late")
		}
		close(stop)
		flood.Wait()
		c.sock.Unblock()
		settle()
		if got := c.sock.Payloads(); got[len(got)-1] != "fence" {
			f.t.Errorf("after the leave came %q", got[len(got)-1])
		}
	})
}

// H4 for operations from afar: joins race disconnects, and nothing is left.
func TestRemoteOperationsRaceDisconnects(t *testing.T) {
	onSettled(t, func(f *farm) {
		var all sync.WaitGroup
		for i := range 40 {
			c := f.user(i%instances, "u")
			of := hubkit.ToConnections(c.ID())
			for from := range instances {
				all.Go(func() {
					_, err := f.hubs[from].Join(f.t.Context(), of, "g"+strconv.Itoa(i%3))
					if err != nil && !errors.Is(err, hubkit.ErrNotFound) {
						f.t.Error(err)
					}
				})
			}
			all.Go(func() {
				_, err := f.hubs[(i+1)%instances].Disconnect(f.t.Context(), of, hubkit.Reason{})
				if err != nil && !errors.Is(err, hubkit.ErrNotFound) {
					f.t.Error(err)
				}
			})
			all.Go(func() { c.Disconnect(hubkit.Reason{}) })
		}
		all.Wait()
		settle()
		for i, h := range f.hubs {
			if s := h.Stats(); s.Connections != 0 || s.Groups != 0 || s.Users != 0 || s.Subscriptions > 2 {
				f.t.Errorf("instance %d has left: %+v", i, s)
			}
		}
	})
}

// A hub of a newer version is told apart from one that is not there, and one of an older version says that it cannot.
func TestOperationsInAMixedFleet(t *testing.T) {
	onSettled(t, func(f *farm) {
		newer, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		said := []byte{2, 0}
		newer.Answer("hub/ward", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return said, nil })
		settle()
		of := hubkit.ToConnections(string(newer.ID()) + "-aaaaaaaaaaaaaaaa")
		for _, said = range [][]byte{{2, 0}, {1, 1}, {1, 99}} {
			_, err = f.hubs[0].Leave(f.t.Context(), of, "g")
			f.failedAs(fmt.Sprintf("an answer %v", said), err, backplane.ErrUnsupported)
		}
		for _, said = range [][]byte{{}, {1}, {1, 0}, {1, 0, 0xff}, {1, 0, 0, 1}} {
			if _, err = f.hubs[0].Leave(f.t.Context(), of, "g"); err == nil {
				f.t.Errorf("an answer %v was taken for one", said)
			}
		}
		for _, question := range [][]byte{{2, 2}, {1, 0}, {1, 200, 1}, {0, 1}} {
			answer, err := newer.Ask(f.t.Context(), f.nodes[0].ID(), "hub/ward", question)
			if err != nil || string(answer) != "\x01\x01" {
				f.t.Errorf("a question %v: %v, %v", question, answer, err)
			}
		}
		for _, question := range [][]byte{{}, {1}, {1, 1}, {1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0}} {
			answer, err := newer.Ask(f.t.Context(), f.nodes[0].ID(), "hub/ward", question)
			if err != nil || string(answer) != "\x01\x02" {
				f.t.Errorf("a question %v: %v, %v", question, answer, err)
			}
		}
		if err := newer.Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
	})
}

// plain is a node without its optional abilities.
type plain struct {
	backplane.Backplane
	backplane.Cluster
}

func TestOperationsOverAnyCluster(t *testing.T) {
	onSettled(t, func(f *farm) {
		n, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		h, err := hubkit.New(plain{n, n}, hubkit.Options{Name: "ward"})
		if err != nil {
			f.t.Fatal(err)
		}
		c, err := h.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		there := f.member(1)
		settle()
		f.changed("from there", 1)(f.hubs[0].Join(f.t.Context(), hubkit.ToConnections(c.ID()), "g"))
		f.changed("to there", 1)(h.Disconnect(f.t.Context(), hubkit.ToConnections(there.ID()), hubkit.Reason{}))
		f.changed("everywhere", 1)(h.LeaveAll(f.t.Context(), hubkit.ToAll()))
		extra{n, h}.close(f)
	})
}

// An operation ends when its hub is closed, and Close waits for it.
func TestCloseEndsOperations(t *testing.T) {
	onStalling(t, func(f *farm, s stalling, h *hubkit.Hub) {
		c, err := h.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		joined := make(chan error, 1)
		go func() { _, err := f.hubs[0].Join(f.t.Context(), hubkit.ToConnections(c.ID()), "slow"); joined <- err }()
		<-s.waiting
		if err := f.hubs[0].Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		f.failedAs("the join", <-joined, backplane.ErrClosed)
		if err := h.Close(f.t.Context()); err != nil { // ends the waiting of its own side
			f.t.Error(err)
		}
		synctest.Wait()
	})
}
