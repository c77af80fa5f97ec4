package backplane_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/internal/routed"
	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// death is three nodes on servers of their own, of which one dies, and two subscriptions of others that were in force before.
type death struct {
	t              *testing.T
	c              *routed.Cluster
	a, third, dies *backplane.Node
	w              *told
	room           backplane.Address
	atA, atThird   *listening
	said           time.Time // when the last words were
}

func newDeath(t *testing.T, seed uint64) *death {
	t.Helper()
	c := lan(seed)
	d := &death{t: t, c: c, w: newTold(t), room: backplane.Group("room")}
	d.a, d.third, d.dies = openAt(t, c, 0, "a"), openAt(t, c, 1, "third"), openAt(t, c, 2, "dies")
	d.atA, d.atThird = d.w.listen(d.a, d.room), d.w.listen(d.third, d.room)
	<-time.After(10*time.Second + time.Duration(seed)*170*time.Millisecond)
	return d
}

// lastWords publishes what the server takes.
func (d *death) lastWords() {
	d.t.Helper()
	d.said = time.Now()
	for range 3 {
		d.w.say(d.dies, d.room)
	}
}

// die ends the node, and its server with it.
func (d *death) die() {
	d.c.Stop(2)
	d.c.CutNode(d.dies.ID())
}

// toldOnce reports a subscription that was not told of the death by one gap, since a time before the last words.
func (d *death) toldOnce(e *listening) {
	d.t.Helper()
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	k := 0
	for _, h := range e.events {
		if h.gap == nil || h.gap.Cause != backplane.GapMember || h.gap.Publisher != d.dies.ID() {
			continue
		}
		if k++; h.gap.Since.After(d.said) {
			d.t.Errorf("%s was told of a gap since %v after the last words", e.name, h.gap.Since.Sub(d.said))
		}
	}
	if k != 1 {
		d.t.Errorf("%s was told of the death %d times", e.name, k)
	}
}

// What a node's server had taken, and not passed on when it died with the node, is told by a gap; once, and only to those who were
// subscribed before.
func TestDeathIsTold(t *testing.T) {
	for name, stage := range map[string]func(*death){
		"with its server, which nobody could reach": func(d *death) {
			d.c.Cut(0, 2)
			d.c.Cut(1, 2)
			d.lastWords()
			d.die()
		},
		"while one route is away": func(d *death) {
			d.c.Cut(0, 2)
			d.lastWords()
			d.die()
		},
		"after a route came back, before its tail mark": func(d *death) {
			d.c.Cut(0, 2)
			d.lastWords()
			d.c.Heal(0, 2)
			<-time.After(time.Second)
			d.die()
		},
		"while its server lives on": func(d *death) {
			d.c.Cut(0, 2)
			d.lastWords()
			d.c.CutNode(d.dies.ID())
			<-time.After(time.Second)
			d.c.Heal(0, 2)
		},
		"while others connect anew": func(d *death) {
			d.c.Cut(0, 2)
			d.lastWords()
			d.die()
			<-time.After(time.Second)
			d.c.Kick(d.a.ID())
			d.c.Kick(d.third.ID())
		},
	} {
		for seed := range uint64(shorter(10, 3)) {
			t.Run(fmt.Sprintf("%s/seed=%d", name, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDeath(t, seed)
					stage(d)
					waited := d.w.listen(d.a, backplane.Group("waited for the dead"))
					<-time.After(20 * time.Second)
					late := d.w.listen(d.third, d.room)
					d.w.say(d.a, d.room)
					<-time.After(time.Second)
					if d.w.judge() == 0 {
						t.Error("nothing was missed: the test proves nothing")
					}
					d.toldOnce(d.atA)
					d.toldOnce(d.atThird)
					if k := d.w.gaps(waited) + d.w.gaps(late); k > 0 {
						t.Errorf("who had not been subscribed before was told of %d gaps", k)
					}
				})
			})
		}
	}
}

// Each of two deaths at the same time is a gap.
func TestTwoDeathsAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeath(t, 1)
		other := openAt(t, d.c, 2, "other")
		<-time.After(10 * time.Second)
		d.c.Cut(0, 2)
		d.c.Cut(1, 2)
		d.lastWords()
		d.w.say(other, d.room)
		d.c.CutNode(other.ID())
		d.die()
		<-time.After(20 * time.Second)
		if missed := d.w.judge(); missed != 8 {
			t.Errorf("%d were missed, want 4 at each", missed)
		}
		d.toldOnce(d.atA)
		d.toldOnce(d.atThird)
		if k := d.w.gaps(d.atA); k != 2 {
			t.Errorf("%d gaps, want one for each", k)
		}
	})
}

// A member that was declared dead and speaks again has lost more, meanwhile and until it is heard again: that is another gap, in
// front of what it says then.
func TestDeadThatSpeakAgain(t *testing.T) {
	for seed := range uint64(shorter(10, 3)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeath(t, seed)
				d.w.say(d.dies, d.room)
				<-time.After(time.Second)
				d.c.Cut(0, 2)
				for range 3 { // each with numbers of its own, since it falls silent in between
					d.lastWords()
					<-time.After(7*time.Second + 130*time.Millisecond)
				}
				d.c.Heal(0, 2)
				<-time.After(100 * time.Millisecond) // its heartbeat may come later
				for range 200 {
					d.w.say(d.dies, d.room)
					<-time.After(10 * time.Millisecond)
				}
				<-time.After(10 * time.Second)
				if d.w.judge() == 0 {
					t.Error("nothing was missed: the test proves nothing")
				}
				if k := d.w.gaps(d.atThird); k > 0 && !mayDoubt(d.w, d.atThird) {
					t.Errorf("the third, whose routes were well, was told of %d gaps", k)
				}
			})
		})
	}
}

