package hubkit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

// draining is a Drain under way.
type draining struct {
	f      *farm
	done   chan struct{}
	report hubkit.DrainReport
	err    error
}

func (f *farm) drain(ctx context.Context, i int, o hubkit.DrainOptions) *draining {
	d := &draining{f: f, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		d.report, d.err = f.hubs[i].Drain(ctx, o)
	}()
	settle()
	return d
}

// reports waits for the end and compares the counts.
func (d *draining) reports(want hubkit.DrainReport, err error) {
	d.f.t.Helper()
	<-d.done
	got := d.report
	got.Remained = nil
	if got.Connections != want.Connections || got.Left != want.Left || got.Flushed != want.Flushed || got.Cut != want.Cut || !errors.Is(d.err, err) {
		d.f.t.Errorf("the drain reports %+v, %v; want %+v, %v", got, d.err, want, err)
	}
	if !slices.Equal(d.report.Remained, want.Remained) {
		d.f.t.Errorf("%+v remained, want %+v", d.report.Remained, want.Remained)
	}
}

// under runs a test over a bare bus, where nothing but the test moves the clock.
func under(t *testing.T, test func(*farm)) {
	t.Helper()
	onBus(t, hubkit.Options{Name: "ward"}, test)
}

// Clients go evenly, each in its share of the time, and not all at the same moment of it.
func TestDrainKeepsThePace(t *testing.T) {
	const n = 20
	for _, row := range []struct {
		what     string
		over     time.Duration
		deadline time.Duration
		share    time.Duration
	}{
		{"as the option says", 20 * time.Second, 0, time.Second},
		{"half of the time that the context leaves", 0, 30 * time.Second, 750 * time.Millisecond},
		{"by default", 0, 0, 500 * time.Millisecond},
	} {
		under(t, func(f *farm) {
			ctx := f.t.Context()
			if row.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, row.deadline)
				defer cancel()
			}
			var mu sync.Mutex
			var went []time.Duration
			var watching sync.WaitGroup
			start := time.Now()
			for range n {
				c := f.member(0)
				watching.Go(func() {
					<-c.Done()
					mu.Lock()
					defer mu.Unlock()
					went = append(went, time.Since(start))
				})
			}
			f.drain(ctx, 0, hubkit.DrainOptions{Over: row.over}).reports(hubkit.DrainReport{Connections: n, Flushed: n}, nil)
			watching.Wait()
			offsets := map[time.Duration]bool{}
			for i, at := range went {
				offset := at - time.Duration(i)*row.share
				if offset < 0 || offset > row.share {
					f.t.Errorf("%s: connection %d went after %v, want one in each %v", row.what, i, at, row.share)
				}
				offsets[offset] = true
			}
			if len(offsets) < n/2 {
				f.t.Errorf("%s: the moments have no jitter: %v", row.what, went)
			}
		})
	}
}

// Until its turn a client is served as ever; then what waits is written, and nothing more.
func TestDrainFlushes(t *testing.T) {
	under(t, func(f *farm) {
		c := f.member(0, "4B")
		c.sock.Block()
		d := f.drain(f.t.Context(), 0, hubkit.DrainOptions{Over: time.Second})
		f.send(1, hubkit.ToGroups("4B"), "one")
		settle()
		f.send(1, hubkit.ToGroups("4B"), "two")
		settleFor(f.t, time.Second)
		if p, ok := f.hubs[0].DrainProgress(); !ok || p.Connections != 1 || p.Told != 1 || p.Closed != 0 || p.Messages != 2 {
			f.t.Errorf("the progress is %+v, %v", p, ok)
		}
		f.send(1, hubkit.ToGroups("4B"), "three")
		if err := c.Send([]byte("four")); !errors.Is(err, hubkit.ErrDisconnected) {
			f.t.Errorf("a send to a connection that was told: %v, want ErrDisconnected", err)
		}
		if err := c.Join(f.t.Context(), "5A"); !errors.Is(err, hubkit.ErrDisconnected) {
			f.t.Errorf("a join of a connection that was told: %v, want ErrDisconnected", err)
		}
		settleFor(f.t, time.Second)
		c.sock.Unblock()
		d.reports(hubkit.DrainReport{Connections: 1, Flushed: 1}, nil)
		c.got("one", "two")
		if r := c.ended(); r.Code != hubkit.ReasonGoingAway || r.CloseCode() != 1001 {
			f.t.Errorf("the reason is %v", r)
		}
		if p, _ := f.hubs[0].DrainProgress(); p.Closed != 1 || p.Messages != 0 {
			f.t.Errorf("at the end the progress is %+v", p)
		}
		f.send(0, hubkit.ToGroups("4B"), "the hub can still send")
	})
}

