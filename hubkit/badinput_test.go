package hubkit_test

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

// Every call with every input that it cannot mean: a typed error, before anything is done.

// asking are the calls that take a target, from any instance.
func asking(ctx context.Context, h *hubkit.Hub) map[string]func(hubkit.Target) error {
	calls := map[string]func(hubkit.Target) error{
		"count":  func(of hubkit.Target) error { _, err := h.Count(ctx, of); return err },
		"exists": func(of hubkit.Target) error { _, err := h.Exists(ctx, of); return err },
		"list":   func(of hubkit.Target) error { _, err := h.List(ctx, of, hubkit.ListOptions{}); return err },
		"send":   func(of hubkit.Target) error { return h.Send(ctx, of, []byte("x")) },
	}
	for name, do := range operations {
		calls[name] = func(of hubkit.Target) error { _, err := do(ctx, h, of); return err }
	}
	return calls
}

// badNames are what no group and no user is called.
var badNames = map[string]string{
	"empty": "", "over-long": strings.Repeat("n", backplane.MaxName+1), "no UTF-8": "\xff",
}

type badTarget struct {
	of   hubkit.Target
	want error
}

// badTargets are targets that nothing can be done with.
func badTargets(id string) map[string]badTarget {
	rows := map[string]badTarget{
		"too many exceptions": {hubkit.Target{All: true, Except: slices.Repeat([]string{id}, hubkit.MaxExcept+1)}, hubkit.ErrInvalidTarget},
	}
	for what, name := range badNames {
		rows[what+" group"] = badTarget{hubkit.ToGroups("4B", name), backplane.ErrInvalidAddress}
		rows[what+" user"] = badTarget{hubkit.Target{Users: []string{"u", name}, Groups: []string{"4B"}}, backplane.ErrInvalidAddress}
	}
	for what, bad := range map[string]string{
		"empty": "", "over-long": strings.Repeat("n", 64) + id, "foreign": "u17", "cut": id[:len(id)-1], "longer": id + "a",
		"upper-case": strings.ToUpper(id), "homeless": id[strings.LastIndexByte(id, '-'):],
	} {
		rows[what+" id"] = badTarget{hubkit.ToConnections(id, bad), hubkit.ErrInvalidTarget}
		rows[what+" exception"] = badTarget{hubkit.Target{All: true, Except: []string{bad}}, hubkit.ErrInvalidTarget}
	}
	return rows
}

func TestBadInput(t *testing.T) {
	onStore(t, func(f *farm) {
		ctx, h := f.t.Context(), f.hubs[0]
		here, there := f.user(0, "u", "4B"), f.user(1, "u", "4B")
		f.joinUser(0, "u", "5A", 0, 2)
		page, err := h.List(ctx, hubkit.ToUsers("u"), hubkit.ListOptions{Limit: 1})
		if err != nil || page.Next == "" {
			f.t.Fatalf("%+v, %v", page, err)
		}
		before := f.footprint()
		refuse := func(what string, want, err error) {
			f.t.Helper()
			if typed, ok := errors.AsType[*hubkit.Error](err); !ok || !errors.Is(err, want) || typed.Op == "" || typed.Hub != "ward" {
				f.t.Errorf("%s: %v, want %v", what, err, want)
			}
			if now := f.footprint(); now != before {
				f.t.Fatalf("%s: done was %+v, before it was %+v", what, now, before)
			}
		}

		for what, row := range badTargets(there.ID()) {
			for name, do := range asking(ctx, h) {
				refuse(name+", "+what, row.want, do(row.of))
			}
		}
		for what, name := range badNames {
			refuse("Join a group, "+what, backplane.ErrInvalidAddress, here.Join(ctx, name))
			refuse("Leave a group, "+what, backplane.ErrInvalidAddress, here.Leave(ctx, name))
			_, err := h.Join(ctx, hubkit.ToAll(), name)
			refuse("join a group, "+what, backplane.ErrInvalidAddress, err)
			_, err = h.Leave(ctx, hubkit.ToAll(), name)
			refuse("leave a group, "+what, backplane.ErrInvalidAddress, err)
			_, err = h.JoinUser(ctx, name, "6C", 0)
			refuse("join user, "+what, backplane.ErrInvalidAddress, err)
			_, err = h.JoinUser(ctx, "u", name, 0)
			refuse("join user to a group, "+what, backplane.ErrInvalidAddress, err)
			_, err = h.LeaveUser(ctx, name, "5A")
			refuse("leave user, "+what, backplane.ErrInvalidAddress, err)
			_, err = h.UserGroups(ctx, name)
			refuse("user groups, "+what, backplane.ErrInvalidAddress, err)
			if name != "" {
				_, err = h.Connect(ctx, conntest.New(), hubkit.ConnectOptions{User: name})
				refuse("connect, "+what, backplane.ErrInvalidAddress, err)
			}
		}
		f.refusesOptions(refuse, here)
		f.refusesTokens(refuse, page)
		for _, id := range []string{"", "u17", there.ID() + "a", strings.Repeat("n", 64) + there.ID()} {
			_, err := h.Invoke(ctx, id, nil)
			refuse("invoke "+id, hubkit.ErrInvalidTarget, err)
			refuse("reply "+id, hubkit.ErrNotInvoked, here.Reply(id, nil, nil))
		}
		here.got()
		there.got()
	})
}

