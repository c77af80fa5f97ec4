package backplane_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// ids returns who a node sees, for comparison.
func ids(n *backplane.Node) []backplane.NodeID {
	var all []backplane.NodeID
	for _, m := range n.Members() {
		all = append(all, m.ID)
	}
	return all
}

func farm(t *testing.T, broker *inmem.Broker, k int, o backplane.Options) []*backplane.Node {
	t.Helper()
	var nodes []*backplane.Node
	for i := range k {
		o.Label = fmt.Sprint("node ", i)
		nodes = append(nodes, open(t, broker.Opener(), o))
	}
	return nodes
}

func TestMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 10, backplane.Options{})
		synctest.Wait() // who comes is known at once, and knows the others
		for i, n := range nodes {
			members := n.Members()
			if len(members) != len(nodes) || !slices.IsSortedFunc(members, func(a, b backplane.Member) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
				t.Errorf("node %d sees %v", i, members)
			}
			for _, m := range members {
				self := m.ID == n.ID()
				at := slices.IndexFunc(nodes, func(n *backplane.Node) bool { return n.ID() == m.ID })
				if m.Self != self || m.Label != fmt.Sprint("node ", at) || m.Since.IsZero() {
					t.Errorf("node %d sees %+v", i, m)
				}
			}
		}
		last := openOnly(t, broker.Opener(), backplane.Options{})
		synctest.Wait()
		wantIs(t, "close", last.Close(t.Context()))
		synctest.Wait()
		for _, n := range nodes { // who says goodbye is gone at once, and not lost
			if m := ids(n); len(m) != len(nodes) || n.Stats().MembersLost != 0 {
				t.Errorf("%d members, %d lost", len(m), n.Stats().MembersLost)
			}
		}
		time.Sleep(time.Minute)
		for _, n := range nodes {
			if s := n.Stats(); s.Members != len(nodes) || s.MembersLost != 0 {
				t.Errorf("a minute later: %d members, %d lost", s.Members, s.MembersLost)
			}
		}
	})
}

func TestNamespacesDoNotMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{Namespace: "ward"}), open(t, broker.Opener(), backplane.Options{Namespace: "ward2"})
		atA, _ := listen(t, a, backplane.All())
		publish(t, b, backplane.All(), "1")
		expect(t, "a", atA.heard())
		if len(a.Members()) != 1 || len(b.Members()) != 1 {
			t.Errorf("%v, %v", a.Members(), b.Members())
		}
	})
}

// Who falls silent is dead after the member timeout; when it speaks again every subscription hears of a gap, once.
func TestMemberDiesAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 3, backplane.Options{})
		a, b := nodes[0], nodes[1]
		atA, _ := listen(t, a, ward)
		atB, _ := listen(t, b, ward)
		publish(t, b, ward, "1")
		synctest.Wait()
		broker.Cut(b.ID())
		began := time.Now()
		for len(a.Members()) == 3 && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(began); d < 6*time.Second || d > 9500*time.Millisecond {
			t.Errorf("declared dead after %v", d)
		}
		if s := a.Stats(); s.MembersLost != 1 {
			t.Errorf("%d lost", s.MembersLost)
		}
		broker.Heal(b.ID())
		time.Sleep(5 * time.Second)
		publish(t, b, ward, "2")
		heard := atA.heard()
		expect(t, "a", heard, "1", "gap:member:0", "2")
		heard = atB.heard()
		expect(t, "b", slices.DeleteFunc(heard, func(s string) bool { return s == "gap:numbers:1" }), "1", "gap:link:0", "2")
		for _, n := range nodes {
			if m := ids(n); len(m) != 3 {
				t.Errorf("members: %v", m)
			}
		}
	})
}

