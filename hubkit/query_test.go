package hubkit_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

// H6: who is there.

func TestCount(t *testing.T) {
	onSettled(t, func(f *farm) {
		a, b, c := f.user(0, "u", "4B", "g"), f.user(1, "u", "4B"), f.user(1, "v", "4B")
		f.member(2)
		for _, h := range f.hubs {
			for _, q := range []struct {
				what string
				of   hubkit.Target
				want int
			}{
				{"all", hubkit.ToAll(), 4},
				{"all but one", hubkit.Target{All: true, Except: []string{a.ID()}}, 3},
				{"a group", hubkit.ToGroups("4B"), 3},
				{"two groups", hubkit.ToGroups("4B", "g"), 3},
				{"a user", hubkit.ToUsers("u"), 2},
				{"a connection", hubkit.ToConnections(b.ID()), 1},
				{"two connections", hubkit.ToConnections(b.ID(), a.ID(), b.ID()), 2},
				{"a union", hubkit.Target{Users: []string{"v"}, Groups: []string{"g"}, Connections: []string{a.ID(), c.ID()}}, 2},
				{"nobody", hubkit.ToGroups("nobody"), 0},
				{"no target", hubkit.Target{}, 0},
			} {
				got, err := h.Count(f.t.Context(), q.of)
				sum := 0
				for _, i := range got.Instances {
					sum += i.Connections
				}
				if err != nil || got.Connections != q.want || sum != q.want || got.Partial() {
					f.t.Errorf("%s: %+v, want %d; %v", q.what, got, q.want, err)
				}
				exists, err := h.Exists(f.t.Context(), q.of)
				if err != nil || exists != (q.want > 0) {
					f.t.Errorf("%s exists: %v, %v", q.what, exists, err)
				}
			}
		}
		got, err := f.hubs[2].Count(f.t.Context(), hubkit.ToGroups("4B"))
		per := map[backplane.NodeID]int{}
		for _, i := range got.Instances {
			per[i.Node] = i.Connections
		}
		if want := (map[backplane.NodeID]int{f.nodes[0].ID(): 1, f.nodes[1].ID(): 2}); err != nil || !maps.Equal(per, want) {
			f.t.Errorf("counts %v, want %v; %v", per, want, err)
		}
	})
}

