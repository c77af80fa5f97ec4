package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// alert sends what must not be lost, until the broker has surely taken it. It may be sent twice: the id lets a client show it
// once.
func alert(ctx context.Context, hub *hubkit.Hub, to hubkit.Target, id, text string) error {
	const first, longest = 20 * time.Millisecond, 2 * time.Second
	for pause := first; ; pause = min(2*pause, longest) {
		err := hub.Send(ctx, to, []byte(id+" "+text))
		if !errors.Is(err, backplane.ErrUncertain) && !errors.Is(err, backplane.ErrUnavailable) {
			return err // nil, or what trying again does not help
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// pager is a client that shows each alert once.
type pager struct {
	seen  map[string]bool // a real one forgets the oldest
	heard chan string
}

func (p *pager) Write(_ context.Context, batch []hubkit.Delivery) error {
	for _, d := range batch {
		id, text, _ := strings.Cut(string(d.Payload), " ")
		if p.seen[id] {
			p.heard <- "again, not shown: " + id
			continue
		}
		p.seen[id] = true
		p.heard <- text
	}
	return nil
}

func (p *pager) Close(hubkit.Reason) error { return nil }

// doubtful is a backplane whose first answer is lost: what was sent has arrived, and nobody knows.
type doubtful struct {
	backplane.Backplane

	lost bool
}

func (d *doubtful) Publish(ctx context.Context, to backplane.Address, payload []byte) error {
	err := d.Backplane.Publish(ctx, to, payload)
	if err == nil && !d.lost {
		d.lost = true
		return fmt.Errorf("%w: the connection broke before the broker answered", backplane.ErrUncertain)
	}
	return err
}

// Resend after ErrUncertain, with an id of one's own.
func Example_resend() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := backplane.Open(ctx, inmem.NewBroker().Opener(), backplane.Options{})
	check(err)
	hub, err := hubkit.New(&doubtful{Backplane: node}, hubkit.Options{Name: "ward"})
	check(err)
	client := &pager{seen: map[string]bool{}, heard: make(chan string)}
	c, err := hub.Connect(ctx, client, hubkit.ConnectOptions{})
	check(err)
	check(c.Join(ctx, "4B"))

	go func() { check(alert(ctx, hub, hubkit.ToGroups("4B"), "a-17", "bed 3: bell")) }()
	fmt.Println(<-client.heard)
	fmt.Println(<-client.heard)

	check(hub.Close(ctx))
	check(node.Close(ctx))
	// Output:
	// bed 3: bell
	// again, not shown: a-17
}
