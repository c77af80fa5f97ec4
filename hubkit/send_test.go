package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// H0: hubs of different names, and raw traffic, never meet.
func TestHubsOfDifferentNamesNeverMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := backplane.Open(t.Context(), inmem.NewBroker().Opener(), backplane.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var hubs []*hubkit.Hub
		var socks []*conntest.Conn
		var ids []string
		for _, name := range []string{"ward", "ward2"} {
			h, err := hubkit.New(node, hubkit.Options{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			sock := conntest.New()
			c, err := h.Connect(t.Context(), sock, hubkit.ConnectOptions{User: "u"})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Join(t.Context(), "4B"); err != nil {
				t.Fatal(err)
			}
			hubs, socks, ids = append(hubs, h), append(socks, sock), append(ids, c.ID())
		}
		for _, to := range []hubkit.Target{
			hubkit.ToAll(), hubkit.ToGroups("4B"), hubkit.ToUsers("u"), hubkit.ToConnections(ids[0]),
		} {
			if err := hubs[0].Send(t.Context(), to, []byte("x")); err != nil {
				t.Error(err)
			}
		}
		if err := hubs[1].Send(t.Context(), hubkit.ToConnections(ids[0]), []byte("x")); !errors.Is(err, hubkit.ErrNotFound) {
			t.Errorf("a connection of the other hub: %v", err)
		}
		for _, to := range []backplane.Address{
			backplane.All(), backplane.Group("4B"), backplane.User("u"), backplane.Inbox(node.ID()), backplane.Connection(ids[0]),
		} {
			if err := node.Publish(t.Context(), to, []byte("raw")); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if got := socks[0].Payloads(); len(got) != 4 {
			t.Errorf("its own hub's messages: %q", got)
		}
		if got := socks[1].Payloads(); len(got) != 0 {
			t.Errorf("the other hub's connection got %q", got)
		}
		for _, h := range hubs {
			if s := h.Stats(); s.Unreadable != 0 {
				t.Errorf("%d unreadable messages", s.Unreadable)
			}
			if err := h.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := node.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestConnectionIDs(t *testing.T) {
	onNodes(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a, b := f.member(0), f.member(0)
		if a.ID() == b.ID() || len(a.ID()) > 64 || !strings.HasPrefix(a.ID(), string(f.nodes[0].ID())) {
			f.t.Errorf("ids %q and %q", a.ID(), b.ID())
		}
		if c, ok := f.hubs[0].Connection(a.ID()); !ok || c != a.Connection {
			f.t.Error("its own hub does not know the connection")
		}
		if _, ok := f.hubs[1].Connection(a.ID()); ok {
			f.t.Error("another instance's hub knows the connection")
		}
	})
}

func TestTargetThatNamesNobody(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		f.member(0)
		f.send(0, hubkit.Target{}, "x")
		f.send(0, hubkit.ToGroups(), "x")
		if n := f.bus.published(); n != 0 {
			f.t.Errorf("%d messages were published", n)
		}
	})
}

func TestInvalidTargets(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c := f.member(0)
		long := c.ID()[:17] + strings.Repeat("a", 1000)
		for _, id := range []string{
			"", "x", "-", c.ID()[1:], c.ID() + "a", strings.ToUpper(c.ID()), c.ID()[:len(c.ID())-1] + "!", "-aaaaaaaaaaaaaaaa", long,
		} {
			if _, ok := f.hubs[0].Connection(id); ok {
				f.t.Errorf("%q is known", id)
			}
			if id == c.ID()[1:] { // a home that may exist elsewhere
				continue
			}
			for _, to := range []hubkit.Target{hubkit.ToConnections(id), {All: true, Except: []string{id}}} {
				err := f.hubs[0].Send(f.t.Context(), to, nil)
				if !errors.Is(err, hubkit.ErrInvalidTarget) {
					f.t.Errorf("%+v: %v", to, err)
				}
				if _, ok := errors.AsType[*hubkit.Error](err); !ok {
					f.t.Errorf("%v is no *hubkit.Error", err)
				}
				if strings.Contains(fmt.Sprint(err), strings.Repeat("a", 65)) { // an id may come from a client, and errors go into logs
					f.t.Errorf("the error repeats all of a long id: %v", err)
				}
			}
		}
		except := slices.Repeat([]string{c.ID()}, hubkit.MaxExcept+1)
		if err := f.hubs[0].Send(f.t.Context(), hubkit.Target{All: true, Except: except}, nil); !errors.Is(err, hubkit.ErrInvalidTarget) {
			f.t.Errorf("too many exceptions: %v", err)
		}
		if err := f.hubs[0].Send(f.t.Context(), hubkit.Target{All: true, Except: except[1:]}, nil); err != nil {
			f.t.Errorf("as many exceptions as may be: %v", err)
		}
		key := strings.Repeat("k", backplane.MaxName+1)
		if err := f.hubs[0].SendLatest(f.t.Context(), hubkit.ToAll(), key, nil); !errors.Is(err, hubkit.ErrInvalidTarget) {
			f.t.Errorf("too long a key: %v", err)
		}
		c.got()
	})
}

