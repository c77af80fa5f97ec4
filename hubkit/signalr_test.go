package hubkit_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/gobackplane/backplane/hubkit"
)

// The cases of this file are those of the conformance suite that SignalR's backplanes inherit (the classes
// HubLifetimeManagerTestsBase and ScaleoutHubLifetimeManagerTests of dotnet/aspnetcore), as far as they concern what an
// instance does with its own connections; each comment gives the case's name there. They run over the bare verbs and
// over nodes, always with several instances.

// SendAllAsyncWritesToAllConnectionsOutput, InvokeAllAsyncWithMultipleServersWritesToAllConnectionsOutput.
func TestAllReachesEveryConnection(t *testing.T) {
	onBoth(t, func(f *farm) {
		clients := []*client{f.member(0), f.member(0), f.member(1), f.member(2)}
		f.send(1, hubkit.ToAll(), "hello")
		for _, c := range clients {
			c.got("hello")
		}
	})
}

// SendAllAsyncDoesNotWriteToDisconnectedConnectionsOutput, and the same with multiple servers.
func TestAllSkipsDisconnected(t *testing.T) {
	onBoth(t, func(f *farm) {
		a, b, c := f.member(0), f.member(0), f.member(1)
		a.Disconnect(hubkit.Reason{})
		f.send(0, hubkit.ToAll(), "one")
		c.Disconnect(hubkit.Reason{})
		f.send(0, hubkit.ToAll(), "two")
		b.got("one", "two")
		a.got()
		if slices.Contains(c.sock.Payloads(), "two") {
			f.t.Error("a disconnected client got a message")
		}
	})
}

// SendGroupAsyncWritesToAllConnectionsInGroupOutput, InvokeGroupAsyncOnServerWithoutConnectionWritesOutputToGroupConnection.
func TestGroupReachesMembersOnly(t *testing.T) {
	onBoth(t, func(f *farm) {
		a, b, other, none := f.member(0, "4B"), f.member(1, "4B"), f.member(1, "4C"), f.member(0)
		f.send(2, hubkit.ToGroups("4B"), "bell")
		a.got("bell")
		b.got("bell")
		other.got()
		none.got()
	})
}

// SendGroupExceptAsyncDoesNotWriteToExcludedConnections; here the excepted is on another instance than the sender.
func TestExceptHoldsOnEveryInstance(t *testing.T) {
	onBoth(t, func(f *farm) {
		a, b, c := f.user(0, "u", "4B"), f.user(1, "u", "4B"), f.user(2, "u", "4B")
		except := []string{b.ID(), c.ID()}
		f.send(0, hubkit.Target{Groups: []string{"4B"}, Except: except}, "group")
		f.send(0, hubkit.Target{Users: []string{"u"}, Except: except}, "user")
		f.send(0, hubkit.Target{All: true, Except: except}, "all")
		f.send(0, hubkit.Target{Connections: []string{a.ID(), b.ID(), c.ID()}, Except: except}, "connections")
		f.send(0, hubkit.Target{Groups: []string{"4B", "4C"}, Users: []string{"u"}, Except: except}, "several")
		a.settled(5)
		b.got()
		c.got()
	})
}

// SendConnectionAsyncWritesToConnectionOutput, InvokeConnectionAsyncOnServerWithoutConnectionWritesOutputToConnection.
func TestConnectionIsReachedFromAnywhere(t *testing.T) {
	onBoth(t, func(f *farm) {
		a, b := f.member(0), f.member(0)
		for i := range instances {
			f.send(i, hubkit.ToConnections(a.ID()), "to a")
		}
		a.got("to a", "to a", "to a")
		b.got()
	})
}

// DisconnectConnectionRemovesConnectionFromGroup.
func TestDisconnectLeavesGroups(t *testing.T) {
	onBoth(t, func(f *farm) {
		a := f.user(0, "u", "4B", "4C")
		a.Disconnect(hubkit.Reason{})
		f.send(1, hubkit.Target{Groups: []string{"4B"}, Users: []string{"u"}}, "late")
		a.got()
		if s := f.hubs[0].Stats(); s.Groups != 0 || s.Users != 0 || s.Connections != 0 {
			f.t.Errorf("left behind: %+v", s)
		}
		if err := a.Join(f.t.Context(), "4B"); !errors.Is(err, hubkit.ErrDisconnected) {
			f.t.Errorf("joining after the disconnect: %v", err)
		}
		if err := a.Connection.Send([]byte("x")); !errors.Is(err, hubkit.ErrDisconnected) {
			f.t.Errorf("sending after the disconnect: %v", err)
		}
	})
}