// footprint is what a call that is refused must leave as it is.
type footprint struct {
	connections, groups, users, subscriptions, sent, asked uint64
}

func (f *farm) footprint() (e footprint) {
	for i, h := range f.hubs {
		s, n := h.Stats(), f.nodes[i].Stats()
		e.connections += uint64(s.Connections)
		e.groups += uint64(s.Groups)
		e.users += uint64(s.Users)
		e.subscriptions += uint64(s.Subscriptions)
		e.asked += n.QuestionsAsked
		e.sent += s.Sends + s.Received
	}
	return e
}

// refusesOptions checks what connects, sends and drains do not take.
func (f *farm) refusesOptions(refuse func(string, error, error), here *client) {
	f.t.Helper()
	ctx, h := f.t.Context(), f.hubs[0]
	for what, o := range map[string]hubkit.ConnectOptions{
		"a label over its limit":       {Label: strings.Repeat("l", hubkit.MaxLabel+1)},
		"metadata over its limit":      {Metadata: map[string]string{"key": strings.Repeat("m", hubkit.MaxMetadata-2)}},
		"metadata of too many keys":    {Metadata: manyKeys(hubkit.MaxMetadata/4 + 1)},
		"an outbox of less than none":  {Outbox: hubkit.OutboxOptions{Messages: -1}},
		"an outbox of negative bytes":  {Outbox: hubkit.OutboxOptions{Bytes: -1}},
		"a policy that does not exist": {Outbox: hubkit.OutboxOptions{Policy: 99}},
	} {
		_, err := h.Connect(ctx, conntest.New(), o)
		refuse(what, backplane.ErrInvalidOption, err)
	}
	_, err := h.Connect(ctx, nil, hubkit.ConnectOptions{})
	refuse("no Conn", backplane.ErrInvalidOption, err)
	_, err = h.Connect(ctx, conntest.New(), hubkit.ConnectOptions{Resume: "token"})
	refuse("a token without Options.Resume", backplane.ErrUnsupported, err)

	refuse("a key over its limit", hubkit.ErrInvalidTarget, h.SendLatest(ctx, hubkit.ToAll(), strings.Repeat("k", backplane.MaxName+1), nil))
	for _, ttl := range []time.Duration{-1, time.Microsecond, hubkit.MaxUserTTL + 1} {
		_, err := h.JoinUser(ctx, "u", "6C", ttl)
		refuse("a time to live of "+ttl.String(), backplane.ErrInvalidOption, err)
	}
	for _, o := range []hubkit.DrainOptions{{Over: -1}, {Grace: -1}} {
		_, err := h.Drain(ctx, o)
		refuse("a drain that has ended before", backplane.ErrInvalidOption, err)
		if h.Draining() {
			f.t.Error("it drains nevertheless")
		}
	}
	for what, name := range map[string]string{"a reason": "", "an id that is none": "u17"} {
		if _, open := f.hubs[0].Connection(name); open {
			f.t.Errorf("%s is a connection", what)
		}
	}
	if _, over := here.Reason(); over {
		f.t.Error("a connection was closed")
	}
}

func manyKeys(n int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[string(rune(0x10000+i))] = "" // four bytes
	}
	return m
}

// refusesTokens checks page tokens that are not for what is listed.
func (f *farm) refusesTokens(refuse func(string, error, error), page hubkit.Page) {
	f.t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(page.Next)
	if err != nil {
		f.t.Fatal(err)
	}
	newer := base64.RawURLEncoding.EncodeToString(append([]byte{raw[0] + 1}, raw[1:]...))
	for what, row := range map[string]struct {
		of    hubkit.Target
		token string
	}{
		"of another user":      {hubkit.ToUsers("v"), page.Next},
		"of another kind":      {hubkit.ToGroups("u"), page.Next},
		"of another except":    {hubkit.Target{Users: []string{"u"}, Except: []string{page.Connections[0].ID}}, page.Next},
		"of all":               {hubkit.ToAll(), page.Next},
		"of another version":   {hubkit.ToUsers("u"), newer},
		"that is cut":          {hubkit.ToUsers("u"), page.Next[:len(page.Next)-3]},
		"that is over-long":    {hubkit.ToUsers("u"), page.Next + strings.Repeat("A", 200)},
		"that is no token":     {hubkit.ToUsers("u"), "?"},
		"that is a connection": {hubkit.ToUsers("u"), page.Connections[0].ID},
	} {
		_, err := f.hubs[0].List(f.t.Context(), row.of, hubkit.ListOptions{Token: row.token})
		refuse("a token "+what, hubkit.ErrInvalidToken, err)
	}
	for _, limit := range []int{-1, hubkit.MaxPage + 1} {
		_, err := f.hubs[0].List(f.t.Context(), hubkit.ToUsers("u"), hubkit.ListOptions{Limit: limit, Token: page.Next})
		refuse("a limit", backplane.ErrInvalidOption, err)
	}
}