// An answer that misses an instance says so and names it; once it is known dead it is not missed any more.
func TestQueriesNameWhoIsMissing(t *testing.T) {
	onSettled(t, func(f *farm) {
		f.user(0, "u", "4B")
		dead := f.user(1, "v", "4B")
		f.broker.Cut(f.nodes[1].ID())
		lost := f.nodes[1].ID()
		missing := func(what string, c hubkit.Coverage, want error) {
			f.t.Helper()
			if !c.Partial() || c.Settling || len(c.Missing) != 1 || c.Missing[0].Node != lost || !errors.Is(c.Missing[0].Err, want) {
				f.t.Errorf("%s misses %+v", what, c)
			}
		}
		brief := func() context.Context {
			ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
			f.t.Cleanup(cancel)
			return ctx
		}
		count, err := f.hubs[0].Count(brief(), hubkit.ToGroups("4B"))
		missing("the count", count.Coverage, backplane.ErrTimeout)
		if err != nil || count.Connections != 1 {
			f.t.Errorf("count %+v, %v", count, err)
		}
		page, err := f.hubs[0].List(brief(), hubkit.ToGroups("4B"), hubkit.ListOptions{})
		missing("the list", page.Coverage, backplane.ErrTimeout)
		if err != nil || len(page.Connections) != 1 || page.Next != "" {
			f.t.Errorf("page %+v, %v", page, err)
		}
		if online, err := f.hubs[0].Exists(brief(), hubkit.ToUsers("u")); !online || err != nil {
			f.t.Errorf("who is certainly online: %v, %v", online, err)
		}
		online, err := f.hubs[0].Exists(brief(), hubkit.ToUsers("v"))
		partial, ok := errors.AsType[*hubkit.PartialError](err)
		if online || !ok || !errors.Is(err, hubkit.ErrPartial) {
			f.t.Fatalf("who may be online: %v, %v", online, err)
		}
		missing("the user", partial.Coverage, backplane.ErrTimeout)
		_, err = f.hubs[0].Exists(brief(), hubkit.ToConnections(dead.ID()))
		f.failedAs("a connection there", err, backplane.ErrTimeout)
		_, err = f.hubs[0].Exists(f.t.Context(), hubkit.ToConnections(dead.ID()))
		f.failedAs("a connection there, waited for", err, backplane.ErrNodeLost)

		count, err = f.hubs[0].Count(f.t.Context(), hubkit.ToGroups("4B"))
		if err != nil || count.Connections != 1 || count.Partial() {
			f.t.Errorf("after its death: %+v, %v", count, err)
		}
		if online, err := f.hubs[0].Exists(f.t.Context(), hubkit.ToUsers("v")); online || err != nil {
			f.t.Errorf("after its death: %v, %v", online, err)
		}
		f.broker.Heal(lost)
		settleFor(f.t, 2*settling)

		late := f.another()
		count, err = late.hub.Count(f.t.Context(), hubkit.ToAll())
		if err != nil || count.Connections != 2 || !count.Settling {
			f.t.Errorf("who has just come: %+v, %v", count, err)
		}
		if page, err = late.hub.List(f.t.Context(), hubkit.ToAll(), hubkit.ListOptions{}); err != nil || len(page.Connections) != 2 || !page.Settling {
			f.t.Errorf("who has just come: %+v, %v", page, err)
		}
		if ok, err := late.hub.Exists(f.t.Context(), hubkit.ToConnections(dead.ID())); !ok || err != nil {
			f.t.Errorf("who has just come asks the home: %v, %v", ok, err)
		}
		if _, err := late.hub.Exists(f.t.Context(), hubkit.ToGroups("nobody")); !errors.Is(err, hubkit.ErrPartial) {
			f.t.Errorf("who has just come is certain: %v", err)
		}
		late.close(f)
		settle()
		if ok, err := f.hubs[0].Exists(f.t.Context(), hubkit.ToConnections(strings.Replace(dead.ID(), string(lost), string(late.node.ID()), 1))); ok || err != nil {
			f.t.Errorf("a connection of a node that left: %v, %v", ok, err)
		}
		f.broker.Cut(f.nodes[0].ID())
		settleFor(f.t, settling)
		_, err = f.hubs[0].Count(f.t.Context(), hubkit.ToAll())
		f.failedAs("a count without a link", err, backplane.ErrUnavailable)
		f.broker.Heal(f.nodes[0].ID())
		settle()
	})
}

// everything reads a listing to its end.
func (f *farm) everything(h *hubkit.Hub, of hubkit.Target, limit int) (all []hubkit.ConnectionInfo, pages int) {
	f.t.Helper()
	token := ""
	for {
		p, err := h.List(f.t.Context(), of, hubkit.ListOptions{Limit: limit, Token: token})
		if err != nil || p.Partial() || len(p.Connections) > limit && limit > 0 {
			f.t.Fatalf("page %d: %d connections, %+v, %v", pages, len(p.Connections), p.Coverage, err)
		}
		if pages++; pages > 1000 {
			f.t.Fatal("the listing has no end")
		}
		all = append(all, p.Connections...)
		if token = p.Next; token == "" {
			return all, pages
		}
		if len(token) > 200 || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			f.t.Errorf("the token %q", token)
		}
	}
}

func TestListPagesAreAPartition(t *testing.T) {
	onSettled(t, func(f *farm) {
		var want []string
		for i := range 30 {
			o := hubkit.ConnectOptions{
				User: "u" + strconv.Itoa(i%4), Label: "bed " + strconv.Itoa(i), Metadata: map[string]string{"k": strconv.Itoa(i), "l": ""},
			}
			want = append(want, f.connect(i*i%instances, o, "4B").ID())
		}
		f.member(0) // not in the group
		slices.Sort(want)
		for _, of := range []hubkit.Target{
			hubkit.ToGroups("4B"),
			{Groups: []string{"4B", "none"}, Users: []string{"u1"}, Connections: want[:3]},
			hubkit.ToConnections(want...),
			hubkit.ToUsers("u3", "u2", "u1", "u0"),
		} {
			for _, limit := range []int{0, 1, 7, 10, 29, 30, 31, hubkit.MaxPage} {
				var ids []string
				all, pages := f.everything(f.hubs[limit%instances], of, limit)
				for _, c := range all {
					ids = append(ids, c.ID)
				}
				if !slices.Equal(ids, want) {
					f.t.Errorf("limit %d: %d are listed, want %d", limit, len(ids), len(want))
				}
				if limit > 30 && pages > 1 {
					f.t.Errorf("limit %d: %d pages", limit, pages)
				}
				for _, c := range all {
					i, err := strconv.Atoi(c.Metadata["k"])
					home := f.nodes[i*i%instances]
					if err != nil || c.User != "u"+strconv.Itoa(i%4) || c.Label != "bed "+strconv.Itoa(i) || len(c.Metadata) != 2 ||
						c.Node != home.ID() || c.Instance != home.Members()[0].Label || time.Since(c.Since) > time.Hour || c.Since.After(time.Now()) {
						f.t.Errorf("%+v", c)
					}
				}
			}
		}
	})
}

