package hubkit_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// printer is the shortest Conn there is. The recipes in examples/recipes show it for WebSockets and server-sent events.
type printer struct {
	name string
	done chan struct{}
}

func (p printer) Write(_ context.Context, batch []hubkit.Delivery) error {
	for _, d := range batch {
		if d.Lost() {
			fmt.Println(p.name, "has to fetch its state anew")
		}
		if d.Payload != nil {
			fmt.Println(p.name, "got", string(d.Payload))
			close(p.done)
		}
	}
	return nil
}

func (p printer) Close(hubkit.Reason) error { return nil }

// Two instances of a hub server: a nurse is connected to one, and the alert is sent on the other.
func Example() {
	ctx := context.Background()
	broker := inmem.NewBroker().Opener() // in production: redis.URL("redis://broker:6379")
	var hubs []*hubkit.Hub
	var nodes []*backplane.Node
	for range 2 {
		node, err := backplane.Open(ctx, broker, backplane.Options{})
		check(err)
		hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
		check(err)
		nodes, hubs = append(nodes, node), append(hubs, hub)
	}

	nurse := printer{name: "nurse 17", done: make(chan struct{})}
	c, err := hubs[0].Connect(ctx, nurse, hubkit.ConnectOptions{User: "nurse-17"})
	check(err)
	check(c.Join(ctx, "ward:4B"))

	check(hubs[1].Send(ctx, hubkit.ToGroups("ward:4B"), []byte("bed 3: bell")))
	<-nurse.done

	for i := range hubs {
		check(hubs[i].Close(ctx))
		check(nodes[i].Close(ctx))
	}
	// Output: nurse 17 got bed 3: bell
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
