package hubkit_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// whoIsThere lists the users with a connection in a group, on all instances. whole is false where somebody may be missing: an
// instance that did not answer, or one that this instance does not know yet.
func whoIsThere(ctx context.Context, hub *hubkit.Hub, group string) (users []string, whole bool, err error) {
	found := make(map[string]bool)
	whole = true
	for token := ""; ; {
		page, err := hub.List(ctx, hubkit.ToGroups(group), hubkit.ListOptions{Limit: hubkit.MaxPage, Token: token})
		if err != nil {
			return nil, false, err
		}
		whole = whole && !page.Partial()
		for _, c := range page.Connections {
			found[c.User] = true
		}
		if token = page.Next; token == "" {
			return slices.Sorted(maps.Keys(found)), whole, nil
		}
	}
}

// Who is there, on all instances; and a user who is in a group whenever and wherever connected.
func Example_presence() {
	ctx := context.Background()
	broker := inmem.NewBroker().Opener()
	var hubs []*hubkit.Hub
	var nodes []*backplane.Node
	for range 2 {
		node, err := backplane.Open(ctx, broker, backplane.Options{
			Heartbeat: 20 * time.Millisecond, MemberTimeout: 100 * time.Millisecond, // or the example would take eight seconds
		})
		check(err)
		hub, err := hubkit.New(node, hubkit.Options{Name: "ward", UserGroups: true})
		check(err)
		nodes, hubs = append(nodes, node), append(hubs, hub)
	}
	for _, n := range nodes {
		check(n.Settled(ctx))
	}

	_, err := hubs[0].JoinUser(ctx, "nurse-17", "4B", 12*time.Hour) // for a shift, though nobody is connected yet
	check(err)
	for i, user := range []string{"nurse-17", "nurse-17", "doctor-2"} {
		c, err := hubs[i%2].Connect(ctx, conntest.New(), hubkit.ConnectOptions{User: user})
		check(err)
		if user == "doctor-2" {
			check(c.Join(ctx, "4B")) // this connection alone
		}
	}
	users, whole, err := whoIsThere(ctx, hubs[1], "4B")
	fmt.Println(users, whole, err)
	online, err := hubs[1].Exists(ctx, hubkit.ToUsers("nurse-18"))
	fmt.Println("nurse-18 is online:", online, err)

	for i := range hubs {
		check(hubs[i].Close(ctx))
		check(nodes[i].Close(ctx))
	}
	// Output:
	// [doctor-2 nurse-17] true <nil>
	// nurse-18 is online: false <nil>
}