// Who comes and goes while pages are read does not move the others.
func TestListIsStable(t *testing.T) {
	onSettled(t, func(f *farm) {
		stay := map[string]bool{}
		var go1 []*client
		for i := range 20 {
			stay[f.member(i%instances, "4B").ID()] = true
			go1 = append(go1, f.member(i%instances, "4B"))
		}
		seen := map[string]int{}
		token := ""
		for i := 0; ; i++ {
			p, err := f.hubs[i%instances].List(f.t.Context(), hubkit.ToGroups("4B"), hubkit.ListOptions{Limit: 3, Token: token})
			if err != nil {
				f.t.Fatal(err)
			}
			for _, c := range p.Connections {
				seen[c.ID]++
			}
			if token = p.Next; token == "" {
				break
			}
			if i < len(go1) {
				go1[i].Disconnect(hubkit.Reason{})
				f.member(i%instances, "4B")
			}
		}
		for id := range stay {
			if seen[id] != 1 {
				f.t.Errorf("a connection that stayed was listed %d times", seen[id])
			}
		}
		for _, n := range seen {
			if n > 1 {
				f.t.Errorf("a connection was listed %d times", n)
			}
		}
	})
}

// Pages are bounded in bytes: of an instance's answers, also where its MaxPayload is small.
func TestListIsBoundedInBytes(t *testing.T) {
	onSettled(t, func(f *farm) {
		n, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{MaxPayload: 10_000})
		if err != nil {
			f.t.Fatal(err)
		}
		h, err := hubkit.New(n, hubkit.Options{Name: "ward"})
		if err != nil {
			f.t.Fatal(err)
		}
		for range 80 {
			o := hubkit.ConnectOptions{User: strings.Repeat("u", 1000), Metadata: map[string]string{"k": strings.Repeat("v", 4000)}}
			if _, err := h.Connect(f.t.Context(), conntest.New(), o); err != nil {
				f.t.Fatal(err)
			}
			f.connect(1, o)
		}
		settle()
		settleFor(f.t, settling)
		all, pages := f.everything(f.hubs[0], hubkit.ToAll(), hubkit.MaxPage)
		if len(all) != 160 || pages < 40 {
			f.t.Errorf("%d connections on %d pages", len(all), pages)
		}
		extra{n, h}.close(f)
	})
}