func TestConnectionThatIsGone(t *testing.T) {
	onBoth(t, func(f *farm) {
		a, b := f.member(0), f.member(0)
		a.Disconnect(hubkit.Reason{})
		if err := f.hubs[0].Send(f.t.Context(), hubkit.ToConnections(a.ID()), nil); !errors.Is(err, hubkit.ErrNotFound) {
			f.t.Errorf("at its home: %v", err)
		}
		if err := f.hubs[1].Send(f.t.Context(), hubkit.ToConnections(a.ID()), nil); err != nil {
			f.t.Errorf("elsewhere: %v", err)
		}
		err := f.hubs[0].Send(f.t.Context(), hubkit.ToConnections(a.ID(), b.ID()), []byte("x"))
		some, ok := errors.AsType[*hubkit.SendError](err)
		if !ok || len(some.Failed) != 1 || some.Total != 2 || !slices.Equal(some.Failed[0].Connections, []string{a.ID()}) {
			f.t.Errorf("one of two: %v, %+v", err, some)
		}
		b.got("x")
	})
}

func TestSendThatFailsInPart(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a, b, c := f.member(1, "a"), f.member(1, "b"), f.member(1)
		f.bus.refuseWith(func(verb string, to backplane.Address) error {
			if verb == "publish" && to.Kind() != backplane.KindGroup || to == group("a") {
				return fmt.Errorf("%w: no such luck", backplane.ErrUncertain)
			}
			return nil
		})
		err := f.hubs[0].Send(f.t.Context(), hubkit.Target{Groups: []string{"a", "b"}, Connections: []string{c.ID()}}, []byte("x"))
		some, ok := errors.AsType[*hubkit.SendError](err)
		if !ok || !errors.Is(err, backplane.ErrUncertain) || some.Total != 3 || len(some.Failed) != 2 {
			f.t.Fatalf("%v, %+v", err, some)
		}
		if some.Failed[0].Address != group("a") || !slices.Equal(some.Failed[1].Connections, []string{c.ID()}) {
			f.t.Errorf("failed: %+v", some.Failed)
		}
		a.got()
		b.got("x")
		c.got()
		err = f.hubs[0].Send(f.t.Context(), hubkit.ToGroups("a"), []byte("x"))
		if _, ok := errors.AsType[*hubkit.SendError](err); ok || !errors.Is(err, backplane.ErrUncertain) {
			f.t.Errorf("a single target: %v", err)
		}
		if s := f.hubs[0].Stats(); s.SendsFailed != 2 || s.Sends != 0 {
			f.t.Errorf("stats %+v", s)
		}
	})
}

// batcher is a seat that can publish in batches, and refuses the message at one place.
type batcher struct {
	seat

	refuse int
	calls  *int
}

