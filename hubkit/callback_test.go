package hubkit_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// Whatever the hub calls may call the hub: sockets, the hook of gaps, the logger. No lock is held meanwhile.

// caller is a socket that does everything with its connection in every call.
type caller struct {
	f *farm
	t *testing.T

	mu     sync.Mutex
	c      *hubkit.Connection // guarded by mu
	writes int                // guarded by mu
	closes int                // guarded by mu
}

func (s *caller) everything() {
	s.mu.Lock()
	c := s.c
	s.mu.Unlock()
	if c == nil {
		return // Connect has not returned
	}
	ctx, h := s.t.Context(), s.f.hubs[0]
	_, closed := c.Reason()
	for _, err := range []error{
		c.Join(ctx, "own"), c.Leave(ctx, "own"),
		h.Send(ctx, hubkit.Target{Groups: []string{"4B", "4C"}, Connections: []string{c.ID()}, Except: []string{c.ID()}}, []byte("x")),
	} {
		if err != nil && (!closed || !errors.Is(err, hubkit.ErrDisconnected)) {
			s.t.Error(err)
		}
	}
	_ = h.Stats()
	_, _ = c.Groups(), c.Metadata()
	_, _ = h.Connection(c.ID())
}

func (s *caller) Write(context.Context, []hubkit.Delivery) error {
	s.mu.Lock()
	s.writes++
	c, again := s.c, s.writes < 5
	s.mu.Unlock()
	s.everything()
	switch {
	case again:
		return c.Send([]byte("again"))
	default:
		c.Disconnect(hubkit.Reason{})
		return nil
	}
}

func (s *caller) Close(reason hubkit.Reason) error {
	s.mu.Lock()
	s.closes++
	c := s.c
	s.mu.Unlock()
	s.everything()
	c.Disconnect(reason)
	return errors.New("so that the hub logs") //nolint:err113 // no error of ours
}

// logCaller is a log handler that asks the hubs for their counters.
type logCaller struct {
	slog.Handler

	f *farm
}

func (l logCaller) Enabled(context.Context, slog.Level) bool { return true }

func (l logCaller) Handle(context.Context, slog.Record) error {
	for _, h := range l.f.hubs {
		_ = h.Stats()
	}
	return nil
}

func TestCallsBackIntoTheHub(t *testing.T) {
	var now *farm
	var hooked int
	log := &logCaller{Handler: slog.DiscardHandler}
	o := hubkit.Options{Name: "ward", Logger: slog.New(log), OnGap: func(ctx context.Context, _ hubkit.Gap, concerned []*hubkit.Connection) {
		hooked++
		for _, c := range concerned {
			if err := errors.Join(c.Join(ctx, "hooked"), now.hubs[0].Send(ctx, hubkit.ToGroups("hooked"), nil)); err != nil {
				t.Error(err)
			}
			c.Disconnect(hubkit.Reason{})
		}
	}}
	onBus(t, o, func(f *farm) {
		now, log.f = f, f
		sock := &caller{f: f, t: f.t}
		c, err := f.hubs[0].Connect(f.t.Context(), sock, hubkit.ConnectOptions{User: "u"})
		if err != nil {
			f.t.Fatal(err)
		}
		sock.mu.Lock()
		sock.c = c
		sock.mu.Unlock()
		if err := c.Join(f.t.Context(), "4B"); err != nil {
			f.t.Fatal(err)
		}
		f.send(1, hubkit.ToGroups("4B"), "x")
		<-c.Done()
		if sock.writes != 5 || sock.closes != 1 {
			f.t.Errorf("%d writes and %d closes, want 5 and 1", sock.writes, sock.closes)
		}
		well := f.member(0, "4B")
		f.bus.gap(backplane.GapLink, 0, group("4B"))
		settleFor(f.t, gapWindow)
		if r := well.ended(); hooked != 1 || r.Code != hubkit.ReasonDone {
			f.t.Errorf("the hook ran %d times, reason %v", hooked, r)
		}
		if err := f.seats[1].Publish(f.t.Context(), backplane.All().In("ward"), nil); err != nil { // unreadable: it is logged
			f.t.Error(err)
		}
	})
}