// A member is declared dead while the own link is away, so that nothing is known of a cluster at that moment.
func TestDeathWhileTheOwnLinkIsAway(t *testing.T) {
	for _, at := range []time.Duration{5 * time.Second, 6 * time.Second, 7 * time.Second, 7500 * time.Millisecond} {
		t.Run(at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeath(t, 1)
				<-time.After(7 * time.Second)
				d.c.Cut(0, 2)
				d.c.Cut(1, 2)
				d.lastWords()
				d.die()
				<-time.After(at)
				d.c.CutNode(d.a.ID())
				<-time.After(4 * time.Second)
				d.c.HealNode(d.a.ID())
				<-time.After(30 * time.Second)
				d.w.judge()
				d.w.mu.Lock()
				defer d.w.mu.Unlock()
				if !slices.ContainsFunc(d.atA.events, func(h hearing) bool { return h.gap != nil && h.gap.Cause == backplane.GapMember }) {
					t.Error("the death was not told")
				}
			})
		})
	}
}

// A member that closes has said all, and is no gap; nor is it to those who come at that moment.
func TestGoodbyeIsNoGap(t *testing.T) {
	for seed := range uint64(shorter(10, 3)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeath(t, seed)
				d.lastWords()
				if err := d.dies.Close(t.Context()); err != nil {
					t.Error(err)
				}
				<-time.After(100 * time.Millisecond) // the server hands over what it has taken
				d.c.Stop(2)
				e := d.w.listen(openAt(t, d.c, 0, "newcomer"), d.room)
				<-time.After(20 * time.Second)
				if missed := d.w.judge(); missed > 0 {
					t.Errorf("%d were missed", missed)
				}
				if k := d.w.gaps(d.atA) + d.w.gaps(d.atThird) + d.w.gaps(e); k > 0 {
					t.Errorf("%d gaps", k)
				}
			})
		})
	}
}

// A node closes, and another one opens in its place before the others know: they name it at the newcomer's gate.
func TestReplacedNodeIsNoGap(t *testing.T) {
	for seed := range uint64(shorter(30, 5)) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeath(t, seed)
				d.c.SetLatency(0, 2, 150*time.Millisecond)
				for range 3 {
					if err := d.dies.Close(t.Context()); err != nil {
						t.Error(err)
					}
					<-time.After(30 * time.Millisecond) // the goodbye is past the server 1, and not yet at 0
					e := d.w.listen(openAt(t, d.c, 1, "next"), d.room)
					d.dies = openAt(t, d.c, 2, "last")
					<-time.After(20 * time.Second)
					if k := d.w.gaps(d.atA) + d.w.gaps(d.atThird) + d.w.gaps(e); k > 0 {
						t.Fatalf("%d gaps", k)
					}
				}
			})
		})
	}
}

// A route is away while a node says its last words and the marks of them, and is back for the goodbye.
func TestGoodbyeWithoutItsMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := lan(1)
		a := openAt(t, c, 0, "a")
		heal := func() {
			c.Heal(0, 2)
			<-time.After(200 * time.Millisecond) // the servers have told each other all
		}
		leaves := openOver(t, beforeGoodbye(c.Opener(2), heal), "leaves")
		w, room := newTold(t), backplane.Group("room")
		e := w.listen(a, room)
		<-time.After(20*time.Second + 100*time.Millisecond) // just after a heartbeat
		c.Cut(0, 2)
		w.say(leaves, room)
		if err := leaves.Close(t.Context()); err != nil {
			t.Error(err)
		}
		<-time.After(5 * time.Second)
		if k := len(a.Members()); k != 1 {
			t.Errorf("%d members, so the goodbye was not heard", k)
		}
		if missed := w.judge(); missed != 1 {
			t.Errorf("%d were missed, want 1", missed)
		}
		if k := w.gaps(e); k != 1 {
			t.Errorf("%d gaps, want 1", k)
		}
	})
}

// beforeGoodbye does something before a node's goodbye is sent.
func beforeGoodbye(open transport.Opener, do func()) transport.Opener {
	return func(c transport.Config) (transport.Transport, error) {
		tr, err := open(c)
		if err != nil {
			return nil, err
		}
		return &farewell{Transport: tr, do: do}, nil
	}
}

type farewell struct {
	transport.Transport

	do func()
}

func (*farewell) Clustered(transport.Link) bool { return true }

func (f *farewell) Publish(ctx context.Context, l transport.Link, frames []transport.Frame) []error {
	const goodbye = 2 // a flag
	for _, frame := range frames {
		r, err := wire.NewReader(frame.Data)
		if err != nil {
			panic(err)
		}
		var m wire.Message
		for r.Next(&m) {
			if m.Type == wire.Heartbeat && m.Payload[1]&goodbye != 0 {
				f.do()
			}
		}
	}
	return f.Transport.Publish(ctx, l, frames)
}