func (b batcher) PublishBatch(ctx context.Context, batch []backplane.Outgoing) error {
	*b.calls++
	errs := make([]error, len(batch))
	for i, m := range batch {
		if i == b.refuse {
			errs[i] = backplane.ErrDenied
			continue
		}
		if err := b.Publish(ctx, m.To, m.Payload); err != nil {
			return err
		}
	}
	return &backplane.Error{Op: "publish", Err: &backplane.BatchError{Errors: errs}}
}

func TestSendToSeveralIsOneBatch(t *testing.T) {
	calls := 0
	h, err := hubkit.New(batcher{seat: seat{bus: newBus()}, refuse: 1, calls: &calls}, hubkit.Options{Name: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	err = h.Send(t.Context(), hubkit.ToGroups("a", "b", "c"), nil)
	some, ok := errors.AsType[*hubkit.SendError](err)
	if !ok || len(some.Failed) != 1 || some.Failed[0].Address != group("b") || !errors.Is(err, backplane.ErrDenied) {
		t.Errorf("%v, %+v", err, some)
	}
	if calls != 1 {
		t.Errorf("%d batches", calls)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// More connections than one message may name.
func TestSendToManyConnections(t *testing.T) {
	onBoth(t, func(f *farm) {
		const clients = 1500
		all := make([]*client, clients)
		ids := make([]string, clients)
		for i := range all {
			all[i] = f.member(1)
			ids[i] = all[i].ID()
		}
		f.send(0, hubkit.Target{Connections: ids, Except: ids[:1]}, "x")
		settle()
		for i, c := range all {
			if n := len(c.sock.Payloads()); n != min(i, 1) {
				f.t.Fatalf("connection %d got %d messages", i, n)
			}
		}
		if f.bus != nil && f.bus.published() != 2 {
			f.t.Errorf("%d messages were published, want 2 of at most 1,000 ids", f.bus.published())
		}
	})
}

func TestPayloadsAreKeptAsTheyAre(t *testing.T) {
	onBoth(t, func(f *farm) {
		c := f.user(1, "u", "4B")
		for _, to := range []hubkit.Target{
			hubkit.ToGroups("4B"), hubkit.ToConnections(c.ID()), {Groups: []string{"4B"}, Connections: []string{c.ID()}},
		} {
			for _, h := range f.hubs[:2] {
				buf := []byte("mine")
				if err := h.Send(f.t.Context(), to, buf); err != nil {
					f.t.Fatal(err)
				}
				copy(buf, "used")
			}
		}
		buf := []byte("mine")
		if err := c.Connection.Send(buf); err != nil {
			f.t.Fatal(err)
		}
		copy(buf, "used")
		c.got("mine", "mine", "mine", "mine", "mine", "mine", "mine")
		for _, size := range []int{0, 1, 16 << 10, 1 << 20 / 2} {
			payload := strings.Repeat("x", size)
			f.send(0, hubkit.ToUsers("u"), payload)
			settle()
			all := c.sock.Deliveries()
			if last := all[len(all)-1]; last.Payload == nil || string(last.Payload) != payload {
				f.t.Errorf("a payload of %d bytes arrived as %d bytes", size, len(last.Payload))
			}
		}
	})
}

// A small message that waits does not keep alive the frame that it came in.
func TestSmallPayloadsAreCopied(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c := f.member(1, "4B")
		f.bus.hold(group("4B"))
		f.send(0, hubkit.ToGroups("4B"), "small")
		frame := f.bus.held[group("4B")][0].Payload
		f.bus.release(group("4B"))
		clear(frame)
		c.got("small")
	})
}

func TestTooLargePayload(t *testing.T) {
	onNodes(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		err := f.hubs[0].Send(f.t.Context(), hubkit.ToAll(), make([]byte, 2<<20))
		if !errors.Is(err, backplane.ErrTooLarge) {
			f.t.Errorf("two MiB: %v", err)
		}
		if err := f.hubs[0].Send(f.t.Context(), hubkit.ToAll(), make([]byte, 1<<20-8<<10-64)); err != nil {
			f.t.Errorf("the largest payload: %v", err)
		}
	})
}
