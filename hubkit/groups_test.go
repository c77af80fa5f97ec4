package hubkit_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// H3 and H4: joining, leaving, and the races between them.

var errDenied = backplane.ErrDenied

// denySubscribe refuses subscriptions to a group.
func denySubscribe(name string) func(verb string, to backplane.Address) error {
	return func(verb string, to backplane.Address) error {
		if verb == "subscribe" && to == group(name) {
			return errDenied
		}
		return nil
	}
}

func TestFirstMemberSubscribesLastOneUnsubscribes(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a, b := f.member(0, "4B"), f.member(0, "4B")
		if n := f.bus.subscriptions(group("4B")); n != 1 {
			f.t.Errorf("%d subscriptions for two members", n)
		}
		if err := a.Leave(f.t.Context(), "4B"); err != nil {
			f.t.Error(err)
		}
		if n := f.bus.subscriptions(group("4B")); n != 1 {
			f.t.Errorf("%d subscriptions for one member", n)
		}
		b.Disconnect(hubkit.Reason{})
		if n := f.bus.subscriptions(group("4B")); n != 0 {
			f.t.Errorf("%d subscriptions for nobody", n)
		}
	})
}

// The moment Join returns, a send from another instance arrives.
func TestJoinIsABarrier(t *testing.T) {
	onBoth(t, func(f *farm) {
		c := f.member(1)
		for i := range 50 {
			name := "g" + strconv.Itoa(i)
			if err := c.Join(f.t.Context(), name); err != nil {
				f.t.Fatal(err)
			}
			f.send(0, hubkit.ToGroups(name), name)
		}
		c.settled(50)
	})
}

func TestNothingEntersAfterLeave(t *testing.T) {
	onBoth(t, func(f *farm) {
		c := f.connect(1, hubkit.ConnectOptions{Outbox: hubkit.OutboxOptions{Policy: hubkit.DropOldest}}, "4B")
		f.connect(1, hubkit.ConnectOptions{Outbox: hubkit.OutboxOptions{Policy: hubkit.DropOldest}}, "4B") // stays
		c.sock.Block()
		stop := make(chan struct{})
		var flood sync.WaitGroup
		for i := range 2 {
			flood.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						f.try(i, hubkit.ToGroups("4B"), "x")
					}
				}
			})
		}
		for f.hubs[1].Stats().Delivered < 400 { // by two members
			if err := f.hubs[0].Send(f.t.Context(), hubkit.ToGroups("4B"), []byte("x")); err != nil {
				f.t.Fatal(err)
			}
		}
		if err := c.Leave(f.t.Context(), "4B"); err != nil {
			f.t.Error(err)
		}
		// The hub counts a fan-out when it has ended, and Leave waited for that: the next fence is behind all of them.
		if err := c.Connection.Send([]byte("fence")); err != nil {
			f.t.Error(err)
		}
		for range 100 {
			f.send(0, hubkit.ToGroups("4B"), "late")
		}
		close(stop)
		flood.Wait()
		c.sock.Unblock()
		settle()
		got := c.sock.Payloads()
		if len(got) < 100 || got[len(got)-1] != "fence" {
			f.t.Errorf("after Leave came %q", got[len(got)-1])
		}
	})
}

func TestDisconnectDiscardsWhatWaits(t *testing.T) {
	onBoth(t, func(f *farm) {
		c := f.member(1, "4B")
		c.sock.Block()
		f.send(1, hubkit.ToConnections(c.ID()), "being written")
		if err := c.sock.WaitBlocked(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
		f.send(0, hubkit.ToGroups("4B"), "waits")
		settle()
		c.Disconnect(hubkit.Reason{Code: hubkit.ReasonRefused, Text: "bye"})
		c.sock.Unblock()
		if r := c.ended(); r.Code != hubkit.ReasonRefused || r.Text != "bye" {
			f.t.Errorf("the reason is %v", r)
		}
		if got := strings.Join(c.sock.Payloads(), " "); strings.Contains(got, "waits") {
			f.t.Errorf("written after the disconnect: %q", got)
		}
		c.Disconnect(hubkit.Reason{Code: hubkit.ReasonDone})
		if r := c.ended(); r.Code != hubkit.ReasonRefused {
			f.t.Errorf("a second Disconnect changed the reason to %v", r)
		}
	})
}

func TestFailedSubscribeLeavesNothing(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a, b := f.member(0), f.member(0)
		f.bus.refuseWith(denySubscribe("4B"))
		for range 2 { // the second is not taken for a member by mistake
			if err := a.Join(f.t.Context(), "4B"); !errors.Is(err, backplane.ErrDenied) {
				f.t.Errorf("joining what is denied: %v", err)
			}
		}
		if s := f.hubs[0].Stats(); s.Groups != 0 || len(a.Groups()) != 0 {
			f.t.Errorf("left behind: %+v, %q", s, a.Groups())
		}
		f.bus.refuseWith(nil)
		if err := b.Join(f.t.Context(), "4B"); err != nil {
			f.t.Fatal(err)
		}
		f.send(1, hubkit.ToGroups("4B"), "bell")
		a.got()
		b.got("bell")
	})
}

