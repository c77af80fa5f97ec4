package hubkit_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

// H5: one broken or stuck connection never delays or fails the others, and what its outbox drops is told to it.

// limited connects a client that does not read, with an outbox of three messages, and lets it be stuck in a write.
func limited(f *farm, p hubkit.Policy) *client {
	f.t.Helper()
	c := f.connect(1, hubkit.ConnectOptions{Outbox: hubkit.OutboxOptions{Messages: 3, Policy: p}}, "4B")
	c.sock.Block()
	if err := c.Connection.Send([]byte("first")); err != nil {
		f.t.Fatal(err)
	}
	if err := c.sock.WaitBlocked(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return c
}

// flood sends 1 to n to the group, and settles.
func flood(f *farm, n int) {
	f.t.Helper()
	for i := range n {
		f.send(0, hubkit.ToGroups("4B"), strconv.Itoa(i+1))
	}
	settle()
}

func TestStuckConnectionDelaysNobody(t *testing.T) {
	for _, p := range []hubkit.Policy{hubkit.Disconnect, hubkit.DropOldest, hubkit.DropNewest, hubkit.KeepLatest} {
		t.Run(p.String(), func(t *testing.T) {
			onBoth(t, func(f *farm) {
				limited(f, p)
				well, there := f.member(1, "4B"), f.member(2, "4B")
				begun := time.Now()
				flood(f, 20)
				if took := time.Since(begun); took != 0 {
					f.t.Errorf("it took %v", took) // in the bubble's time, which runs only while everybody waits
				}
				well.settled(20)
				there.settled(20)
			})
		})
	}
}

func TestSlowConnectionIsClosed(t *testing.T) {
	onBoth(t, func(f *farm) {
		slow := limited(f, hubkit.Disconnect)
		flood(f, 3)
		if _, closed := slow.Reason(); closed {
			f.t.Fatal("closed before its outbox was full")
		}
		f.send(0, hubkit.ToGroups("4B"), "too much")
		if r := slow.ended(); r.Code != hubkit.ReasonSlow || r.CloseCode() != 1013 {
			f.t.Errorf("the reason is %v", r)
		}
		if r, err := slow.sock.WaitClosed(f.t.Context()); err != nil || r.Code != hubkit.ReasonSlow {
			f.t.Errorf("the socket was closed because %v, %v", r, err)
		}
		if s := f.hubs[1].Stats(); s.SlowDisconnects != 1 || s.Groups != 0 || s.Connections != 0 {
			f.t.Errorf("stats %+v", s)
		}
	})
}

func TestDropsAreToldBeforeTheNextMessage(t *testing.T) {
	for _, c := range []struct {
		policy hubkit.Policy
		want   []hubkit.Delivery
	}{
		{hubkit.DropOldest, []hubkit.Delivery{
			{Payload: []byte("first")}, {Payload: []byte("5"), Missed: 4}, {Payload: []byte("6")}, {Payload: []byte("7")},
		}},
		{hubkit.DropNewest, []hubkit.Delivery{
			{Payload: []byte("first")}, {Payload: []byte("1")}, {Payload: []byte("2")}, {Payload: []byte("3")}, {Missed: 4},
		}},
		{hubkit.KeepLatest, []hubkit.Delivery{
			{Payload: []byte("first")}, {Payload: []byte("5"), Missed: 4}, {Payload: []byte("6")}, {Payload: []byte("7")},
		}},
	} {
		t.Run(c.policy.String(), func(t *testing.T) {
			onBoth(t, func(f *farm) {
				slow := limited(f, c.policy)
				flood(f, 7)
				slow.sock.Unblock()
				settle()
				sameDeliveries(f.t, slow.sock.Deliveries(), c.want)
				if s := f.hubs[1].Stats(); s.Dropped != 4 {
					f.t.Errorf("%d dropped, want 4", s.Dropped)
				}
			})
		})
	}
}

func sameDeliveries(t *testing.T, got, want []hubkit.Delivery) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("deliveries %+v, want %+v", got, want)
	}
	for i, d := range got {
		w := want[i]
		if string(d.Payload) != string(w.Payload) || d.Missed != w.Missed || d.Superseded != w.Superseded ||
			(d.Payload == nil) != (w.Payload == nil) || d.Gap != w.Gap {
			t.Errorf("delivery %d is %+v, want %+v", i, d, w)
		}
	}
}

