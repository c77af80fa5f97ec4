package integration_test

import (
	"context"
	"errors"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/dial"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/integration/redisserver"
)

// echoing is a client that answers what it is asked.
type echoing struct {
	*conntest.Conn

	c *hubkit.Connection
}

func (e *echoing) Invoke(_ context.Context, id string, request []byte) error {
	return e.c.Reply(id, request, nil)
}

// What one instance does and asks, it does and asks at the others over a real broker as well: operations, queries and
// invocations.
func TestHubOperationsOverRedis(t *testing.T) {
	redis := redisserver.Start(t, redisserver.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), wardboardPatience)
	defer cancel()
	var nodes []*backplane.Node
	var hubs []*hubkit.Hub
	var clients []*echoing
	for range 3 {
		node, err := dial.URL(ctx, redis.URL()+"?heartbeat=250ms&memberTimeout=2s", backplane.Options{Namespace: "ward"})
		if err != nil {
			t.Fatal(err)
		}
		hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
		if err != nil {
			t.Fatal(err)
		}
		client := &echoing{Conn: conntest.New()}
		if client.c, err = hub.Connect(ctx, client, hubkit.ConnectOptions{User: "nurse"}); err != nil {
			t.Fatal(err)
		}
		nodes, hubs, clients = append(nodes, node), append(hubs, hub), append(clients, client)
	}
	for _, n := range nodes {
		if err := n.Settled(ctx); err != nil {
			t.Fatal(err)
		}
	}
	changed := func(what string, want int) func(int, error) {
		return func(n int, err error) {
			t.Helper()
			if n != want || err != nil {
				t.Errorf("%s: changed %d, want %d; %v", what, n, want, err)
			}
		}
	}
	one := hubkit.ToConnections(clients[1].c.ID())
	changed("join a user but one", 2)(hubs[0].Join(ctx, hubkit.Target{Users: []string{"nurse"}, Except: one.Connections}, "4B"))
	changed("join one", 1)(hubs[2].Join(ctx, one, "4B"))
	if err := hubs[1].Send(ctx, hubkit.ToGroups("4B"), []byte("bell")); err != nil { // at once: the joins are effective
		t.Error(err)
	}
	for _, c := range clients {
		if err := c.WaitPayload(ctx, "bell"); err != nil {
			t.Error(err)
		}
	}
	changed("leave", 1)(hubs[0].Leave(ctx, one, "4B"))
	if c, err := hubs[1].Count(ctx, hubkit.ToGroups("4B")); err != nil || c.Connections != 2 || c.Partial() {
		t.Errorf("count %+v, %v", c, err)
	}
	var listed int
	for o := (hubkit.ListOptions{Limit: 1}); ; {
		p, err := hubs[1].List(ctx, hubkit.ToAll(), o)
		if err != nil || p.Partial() {
			t.Fatalf("list %+v, %v", p, err)
		}
		listed += len(p.Connections)
		if o.Token = p.Next; o.Token == "" {
			break
		}
	}
	if listed != len(clients) {
		t.Errorf("%d connections are listed", listed)
	}
	for _, h := range hubs {
		if got, err := h.Invoke(ctx, clients[1].c.ID(), []byte("?")); err != nil || string(got) != "?" {
			t.Errorf("invoke: %q, %v", got, err)
		}
	}
	changed("disconnect", 1)(hubs[0].Disconnect(ctx, one, hubkit.Reason{Code: hubkit.ReasonRefused}))
	if _, err := hubs[2].Invoke(ctx, clients[1].c.ID(), nil); !errors.Is(err, hubkit.ErrNotFound) {
		t.Errorf("invoke who is gone: %v", err)
	}
	changed("leave all", 2)(hubs[1].LeaveAll(ctx, hubkit.ToAll()))
	for i, h := range hubs {
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := nodes[i].Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