func TestListRefusesBadTokens(t *testing.T) {
	onSettled(t, func(f *farm) {
		for i := range 6 {
			f.user(i%instances, "u", "4B", "g")
		}
		ctx := f.t.Context()
		h := f.hubs[0]
		p, err := h.List(ctx, hubkit.ToGroups("4B", "g"), hubkit.ListOptions{Limit: 2})
		if err != nil || p.Next == "" {
			f.t.Fatalf("%+v, %v", p, err)
		}
		if _, err := f.hubs[1].List(ctx, hubkit.ToGroups("g", "4B", "g"), hubkit.ListOptions{Limit: 1, Token: p.Next}); err != nil {
			f.t.Errorf("the same target in another order, on another instance: %v", err)
		}
		other, err := hubkit.New(f.nodes[0], hubkit.Options{Name: "kitchen"})
		if err != nil {
			f.t.Fatal(err)
		}
		if _, err := other.List(ctx, hubkit.ToGroups("4B", "g"), hubkit.ListOptions{Token: p.Next}); !errors.Is(err, hubkit.ErrInvalidToken) {
			f.t.Errorf("another hub: %v", err)
		}
		if err := other.Close(ctx); err != nil {
			f.t.Error(err)
		}
		for _, of := range []hubkit.Target{
			hubkit.ToGroups("4B"), hubkit.ToAll(), hubkit.ToUsers("4B", "g"), hubkit.ToGroups("4B", "g", "h"), hubkit.ToGroups("4B g"), {},
			{Groups: []string{"4B", "g"}, Except: []string{p.Connections[0].ID}},
		} {
			_, err := h.List(ctx, of, hubkit.ListOptions{Token: p.Next})
			if !errors.Is(err, hubkit.ErrInvalidToken) {
				f.t.Errorf("another target %v: %v", of, err)
			}
		}
		raw, err := base64.RawURLEncoding.DecodeString(p.Next)
		if err != nil {
			f.t.Fatal(err)
		}
		newer := append([]byte{2}, raw[1:]...)
		for _, token := range []string{
			"?", "AA", p.Next[:len(p.Next)-2], p.Next + "AAAA", strings.Repeat("A", 201), base64.RawURLEncoding.EncodeToString(newer),
			base64.RawURLEncoding.EncodeToString(raw[:9]), base64.RawURLEncoding.EncodeToString(append(raw[:9:9], "nobody"...)),
		} {
			if _, err := h.List(ctx, hubkit.ToGroups("4B", "g"), hubkit.ListOptions{Token: token}); !errors.Is(err, hubkit.ErrInvalidToken) {
				f.t.Errorf("the token %q: %v", token, err)
			}
		}
		for _, limit := range []int{-1, hubkit.MaxPage + 1} {
			if _, err := h.List(ctx, hubkit.ToAll(), hubkit.ListOptions{Limit: limit}); !errors.Is(err, backplane.ErrInvalidOption) {
				f.t.Errorf("limit %d: %v", limit, err)
			}
		}
		asked := f.nodes[0].Stats().QuestionsAsked
		for _, of := range []hubkit.Target{hubkit.ToConnections("x"), hubkit.ToGroups(""), hubkit.ToUsers("\xff")} {
			_, err1 := h.List(ctx, of, hubkit.ListOptions{})
			_, err2 := h.Count(ctx, of)
			_, err3 := h.Exists(ctx, of)
			for _, err := range []error{err1, err2, err3} {
				if !errors.Is(err, hubkit.ErrInvalidTarget) && !errors.Is(err, backplane.ErrInvalidAddress) {
					f.t.Errorf("%v: %v", of, err)
				}
			}
		}
		if n := f.nodes[0].Stats().QuestionsAsked; n != asked {
			f.t.Errorf("%d questions were asked about what nobody can be", n-asked)
		}
	})
}

// What another instance answers is not trusted.
func TestQueriesAgainstOddAnswers(t *testing.T) {
	onSettled(t, func(f *farm) {
		odd, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		var answer []byte
		odd.Answer("hub/ward", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return answer, nil })
		settle()
		id := func(node backplane.NodeID, c string) string { return string(node) + "-" + strings.Repeat(c, 16) }
		entry := func(id string) string { return fmt.Sprintf("%c%s\x00\x00\x00\x00", len(id), id) }
		mine := odd.ID()
		for _, a := range []string{
			"", "\x01", "\x02\x00\x00", "\x01\x07", "\x01\x01",
			"\x01\x00", "\x01\x00\x01", "\x01\x00\x00\xff",
			"\x01\x00\x00" + entry(id(f.nodes[0].ID(), "a")),                                                  // another's
			"\x01\x00\x00" + entry(id(mine, "b")) + entry(id(mine, "a")),                                      // not in order
			"\x01\x00\x00" + entry(id(mine, "a")) + entry(id(mine, "a")),                                      // twice
			"\x01\x00\x00" + entry(id(mine, "a"))[:30],                                                        // ends early
			"\x01\x00\x00" + strings.Replace(entry(id(mine, "a")), "\x00\x00\x00\x00", "\x00\x00\x00\x7f", 1), // metadata that is not there
		} {
			answer = []byte(a)
			p, err := f.hubs[0].List(f.t.Context(), hubkit.ToAll(), hubkit.ListOptions{})
			if err != nil || len(p.Missing) != 1 || p.Missing[0].Node != mine || len(p.Connections) != 0 {
				f.t.Errorf("an answer %q: %+v, %v", a, p, err)
			}
		}
		answer = []byte("\x01\x00\x00" + entry(id(mine, "a")) + entry(id(mine, "b")))
		if p, err := f.hubs[0].List(f.t.Context(), hubkit.ToAll(), hubkit.ListOptions{}); err != nil || len(p.Connections) != 2 || p.Partial() {
			f.t.Errorf("%+v, %v", p, err)
		}
		if p, err := f.hubs[0].List(f.t.Context(), hubkit.ToAll(), hubkit.ListOptions{Limit: 1}); err != nil || len(p.Missing) != 1 { // more than asked for
			f.t.Errorf("%+v, %v", p, err)
		}
		for _, a := range []string{"\x01\x00", "\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f"} {
			answer = []byte(a)
			if c, err := f.hubs[0].Count(f.t.Context(), hubkit.ToAll()); err != nil || len(c.Missing) != 1 || c.Connections != 0 {
				f.t.Errorf("an answer %q: %+v, %v", a, c, err)
			}
		}
		if err := odd.Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
	})
}