func TestKeepLatestByKey(t *testing.T) {
	onBoth(t, func(f *farm) {
		slow := limited(f, hubkit.KeepLatest)
		quick := f.member(1, "4B")
		for i, key := range []string{"bed 1", "bed 2", "bed 1", "", "bed 1", "bed 2"} {
			if err := f.hubs[0].SendLatest(f.t.Context(), hubkit.ToGroups("4B"), key, []byte(key+"="+strconv.Itoa(i))); err != nil {
				f.t.Fatal(err)
			}
		}
		quick.settled(6)
		slow.sock.Unblock()
		settle()
		want := []hubkit.Delivery{
			{Payload: []byte("first")},
			{Payload: []byte("bed 1=4"), Missed: 2, Superseded: 2},
			{Payload: []byte("bed 2=5"), Missed: 1, Superseded: 1},
			{Payload: []byte("=3")},
		}
		got := slow.sock.Deliveries()
		sameDeliveries(f.t, got, want)
		for _, d := range got {
			if d.Lost() {
				f.t.Errorf("superseded counts as lost: %+v", d)
			}
		}
	})
}

func TestWaitingMessagesComeInOneCall(t *testing.T) {
	onBoth(t, func(f *farm) {
		c := f.member(1, "4B")
		c.sock.Block()
		flood(f, 100)
		c.sock.Unblock()
		c.settled(100)
		if n := c.sock.Writes(); n > 4 { // the blocked one, then 64 at a time
			f.t.Errorf("100 messages came in %d writes", n)
		}
	})
}

func TestWriteDeadline(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward", WriteTimeout: 4 * time.Second}, func(f *farm) {
		c, well := f.member(0, "4B"), f.member(0, "4B")
		c.sock.Block()
		begun := time.Now()
		f.send(1, hubkit.ToGroups("4B"), "x")
		well.got("x")
		r := c.ended()
		if took := time.Since(begun); took < 4*time.Second || took > 4*time.Second+4*time.Second/16 {
			f.t.Errorf("given up after %v", took)
		}
		if r.Code != hubkit.ReasonFailed {
			f.t.Errorf("the reason is %v", r)
		}
		if s := f.hubs[0].Stats(); s.FailedWrites != 1 {
			f.t.Errorf("%d failed writes", s.FailedWrites)
		}
	})
}

// A Conn may be closed in the middle of a write, and its Close may take its time: nobody else notices.
func TestSlowClose(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		well := f.member(0, "4B")
		held := &heldConn{release: make(chan struct{})}
		c, err := f.hubs[0].Connect(f.t.Context(), held, hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		if err := c.Join(f.t.Context(), "4B"); err != nil {
			f.t.Fatal(err)
		}
		c.Disconnect(hubkit.Reason{})
		f.send(1, hubkit.ToGroups("4B"), "x")
		well.got("x")
		select {
		case <-c.Done():
			f.t.Error("it is done before Close has returned")
		default:
		}
		close(held.release)
		<-c.Done()
	})
}

// heldConn does not return from Close until it is released.
type heldConn struct{ release chan struct{} }

func (c *heldConn) Write(context.Context, []hubkit.Delivery) error { return nil }

func (c *heldConn) Close(hubkit.Reason) error {
	<-c.release
	return nil
}

// "No deadline" is often written as the longest one there is.
func TestLongestWriteTimeout(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward", WriteTimeout: 1<<63 - 1}, func(f *farm) {
		sock := &ctxConn{Conn: conntest.New()}
		c, err := f.hubs[0].Connect(f.t.Context(), sock, hubkit.ConnectOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		if err := c.Send([]byte("x")); err != nil {
			f.t.Fatal(err)
		}
		if _, err := sock.Wait(f.t.Context(), 1); err != nil {
			f.t.Error(err)
		}
	})
}

// ctxConn fails a write whose context has ended already.
type ctxConn struct{ *conntest.Conn }

func (c *ctxConn) Write(ctx context.Context, batch []hubkit.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.Conn.Write(ctx, batch)
}