// What is well-formed and means nobody is no bad input: a group and a user without connections are as empty as they are, and a
// connection that is gone is told apart from one that may live.
func TestUnknownTargets(t *testing.T) {
	onStore(t, func(f *farm) {
		ctx, h := f.t.Context(), f.hubs[0]
		gone, unheard := f.member(1), f.member(2)
		gone.Disconnect(hubkit.Reason{})
		settle()
		id := unheard.ID()
		nobody := "0123456789abcdef" + id[strings.LastIndexByte(id, '-'):] // of a node that never was
		for name, do := range operations {
			for what, of := range map[string]hubkit.Target{
				"a group": hubkit.ToGroups("nobody"), "a user": hubkit.ToUsers("nobody"), "no target": {},
				"all but all": {All: true, Except: []string{id}},
			} {
				n, err := do(ctx, h, of)
				f.changed(name+" of "+what, 0)(n, err)
			}
			_, err := do(ctx, h, hubkit.ToConnections(gone.ID()))
			f.failedAs(name+" of one that is gone", err, hubkit.ErrNotFound)
			_, err = do(ctx, h, hubkit.ToConnections(nobody))
			f.failedAs(name+" of one whose node is not known", err, backplane.ErrNodeLost)
		}
		for what, of := range map[string]hubkit.Target{"a group": hubkit.ToGroups("nobody"), "a user": hubkit.ToUsers("nobody")} {
			if found, err := h.Exists(ctx, of); found || err != nil {
				f.t.Errorf("%s exists: %v, %v", what, found, err)
			}
			if p, err := h.List(ctx, of, hubkit.ListOptions{}); err != nil || len(p.Connections) != 0 || p.Next != "" || p.Partial() {
				f.t.Errorf("%s: %+v, %v", what, p, err)
			}
			f.send(0, of, "x")
		}
		if n, err := h.LeaveUser(ctx, "nobody", "4B"); n != 0 || err != nil {
			f.t.Errorf("leave user: %d, %v", n, err)
		}
		if groups, err := h.UserGroups(ctx, "nobody"); len(groups) != 0 || err != nil {
			f.t.Errorf("the groups of nobody are %v, %v", groups, err)
		}
		_, err := h.Invoke(ctx, gone.ID(), nil)
		f.failedAs("invoke one that is gone", err, hubkit.ErrNotFound)
		_, err = h.Invoke(ctx, nobody, nil)
		f.failedAs("invoke one whose node is not known", err, backplane.ErrNodeLost)
		unheard.got()
	})
}

// What is exactly at its limit is taken.
func TestInputAtItsLimit(t *testing.T) {
	onStore(t, func(f *farm) {
		ctx, h := f.t.Context(), f.hubs[0]
		long := strings.Repeat("é", backplane.MaxName/2)
		c := f.connect(1, hubkit.ConnectOptions{
			User: long, Label: strings.Repeat("l", hubkit.MaxLabel), Metadata: manyKeys(hubkit.MaxMetadata / 4),
		}, long)
		f.joinUser(0, long, long[2:]+"ab", hubkit.MaxUserTTL, 1)
		except := make([]string, hubkit.MaxExcept)
		like := c.ID()[:len(c.ID())-4] + "a" // and none is its own
		if like[len(like)-1] == c.ID()[len(like)-1] {
			like = like[:len(like)-1] + "b"
		}
		for i := range except {
			except[i] = like + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		}
		if err := h.SendLatest(ctx, hubkit.Target{Groups: []string{long}, Except: except}, strings.Repeat("k", backplane.MaxName), []byte("x")); err != nil {
			f.t.Error(err)
		}
		c.got("x")
		p, err := h.List(ctx, hubkit.ToUsers(long), hubkit.ListOptions{Limit: hubkit.MaxPage})
		if err != nil || len(p.Connections) != 1 || len(p.Connections[0].Metadata) != hubkit.MaxMetadata/4 || len(p.Connections[0].Label) != hubkit.MaxLabel {
			f.t.Errorf("%+v, %v", p, err)
		}
	})
}
