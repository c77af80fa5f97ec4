package inmem_test

import (
	"context"
	"fmt"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// A test of a program that uses a backplane cuts a node off, and sees its program told that messages may be missing.
func ExampleBroker_Cut() {
	ctx := context.Background()
	broker := inmem.NewBroker()
	a, err := backplane.Open(ctx, broker.Opener(), backplane.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = a.Close(ctx) }()
	b, err := backplane.Open(ctx, broker.Opener(), backplane.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = b.Close(ctx) }()

	ward := backplane.Group("ward:4B")
	events := make(chan backplane.Event, 10)
	if _, err = b.Subscribe(ctx, ward, func(_ context.Context, e backplane.Event) { events <- e }); err != nil {
		fmt.Println(err)
		return
	}
	next := func() {
		switch e := (<-events).(type) {
		case *backplane.Message:
			fmt.Printf("message %q\n", e.Payload)
		case *backplane.Gap:
			fmt.Printf("gap, cause: %v\n", e.Cause)
		}
	}

	_ = a.Publish(ctx, ward, []byte("bed 7 is free"))
	next()
	broker.Cut(b.ID())
	_ = a.Publish(ctx, ward, []byte("bed 7 is taken"))
	broker.Heal(b.ID())
	next()

	// Output:
	// message "bed 7 is free"
	// gap, cause: link
}