// What could not be written is counted for each connection, be it because time was over or because the write failed.
func TestDrainReportsWhatRemained(t *testing.T) {
	under(t, func(f *farm) {
		well, stuck, broken := f.member(0), f.member(0), f.member(0)
		for _, c := range []*client{stuck, broken} {
			c.sock.Block()
			for range 4 { // the first is being written
				if err := c.Send([]byte("four")); err != nil {
					f.t.Fatal(err)
				}
				settle()
			}
		}
		ctx, cancel := context.WithTimeout(f.t.Context(), 3*time.Second)
		defer cancel()
		d := f.drain(ctx, 0, hubkit.DrainOptions{Over: time.Second})
		settleFor(f.t, 2*time.Second)
		broken.sock.Fail(errors.New("reset"))
		settle()
		_ = broken.ended()
		<-d.done
		slices.SortFunc(d.report.Remained, func(a, _ hubkit.Remained) int {
			if a.Connection == stuck.Connection {
				return -1
			}
			return 1
		})
		d.reports(hubkit.DrainReport{
			Connections: 3, Flushed: 1, Cut: 1,
			Remained: []hubkit.Remained{
				{Connection: stuck.Connection, Messages: 4, Bytes: 16},
				{Connection: broken.Connection, Messages: 4, Bytes: 16},
			},
		}, context.DeadlineExceeded)
		if r := stuck.ended(); r.Code != hubkit.ReasonGoingAway {
			f.t.Errorf("the reason is %v", r)
		}
		_ = well.ended()
		stuck.got()
	})
}

// A client that has disconnected is not waited for, whether it was its turn or not.
func TestDrainDoesNotWaitForWhoHasLeft(t *testing.T) {
	under(t, func(f *farm) {
		early, late := f.member(0), f.member(0)
		late.sock.Block()
		if err := late.Send([]byte("x")); err != nil {
			f.t.Fatal(err)
		}
		settle()
		start := time.Now()
		d := f.drain(f.t.Context(), 0, hubkit.DrainOptions{Over: time.Hour, Tell: func(c *hubkit.Connection) {
			if c == early.Connection {
				f.t.Error("a client that had left was told")
			}
		}})
		early.Disconnect(hubkit.Reason{})
		late.Disconnect(hubkit.Reason{})
		d.reports(hubkit.DrainReport{Connections: 2, Left: 2}, nil)
		if took := time.Since(start); took != 0 {
			f.t.Errorf("the drain took %v", took)
		}
	})
	under(t, func(f *farm) {
		gone := f.member(0)
		for range 9 {
			f.member(0)
		}
		d := f.drain(f.t.Context(), 0, hubkit.DrainOptions{Over: time.Hour, Tell: func(c *hubkit.Connection) {
			if c == gone.Connection {
				f.t.Error("a client that had left was told when its turn came")
			}
		}})
		gone.Disconnect(hubkit.Reason{})
		d.reports(hubkit.DrainReport{Connections: 10, Left: 1, Flushed: 9}, nil)
	})
	under(t, func(f *farm) {
		c := f.member(0)
		c.sock.Block()
		for range 2 {
			if err := c.Send([]byte("x")); err != nil {
				f.t.Fatal(err)
			}
			settle()
		}
		d := f.drain(f.t.Context(), 0, hubkit.DrainOptions{Over: time.Nanosecond})
		settleFor(f.t, time.Second)
		c.Disconnect(hubkit.Reason{Code: hubkit.ReasonDone}) // the server sees that the client has gone
		d.reports(hubkit.DrainReport{
			Connections: 1, Remained: []hubkit.Remained{{Connection: c.Connection, Messages: 2, Bytes: 2}},
		}, nil)
		if r := c.ended(); r.Code != hubkit.ReasonGoingAway {
			f.t.Errorf("the reason is %v, want the first one", r)
		}
	})
}

// A client that was told has time to connect elsewhere, and hears everything meanwhile.
func TestDrainGivesGrace(t *testing.T) {
	under(t, func(f *farm) {
		quick, slow := f.member(0, "4B"), f.member(0, "4B")
		start := time.Now()
		d := f.drain(f.t.Context(), 0, hubkit.DrainOptions{
			Over: time.Second, Grace: 10 * time.Second,
			Tell: func(c *hubkit.Connection) { _ = c.Send([]byte("go elsewhere")) },
		})
		settleFor(f.t, 2*time.Second)
		f.send(1, hubkit.ToGroups("4B"), "bell")
		quick.got("go elsewhere", "bell")
		slow.got("go elsewhere", "bell")
		quick.Disconnect(hubkit.Reason{})
		d.reports(hubkit.DrainReport{Connections: 2, Flushed: 2}, nil)
		if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
			f.t.Errorf("the drain took %v", took)
		}
		if r := slow.ended(); r.Code != hubkit.ReasonGoingAway {
			f.t.Errorf("the reason is %v", r)
		}
	})
}

