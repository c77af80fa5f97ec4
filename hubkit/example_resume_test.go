package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// browser is a client of the example: it keeps the newest token.
type browser struct {
	token string
	wrote chan string
}

// Write tells what the client gets. A real one would be JSON on a WebSocket, {"resume": "…"} for a token, say.
func (b *browser) Write(_ context.Context, batch []hubkit.Delivery) error {
	for _, d := range batch {
		switch {
		case d.Resume != "":
			b.token = d.Resume
			b.wrote <- "a token"
		case d.Lost():
			b.wrote <- "fetch your state anew"
		}
		if d.Payload != nil {
			b.wrote <- string(d.Payload)
		}
	}
	return nil
}

func (b *browser) Close(hubkit.Reason) error { return nil }

// welcome is what a server does with a socket, where the request may carry a token: a client whose token is not accepted is a new
// one.
func welcome(ctx context.Context, hub *hubkit.Hub, sock hubkit.Conn, user, token string) (*hubkit.Connection, error) {
	c, err := hub.Connect(ctx, sock, hubkit.ConnectOptions{User: user, Resume: token})
	if errors.Is(err, hubkit.ErrResume) {
		c, err = hub.Connect(ctx, sock, hubkit.ConnectOptions{User: user})
	}
	return c, err
}

// A nurse's browser loses its socket and comes back on another instance. It is in its wards before it hears anything.
func ExampleResumeOptions() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mayWatch := map[string]bool{"4B": true} // the application's own knowledge
	options := hubkit.Options{Name: "ward", Resume: hubkit.ResumeOptions{
		Keys: []hubkit.ResumeKey{{ID: "2026-11", Secret: []byte("32 random bytes of a secret store")}},
		Restore: func(_ context.Context, r hubkit.Resumption) (groups []string, err error) {
			for _, ward := range r.Groups {
				if mayWatch[ward] {
					groups = append(groups, ward)
				}
			}
			return groups, nil
		},
	}}
	broker := inmem.NewBroker() // Redis, in production
	var hubs []*hubkit.Hub
	for range 2 {
		node, err := backplane.Open(ctx, broker.Opener(), backplane.Options{})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = node.Close(ctx) }()
		hub, err := hubkit.New(node, options)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = hub.Close(ctx) }()
		hubs = append(hubs, hub)
	}

	nurse := &browser{wrote: make(chan string, 10)}
	c, err := welcome(ctx, hubs[0], nurse, "nurse-17", nurse.token)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err = errors.Join(c.Join(ctx, "4B"), c.Join(ctx, "5A")); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("first:", <-nurse.wrote)

	mayWatch["4B"], mayWatch["5A"] = true, false // while the socket hangs
	again := &browser{wrote: nurse.wrote}
	c, err = welcome(ctx, hubs[1], again, "nurse-17", nurse.token)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("then:", <-nurse.wrote)
	fmt.Println(c.Resumed(), c.Groups())
	if err = hubs[0].Send(ctx, hubkit.ToGroups("4B"), []byte("bed 3: bell")); err != nil {
		fmt.Println(err)
	}
	fmt.Println("then:", <-nurse.wrote)
	// Output:
	// first: a token
	// then: fetch your state anew
	// true [4B]
	// then: bed 3: bell
}
