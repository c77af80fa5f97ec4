package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

var localWhenDown = hubkit.Options{Name: "ward", LocalWhenDown: true}

// localOnly fails where a send's error does not say that it reached this instance only. It must not look like one after
// which a second attempt harms nobody.
func localOnly(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, hubkit.ErrLocalOnly) || errors.Is(err, backplane.ErrUnavailable) {
		t.Errorf("%s: %v, want ErrLocalOnly and nothing else", what, err)
	}
}

// refusing makes a bus refuse what is published to some addresses.
func (f *farm) refusing(err error, at ...backplane.Address) {
	f.bus.refuseWith(func(verb string, to backplane.Address) error {
		for _, a := range at {
			if verb == "publish" && a == to {
				return err
			}
		}
		return nil
	})
}

// While the broker is away the connections of the sending instance get what is sent, and the sender knows that others
// do not; afterwards all is as before.
func TestLocalDeliveryWhileTheBackplaneIsDown(t *testing.T) {
	onNodes(t, localWhenDown, func(f *farm) {
		here, there := f.user(0, "nurse", "4B"), f.user(1, "nurse", "4B")
		except := f.member(0, "4B")
		f.broker.Stop()
		settle()
		for what, to := range map[string]hubkit.Target{
			"all": hubkit.ToAll(), "group": hubkit.ToGroups("4B"), "user": hubkit.ToUsers("nurse"),
		} {
			to.Except = []string{except.ID()}
			localOnly(f.t, what, f.hubs[0].Send(f.t.Context(), to, []byte("now")))
		}
		here.got("now", "now", "now")
		there.got()
		except.got()
		if s := f.hubs[0].Stats(); s.LocalOnly != 3 || s.SendsFailed != 3 {
			f.t.Errorf("%d sends are counted as local only, %d as failed", s.LocalOnly, s.SendsFailed)
		}
		f.broker.Start()
		settleFor(f.t, 10*time.Second)
		f.send(0, hubkit.ToGroups("4B"), "again")
		here.got("now", "now", "now", "again")
		there.got("again")
	})
}

// With WaitWhenDown a send waits for the broker until its context ends; then it stays here.
func TestLocalDeliveryAfterWaiting(t *testing.T) {
	onNodes(t, localWhenDown, func(f *farm) {
		node, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{WaitWhenDown: true})
		if err != nil {
			f.t.Fatal(err)
		}
		f.nodes = append(f.nodes, node)
		hub, err := hubkit.New(node, localWhenDown)
		if err != nil {
			f.t.Fatal(err)
		}
		f.hubs = append(f.hubs, hub)
		here := f.member(instances, "4B")
		f.broker.Stop()
		settle()
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
		defer cancel()
		localOnly(f.t, "a send that waited", hub.Send(ctx, hubkit.ToGroups("4B"), []byte("late")))
		here.got("late")
		f.broker.Start()
		settleFor(f.t, 10*time.Second)
		gone, cancel := context.WithCancel(f.t.Context())
		cancel()
		if err := hub.Send(gone, hubkit.ToGroups("4B"), []byte("never")); !errors.Is(err, backplane.ErrUnavailable) {
			f.t.Errorf("a send whose context had ended, with the backplane up: %v, want ErrUnavailable", err)
		}
		here.got("late")
	})
}

// Without the option, and where nobody here was reached, nothing changes: to send again is right.
func TestNoLocalDelivery(t *testing.T) {
	unavailable := func(f *farm, to hubkit.Target, err error) {
		f.refusing(err, group("4B"))
		if err := f.hubs[0].Send(f.t.Context(), to, []byte("x")); errors.Is(err, hubkit.ErrLocalOnly) || err == nil {
			f.t.Errorf("%v, want the backplane's error", err)
		}
	}
	down := fmt.Errorf("%w: gone", backplane.ErrUnavailable)
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		c := f.member(0, "4B")
		unavailable(f, hubkit.ToGroups("4B"), down)
		c.got()
	})
	onBus(t, localWhenDown, func(f *farm) {
		elsewhere := f.member(1, "4B")
		unavailable(f, hubkit.ToGroups("4B"), down)
		elsewhere.got()
		here := f.member(0, "4B")
		excepted := hubkit.ToGroups("4B")
		excepted.Except = []string{here.ID()}
		unavailable(f, excepted, down)
		unavailable(f, hubkit.ToGroups("4B"), fmt.Errorf("%w: no answer", backplane.ErrUncertain))
		unavailable(f, hubkit.ToGroups("4B"), fmt.Errorf("%w: %w", backplane.ErrUncertain, down))
		unavailable(f, hubkit.ToGroups("4B"), fmt.Errorf("%w: no", backplane.ErrDenied))
		here.got()
	})
}

// A send of which the broker took one part, and not the other, is still one send to a connection that both reach (H1).
func TestLocalDeliveryIsOneCopy(t *testing.T) {
	onBus(t, localWhenDown, func(f *farm) {
		both, one := f.member(0, "4B", "5A"), f.user(0, "nurse", "5A")
		f.bus.hold(group("4B"))
		f.refusing(backplane.ErrUnavailable, group("5A"), backplane.User("nurse").In("ward"))
		payload := []byte("once")
		err := f.hubs[0].Send(f.t.Context(), hubkit.Target{Groups: []string{"4B", "5A"}, Users: []string{"nurse"}}, payload)
		localOnly(f.t, "a send of three parts", err)
		parts, ok := errors.AsType[*hubkit.SendError](err)
		if !ok || len(parts.Failed) != 2 || parts.Total != 3 {
			f.t.Errorf("the error is %v, want two parts of three", err)
		}
		clear(payload) // it is the caller's again
		both.got("once")
		one.got("once")
		f.bus.release(group("4B"))
		both.got("once")
	})
}