// No connection is made from the begin on, not even one that is in the middle of it; and the balancer is told.
func TestDrainStopsAccepting(t *testing.T) {
	under(t, func(f *farm) {
		f.member(0)
		hub := f.hubs[0]
		proceed := f.bus.stallSubscribes()
		late := make(chan error, 1)
		go func() {
			_, err := hub.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{User: "late"})
			late <- err
		}()
		<-f.bus.waiting
		answers(f.t, "before", hub.ReadyHandler(hubkit.ReadyOptions{}), 200, "ok")
		d := f.drain(f.t.Context(), 0, hubkit.DrainOptions{Over: time.Minute})
		if !hub.Draining() || f.hubs[1].Draining() {
			f.t.Error("Draining does not say who drains")
		}
		if _, err := hub.Connect(f.t.Context(), conntest.New(), hubkit.ConnectOptions{}); !errors.Is(err, hubkit.ErrDraining) {
			f.t.Errorf("Connect: %v, want ErrDraining", err)
		}
		proceed()
		if err := <-late; !errors.Is(err, hubkit.ErrDraining) {
			f.t.Errorf("a Connect that was under way: %v, want ErrDraining", err)
		}
		if s := hub.Stats(); s.Users != 0 || s.Connections != 1 {
			f.t.Errorf("left behind: %+v", s)
		}
		answers(f.t, "draining", hub.ReadyHandler(hubkit.ReadyOptions{}), 503, "the hub is draining")
		answers(f.t, "draining", hub.ReadyHandler(hubkit.ReadyOptions{ReadyWhileDraining: true}), 200, "ok")
		answers(f.t, "draining", hubkit.LiveHandler(), 200, "ok")
		if h := hub.Health(); h.State != "draining" || h.Drain == nil || h.Drain.Connections != 1 || h.Drain.Since.IsZero() {
			f.t.Errorf("the health is %+v", h)
		}
		d.reports(hubkit.DrainReport{Connections: 1, Flushed: 1}, nil)
		answers(f.t, "drained", hub.ReadyHandler(hubkit.ReadyOptions{}), 503, "the hub is draining")
	})
}

// There is one drain, and Close ends it.
func TestDrainAndClose(t *testing.T) {
	under(t, func(f *farm) {
		hub := f.hubs[0]
		if _, ok := hub.DrainProgress(); ok || hub.Health().Drain != nil {
			f.t.Error("there is progress before a drain")
		}
		for _, o := range []hubkit.DrainOptions{{Over: -1}, {Grace: -1}} {
			if _, err := hub.Drain(f.t.Context(), o); !errors.Is(err, backplane.ErrInvalidOption) {
				f.t.Errorf("%+v: %v, want ErrInvalidOption", o, err)
			}
		}
		c := f.member(0)
		c.sock.Block()
		if err := c.Send([]byte("x")); err != nil {
			f.t.Fatal(err)
		}
		settle()
		first := f.drain(f.t.Context(), 0, hubkit.DrainOptions{Over: time.Hour})
		again := f.drain(f.t.Context(), 0, hubkit.DrainOptions{})
		short, cancel := context.WithCancel(f.t.Context())
		impatient := f.drain(short, 0, hubkit.DrainOptions{})
		cancel()
		impatient.reports(hubkit.DrainReport{}, context.Canceled)
		if err := hub.Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		want := hubkit.DrainReport{Connections: 1, Cut: 1, Remained: []hubkit.Remained{{Connection: c.Connection, Messages: 1, Bytes: 1}}}
		first.reports(want, backplane.ErrClosed)
		again.reports(want, backplane.ErrClosed)
		if _, err := hub.Drain(f.t.Context(), hubkit.DrainOptions{}); !errors.Is(err, backplane.ErrClosed) {
			f.t.Errorf("Drain of a closed hub: %v, want ErrClosed", err)
		}
	})
	under(t, func(f *farm) {
		f.drain(f.t.Context(), 0, hubkit.DrainOptions{}).reports(hubkit.DrainReport{}, nil) // nobody is there
	})
}