// RemoveGroupFromLocalConnectionNotInGroupDoesNothing.
func TestLeavingWhatWasNotJoined(t *testing.T) {
	onBoth(t, func(f *farm) {
		a := f.member(0, "4B")
		if err := a.Leave(f.t.Context(), "4C"); err != nil {
			f.t.Error(err)
		}
		f.send(0, hubkit.ToGroups("4B"), "bell")
		a.got("bell")
	})
}

// AddGroupAsyncForLocalConnectionAlreadyInGroupDoesNothing.
func TestJoiningTwiceIsJoiningOnce(t *testing.T) {
	onBoth(t, func(f *farm) {
		a := f.member(0, "4B", "4B")
		f.send(1, hubkit.ToGroups("4B"), "bell")
		a.got("bell")
		if err := a.Leave(f.t.Context(), "4B"); err != nil {
			f.t.Error(err)
		}
		f.send(1, hubkit.ToGroups("4B"), "late")
		a.got("bell")
	})
}

// InvokeConnectionAsyncForLocalConnectionDoesNotPublishToBackplane.
func TestLocalConnectionIsReachedWithoutTheBroker(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a := f.member(0)
		f.send(0, hubkit.ToConnections(a.ID()), "direct")
		a.got("direct")
		if n := f.bus.published(); n != 0 {
			f.t.Errorf("%d messages were published", n)
		}
	})
}

// WritingToRemoteConnectionThatFailsDoesNotThrow.
func TestSenderDoesNotHearOfFailedWrites(t *testing.T) {
	onBoth(t, func(f *farm) {
		a := f.member(0)
		a.sock.Fail(errors.New("broken pipe"))
		f.send(1, hubkit.ToConnections(a.ID()), "x")
		if r := a.ended(); r.Code != hubkit.ReasonFailed || r.Err == nil {
			f.t.Errorf("the reason is %v", r)
		}
	})
}

// WritingToGroupWithOneConnectionFailingSecondConnectionStillReceivesMessage.
func TestFailingMemberDoesNotStarveTheOthers(t *testing.T) {
	onBoth(t, func(f *farm) {
		broken, well := f.member(0, "4B"), f.member(0, "4B")
		broken.sock.Fail(errors.New("broken pipe"))
		f.send(1, hubkit.ToGroups("4B"), "one")
		well.got("one")
		broken.ended()
		f.send(1, hubkit.ToGroups("4B"), "two")
		well.got("one", "two")
	})
}

// InvokeUserSendsToAllConnectionsForUser.
func TestUserIsReachedOnAllConnections(t *testing.T) {
	onBoth(t, func(f *farm) {
		a, b, c, other := f.user(0, "u"), f.user(0, "u"), f.user(1, "u"), f.user(1, "U")
		f.send(2, hubkit.ToUsers("u"), "hello")
		a.got("hello")
		b.got("hello")
		c.got("hello")
		other.got()
	})
}

// StillSubscribedToUserAfterOneOfMultipleConnectionsAssociatedWithUserDisconnects.
func TestUserIsReachedAfterOneConnectionLeft(t *testing.T) {
	onBoth(t, func(f *farm) {
		a, b := f.user(0, "u"), f.user(0, "u")
		a.Disconnect(hubkit.Reason{})
		f.send(1, hubkit.ToUsers("u"), "hello")
		b.got("hello")
		a.got()
	})
}

// Beyond that suite: names as they come.

func TestStrangeNames(t *testing.T) {
	names := []string{"a b", "*", ">", "ward.*", "{slot}", "Ünïcode ✓", "new\nline", "CASE", "case", "a:b:c"}
	onBoth(t, func(f *farm) {
		var members []*client
		for _, name := range names {
			members = append(members, f.user(1, name, name))
		}
		for i, name := range names {
			f.send(0, hubkit.ToGroups(name), "group")
			members[i].got("group")
			f.send(0, hubkit.ToUsers(name), "user")
			members[i].got("group", "user")
		}
	})
}