// Over the bare three verbs connections of this instance can be asked for, and nothing else.
func TestQueriesWithoutCluster(t *testing.T) {
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		here, there := f.member(0, "g"), f.member(1)
		ctx := f.t.Context()
		of := hubkit.ToConnections(here.ID())
		if c, err := f.hubs[0].Count(ctx, of); err != nil || c.Connections != 1 {
			f.t.Errorf("%+v, %v", c, err)
		}
		if p, err := f.hubs[0].List(ctx, of, hubkit.ListOptions{}); err != nil || len(p.Connections) != 1 || p.Connections[0].ID != here.ID() {
			f.t.Errorf("%+v, %v", p, err)
		}
		for _, of := range []hubkit.Target{hubkit.ToAll(), hubkit.ToGroups("g"), hubkit.ToConnections(there.ID())} {
			_, err := f.hubs[0].Count(ctx, of)
			f.failedAs("count", err, backplane.ErrUnsupported)
			_, err = f.hubs[0].Exists(ctx, of)
			f.failedAs("exists", err, backplane.ErrUnsupported)
			_, err = f.hubs[0].List(ctx, of, hubkit.ListOptions{})
			f.failedAs("list", err, backplane.ErrUnsupported)
		}
		if err := f.hubs[0].Close(ctx); err != nil {
			f.t.Error(err)
		}
		_, err := f.hubs[0].Count(ctx, of)
		f.failedAs("count on a closed hub", err, backplane.ErrClosed)
		_, err = f.hubs[0].Exists(ctx, of)
		f.failedAs("exists on a closed hub", err, backplane.ErrClosed)
		_, err = f.hubs[0].List(ctx, of, hubkit.ListOptions{})
		f.failedAs("list on a closed hub", err, backplane.ErrClosed)
	})
}

// An instance that stays silent does not take their time from those that are asked after it.
func TestListGoesOnBehindASilentInstance(t *testing.T) {
	onSettled(t, func(f *farm) {
		order := []int{0, 1, 2} // by node, as a list goes
		slices.SortFunc(order, func(a, b int) int { return strings.Compare(string(f.nodes[a].ID()), string(f.nodes[b].ID())) })
		for _, i := range order {
			f.member(i, "4B")
		}
		silent := f.nodes[order[0]].ID()
		f.broker.Hang(silent)
		defer f.broker.Heal(silent)
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
		defer cancel()
		p, err := f.hubs[order[2]].List(ctx, hubkit.ToGroups("4B"), hubkit.ListOptions{})
		if err != nil || len(p.Connections) != 2 || len(p.Missing) != 1 || p.Missing[0].Node != silent || !errors.Is(p.Missing[0].Err, backplane.ErrTimeout) {
			f.t.Errorf("%+v, %v", p, err)
		}
	})
}

// An instance that leaves while it is asked has nothing any more, and is not missed.
func TestInstanceThatLeavesIsNotMissed(t *testing.T) {
	onSettled(t, func(f *farm) {
		f.member(1, "4B")
		leaving, err := backplane.Open(f.t.Context(), f.broker.Opener(), backplane.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		asked := make(chan struct{}, 2)
		leaving.AnswerDeferred("hub/ward", func(context.Context, backplane.NodeID, []byte, func([]byte, error)) { asked <- struct{}{} })
		settle()
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := f.hubs[0].Count(f.t.Context(), hubkit.ToAll())
			if err != nil || c.Connections != 1 || c.Partial() {
				f.t.Errorf("%+v, %v", c, err)
			}
			f.changed("join", 1)(f.hubs[0].Join(f.t.Context(), hubkit.ToAll(), "g"))
		}()
		<-asked
		if err := leaving.Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		<-done
	})
}