// The messages of a member that is back may come before its heartbeat. The gap comes first all the same, also where its
// numbers have been forgotten.
func TestGapBeforeTheMessagesOfAMemberThatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 2, backplane.Options{})
		a, b := nodes[0], nodes[1]
		atB, _ := listen(t, b, ward)
		synctest.Wait()
		broker.Cut(a.ID())
		time.Sleep(2 * time.Minute)
		lose(broker, b, 1<<30, "default:s:members")
		broker.Heal(a.ID())
		time.Sleep(2500 * time.Millisecond)
		publish(t, a, ward, "1", "2")
		expect(t, "b", atB.heard(), "gap:member:0", "1", "2")
	})
}

// A node that was cut off itself declares nobody dead: neither while it is, nor afterwards.
func TestNoFalseDeaths(t *testing.T) {
	short := backplane.Options{Heartbeat: 500 * time.Millisecond, MemberTimeout: 1500 * time.Millisecond}
	for name, c := range map[string]struct {
		o     backplane.Options
		fault func(*inmem.Broker, backplane.NodeID)
	}{
		"cut off":                           {backplane.Options{}, (*inmem.Broker).Cut},
		"deaf":                              {backplane.Options{}, (*inmem.Broker).Deafen},
		"deaf, with a short member timeout": {short, (*inmem.Broker).Deafen},
		"hung, with a short member timeout": {short, (*inmem.Broker).Hang},
	} {
		for _, outage := range []time.Duration{2 * time.Second, time.Minute} {
			t.Run(fmt.Sprint(name, outage), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					broker := inmem.NewBroker()
					nodes := farm(t, broker, 4, c.o)
					n := nodes[0]
					time.Sleep(10 * time.Second)
					c.fault(broker, n.ID())
					time.Sleep(outage)
					if s := n.Stats(); s.MembersLost != 0 || s.Members != 4 {
						t.Errorf("in its outage: %d members, %d lost", s.Members, s.MembersLost)
					}
					broker.Heal(n.ID())
					time.Sleep(30 * time.Second)
					if s := n.Stats(); s.MembersLost != 0 || s.Members != 4 {
						t.Errorf("afterwards: %d members, %d lost", s.Members, s.MembersLost)
					}
				})
			})
		}
	}
}

// The death of another during one's own outage is found out afterwards.
func TestDeathDuringOwnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 3, backplane.Options{})
		synctest.Wait()
		broker.Cut(nodes[0].ID())
		broker.Cut(nodes[1].ID())
		time.Sleep(time.Minute)
		broker.Heal(nodes[0].ID())
		time.Sleep(30 * time.Second)
		if m := ids(nodes[0]); len(m) != 2 || slices.Contains(m, nodes[1].ID()) {
			t.Errorf("members: %v", m)
		}
	})
}

// Brokers restart: everybody meets again, and nobody has died.
func TestBrokerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 5, backplane.Options{})
		synctest.Wait()
		for _, down := range []time.Duration{0, time.Second, 5 * time.Minute} {
			broker.Stop()
			time.Sleep(down)
			broker.Start()
			time.Sleep(20 * time.Second)
			for i, n := range nodes {
				if s := n.Stats(); s.Members != 5 || s.MembersLost != 0 || n.Health().State != backplane.Up {
					t.Errorf("%v down: node %d has %d members, %d lost, health %+v", down, i, s.Members, s.MembersLost, n.Health())
				}
			}
		}
	})
}

// Clocks of other nodes play no part: nothing that travels holds a time of day. A node that joins a farm which has run for
// long, or whose own clock has been set back by hours, is a member like others. What can be seen of it here: the farm's
// life is measured by each node's own clock.
func TestSinceIsOnTheOwnClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a := open(t, broker.Opener(), backplane.Options{})
		time.Sleep(time.Hour)
		b := open(t, broker.Opener(), backplane.Options{})
		synctest.Wait()
		now := time.Now()
		for _, m := range b.Members() {
			if m.Since.Before(now.Add(-time.Second)) {
				t.Errorf("b has known %v since %v, before it was there", m.ID, m.Since)
			}
		}
		if h := a.Health(); h.State != backplane.Up {
			t.Errorf("%+v", h)
		}
	})
}
