package backplane_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// Two instances of a server, and a message that crosses from one to the other. README.md shows this program.
func Example() {
	ctx := context.Background()
	broker := inmem.NewBroker().Opener() // in production: redis.URL("redis://broker:6379"), or nats.URL("nats://broker:4222")
	a, err := backplane.Open(ctx, broker, backplane.Options{})
	check(err)
	b, err := backplane.Open(ctx, broker, backplane.Options{})
	check(err)

	heard := make(chan string, 1)
	_, err = b.Subscribe(ctx, backplane.Group("ward:4B"), func(_ context.Context, e backplane.Event) {
		switch e := e.(type) {
		case *backplane.Message:
			heard <- string(e.Payload)
		case *backplane.Gap: // messages may be missing here: fetch the ward's state anew
			heard <- "gap: " + e.Cause.String()
		}
	})
	check(err)
	check(a.Publish(ctx, backplane.Group("ward:4B"), []byte("bed 3: bell")))
	fmt.Println("instance b heard:", <-heard)
	check(a.Close(ctx))
	check(b.Close(ctx))
	// Output: instance b heard: bed 3: bell
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
