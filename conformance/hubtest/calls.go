package hubtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// send sends to a target, which must succeed.
func (s *seat) send(to Target, payload string) { s.hub(ward).send(to, payload) }

func (h *hub) send(to Target, payload string) {
	if err := h.trySend(to, payload); err != nil {
		h.w.check()
		h.w.fatalf("%s: Send to %s failed: %w", h.name, h.w.target(to), err)
	}
}

func (h *hub) trySend(to Target, payload string) error {
	h.w.uses(h.of, to)
	what := fmt.Sprintf("Send(%s, %s)%s", h.w.target(to), shown(payload), h.unlessWard())
	return h.w.call(h.seat, h.w.keys(to), what, func(ctx context.Context) (string, error) {
		return "", h.raw.Send(ctx, to, []byte(payload))
	})
}

// unlessWard names the hub in timelines where it is not the one that most properties use.
func (h *hub) unlessWard() string {
	if h.of == ward {
		return ""
	}
	return " of the hub " + h.of
}

// uses notes where something is sent to, for fences.
func (w *world) uses(hub string, to Target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range to.Groups {
		w.groups[[2]string{hub, g}] = true
	}
	for _, u := range to.Users {
		w.users[[2]string{hub, u}] = true
	}
}

// The operations of a hub, as properties call them.
const (
	join       = "Join"
	leave      = "Leave"
	leaveAll   = "LeaveAll"
	disconnect = "Disconnect"
)

// operations are all of them.
func operations() []string { return []string{join, leave, leaveAll, disconnect} }

// operate does an operation; with is the group, or the text of a disconnect.
func (s *seat) operate(ctx context.Context, op string, of Target, with string) (changed int, err error) {
	h := s.hub(ward)
	what := fmt.Sprintf("%s(%s, %q)", op, s.w.target(of), with)
	if op == join {
		s.w.joins(of, with)
	}
	err = s.w.callWith(ctx, s, s.w.keys(of), what, func(ctx context.Context) (string, error) {
		switch op {
		case join:
			changed, err = h.raw.Join(ctx, of, with)
		case leave:
			changed, err = h.raw.Leave(ctx, of, with)
		case leaveAll:
			changed, err = h.raw.LeaveAll(ctx, of)
		default:
			changed, err = h.raw.Disconnect(ctx, of, with)
		}
		return fmt.Sprintf("%d changed ", changed), err
	})
	return changed, err
}

// change does an operation that must succeed and change as many connections as said.
func (s *seat) change(op string, of Target, with string, want int) {
	ctx, cancel := s.w.patient()
	defer cancel()
	n, err := s.operate(ctx, op, of, with)
	s.w.check()
	excused := n == want && errors.Is(err, hubkit.ErrPartial) && s.isAlone()
	if err != nil && !excused {
		s.w.fatalf("%s: %s(%s, %q) failed: %w", s.name, op, s.w.target(of), with, err)
	}
	if n != want {
		s.w.fatalf("%s: %s(%s, %q) says that it changed %d connections, and it should be %d", s.name, op, s.w.target(of), with, n, want)
	}
}

// isAlone reports whether the instance says that it does not know or reach all others: on a machine that stalls, that is the truth.
func (s *seat) isAlone() bool {
	c, err := s.hub(ward).raw.Count(s.w.ctx, everybody())
	return err != nil || c.Settling || len(c.Missing) > 0
}

// refused does an operation that must fail in one way.
func (s *seat) refused(op string, of Target, with string, want error) {
	ctx, cancel := s.w.patient()
	defer cancel()
	_, err := s.operate(ctx, op, of, with)
	s.w.mustFail(fmt.Sprintf("%s: %s(%s, %q)", s.name, op, s.w.target(of), with), err, want)
}

// outcome is a way to fail that a caller must be able to tell apart.
type outcome struct {
	err  error
	name string
}

// outcomes returns all. The ways in which ErrUnavailable has a more exact cause come before it.
func outcomes() []outcome {
	return []outcome{
		{hubkit.ErrResume, "ErrResume"},
		{hubkit.ErrPartial, "ErrPartial"},
		{hubkit.ErrNotFound, "ErrNotFound"},
		{backplane.ErrNodeLost, "ErrNodeLost"},
		{backplane.ErrTimeout, "ErrTimeout"},
		{backplane.ErrUnavailable, "ErrUnavailable"},
		{backplane.ErrBusy, "ErrBusy"},
		{backplane.ErrUnsupported, "ErrUnsupported"},
		{backplane.ErrClosed, "ErrClosed"},
		{hubkit.ErrDisconnected, "ErrDisconnected"},
		{hubkit.ErrInvalidTarget, "ErrInvalidTarget"},
		{hubkit.ErrInvalidToken, "ErrInvalidToken"},
		{hubkit.ErrNotInvoked, "ErrNotInvoked"},
		{hubkit.ErrDraining, "ErrDraining"},
		{backplane.ErrInvalidAddress, "ErrInvalidAddress"},
		{backplane.ErrTooLarge, "ErrTooLarge"},
	}
}

// outcomeOf names the first outcome that an error is.
func outcomeOf(err error) string {
	if err == nil {
		return "success"
	}
	for _, o := range outcomes() {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	return "an error of no kind"
}

// mustFail checks in which way something failed.
func (w *world) mustFail(what string, err, want error) {
	w.check()
	if got := outcomeOf(err); got != outcomeOf(want) {
		witness := fmt.Sprintf("%s ended with %s, and it should be %s", what, got, outcomeOf(want))
		if err != nil {
			witness += ": " + err.Error()
		}
		w.fail(&Failure{Witness: witness + ".", err: err})
		w.check()
	}
}

// count counts, which must succeed. An answer that says it is partial is no lie, if it does not stay so.
func (s *seat) count(of Target, want int) {
	var c Count
	s.w.eventually(s.name+" has a whole answer", func() bool {
		err := s.w.call(s, nil, fmt.Sprintf("Count(%s)", s.w.target(of)), func(ctx context.Context) (string, error) {
			var err error
			c, err = s.hub(ward).raw.Count(ctx, of)
			return fmt.Sprintf("%d, missing %v ", c.Connections, c.Missing), err
		})
		s.w.check()
		if err != nil {
			s.w.fatalf("%s: Count(%s) failed: %w", s.name, s.w.target(of), err)
		}
		return !c.Settling && len(c.Missing) == 0
	})
	if c.Connections != want {
		s.w.fatalf("%s: Count(%s) says %d, and it should be %d", s.name, s.w.target(of), c.Connections, want)
	}
}

// exists asks whether somebody is there, which must succeed.
func (s *seat) exists(of Target, want bool) {
	var is bool
	err := s.w.call(s, nil, fmt.Sprintf("Exists(%s)", s.w.target(of)), func(ctx context.Context) (string, error) {
		var err error
		is, err = s.hub(ward).raw.Exists(ctx, of)
		return fmt.Sprint(is, " "), err
	})
	s.w.check()
	if err != nil || is != want {
		s.w.fatalf("%s: Exists(%s) says %v, and it should be %v: %w", s.name, s.w.target(of), is, want, err)
	}
}