// Who waits for another's attempt to subscribe does not share its fate.
func TestJoinersOfOneGroupFailAlone(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a, b := f.member(0), f.member(0)
		proceed := f.bus.stallSubscribes()
		ctx, cancel := context.WithCancel(f.t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- a.Join(ctx, "4B") }()
		<-f.bus.waiting
		go func() { second <- b.Join(f.t.Context(), "4B") }()
		settle()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) || !errors.Is(err, backplane.ErrUnavailable) {
			f.t.Errorf("the canceled join: %v", err)
		}
		<-f.bus.waiting // the second one tries by itself
		proceed()
		if err := <-second; err != nil {
			f.t.Errorf("the other join: %v", err)
		}
		f.send(1, hubkit.ToGroups("4B"), "bell")
		b.got("bell")
		a.got()
	})
}

func TestWaitingJoinerIsCanceled(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a, b := f.member(0), f.member(0)
		proceed := f.bus.stallSubscribes()
		first := make(chan error, 1)
		go func() { first <- a.Join(f.t.Context(), "4B") }()
		<-f.bus.waiting
		ctx, cancel := context.WithCancel(f.t.Context())
		cancel()
		if err := b.Join(ctx, "4B"); !errors.Is(err, context.Canceled) {
			f.t.Errorf("the canceled join: %v", err)
		}
		proceed()
		if err := <-first; err != nil {
			f.t.Error(err)
		}
	})
}

func TestJoinRacesDisconnect(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a := f.member(0)
		proceed := f.bus.stallSubscribes()
		joined := make(chan error, 1)
		go func() { joined <- a.Join(f.t.Context(), "4B") }()
		<-f.bus.waiting
		a.Disconnect(hubkit.Reason{})
		proceed()
		if err := <-joined; !errors.Is(err, hubkit.ErrDisconnected) {
			f.t.Errorf("the join that lost the race: %v", err)
		}
		if n := f.bus.subscriptions(group("4B")); n != 0 || f.hubs[0].Stats().Groups != 0 || len(a.Groups()) != 0 {
			f.t.Errorf("%d subscriptions and %d groups were left behind; it is in %q", n, f.hubs[0].Stats().Groups, a.Groups())
		}
	})
}

// Many connections join, leave and disconnect at the same time; afterwards everything agrees, and nothing is left.
func TestJoinLeaveDisconnectAtOnce(t *testing.T) {
	onBoth(t, func(f *farm) {
		const clients, rounds, groups = 8, 30, 3
		lossy := hubkit.ConnectOptions{Outbox: hubkit.OutboxOptions{Policy: hubkit.DropOldest}}
		stay := f.connect(0, lossy, "g0", "g1", "g2")
		var all sync.WaitGroup
		for range clients {
			c := f.member(0)
			for w := range 2 { // two goroutines for one connection
				all.Go(func() {
					for i := range rounds {
						g := "g" + strconv.Itoa((i+w)%groups)
						if err := c.Join(f.t.Context(), g); err != nil && !errors.Is(err, hubkit.ErrDisconnected) {
							f.t.Error(err)
						}
						f.try(1, hubkit.ToGroups(g), "x")
						if i%4 != w {
							if err := c.Leave(f.t.Context(), g); err != nil {
								f.t.Error(err)
							}
						}
					}
				})
			}
			all.Go(func() {
				f.try(1, hubkit.ToAll(), "y")
				c.Disconnect(hubkit.Reason{})
			})
		}
		all.Wait()
		settle()
		if s := f.hubs[0].Stats(); s.Connections != 1 || s.Groups != groups || s.Subscriptions != groups+2 {
			f.t.Errorf("left behind: %+v", s)
		}
		stay.Disconnect(hubkit.Reason{})
		if s := f.hubs[0].Stats(); s.Connections != 0 || s.Groups != 0 || s.Subscriptions != 2 {
			f.t.Errorf("left behind: %+v", s)
		}
	})
}

func TestInvalidGroupNames(t *testing.T) {
	onBoth(t, func(f *farm) {
		c := f.member(0)
		for _, name := range []string{"", strings.Repeat("x", 1025), "\xff"} {
			if err := c.Join(f.t.Context(), name); !errors.Is(err, backplane.ErrInvalidAddress) {
				f.t.Errorf("joining %.10q: %v", name, err)
			}
			if err := c.Leave(f.t.Context(), name); !errors.Is(err, backplane.ErrInvalidAddress) {
				f.t.Errorf("leaving %.10q: %v", name, err)
			}
			if err := f.hubs[0].Send(f.t.Context(), hubkit.ToGroups("ok", name), nil); !errors.Is(err, backplane.ErrInvalidAddress) {
				f.t.Errorf("sending to %.10q: %v", name, err)
			}
		}
		if got := c.Groups(); len(got) != 0 {
			f.t.Errorf("it is in %q", got)
		}
	})
}
