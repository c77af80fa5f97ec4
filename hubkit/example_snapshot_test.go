package hubkit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// update is what clients get: one bed that has changed, or with Snapshot all beds as they were at a version.
type update struct {
	Snapshot bool
	Version  int
	Beds     map[string]bed
}

// bed carries the version at which it changed: a number that the database counts up with every change of the ward.
type bed struct {
	Version int
	Text    string
}

// show lets a client watch a ward. The order of its three steps is all there is to it: what is sent after the join reaches the
// client, and what was stored before it is in what is read after it.
func show(ctx context.Context, c *hubkit.Connection, ward string, read func() update) error {
	if err := c.Join(ctx, ward); err != nil {
		return err
	}
	snapshot, err := json.Marshal(read())
	if err != nil {
		return err
	}
	return c.Send(snapshot)
}

// screen is a client. A snapshot and the changes around it come in any order, and a change may be in both.
type screen struct {
	floor int // what is older is in the snapshot
	beds  map[string]bed
}

func (s *screen) apply(u update) {
	if u.Version < s.floor || u.Version == s.floor && !u.Snapshot {
		return
	}
	if u.Snapshot {
		s.floor = u.Version
		maps.DeleteFunc(s.beds, func(_ string, b bed) bool { return b.Version <= u.Version })
	}
	for name, b := range u.Beds {
		if b.Version > s.beds[name].Version {
			s.beds[name] = b
		}
	}
}

// tablet is the client's socket: it shows what it gets.
type tablet struct {
	screen

	mu     sync.Mutex // guards the screen
	gotten chan struct{}
}

func (t *tablet) Write(_ context.Context, batch []hubkit.Delivery) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range batch {
		var u update
		if err := json.Unmarshal(d.Payload, &u); err != nil {
			return err
		}
		t.apply(u)
		t.gotten <- struct{}{}
	}
	return nil
}

func (t *tablet) Close(hubkit.Reason) error { return nil }

// Join, send a snapshot, go live: a change is sent on another instance in the very moment in which a client begins to watch. A
// message to a connection of this instance does not wait for those of its groups, which come through the broker, so the client
// may get the change before the snapshot. Versions make the order irrelevant.
func Example_snapshot() {
	ctx := context.Background()
	broker := inmem.NewBroker().Opener()
	here, err := backplane.Open(ctx, broker, backplane.Options{})
	check(err)
	there, err := backplane.Open(ctx, broker, backplane.Options{})
	check(err)
	hub, err := hubkit.New(here, hubkit.Options{Name: "ward"})
	check(err)
	other, err := hubkit.New(there, hubkit.Options{Name: "ward"})
	check(err)

	beds := map[string]bed{"bed 1": {1, "free"}, "bed 2": {2, "asleep"}}
	change := func() { // while the snapshot is being read
		one, err := json.Marshal(update{Version: 3, Beds: map[string]bed{"bed 2": {3, "bell"}}})
		check(err)
		check(other.Send(ctx, hubkit.ToGroups("4B"), one))
	}
	client := &tablet{screen: screen{beds: map[string]bed{}}, gotten: make(chan struct{}, 2)}
	c, err := hub.Connect(ctx, client, hubkit.ConnectOptions{})
	check(err)
	check(show(ctx, c, "4B", func() update {
		change()
		<-client.gotten // it has the change already
		return update{Snapshot: true, Version: 2, Beds: beds}
	}))
	<-client.gotten
	client.mu.Lock()
	fmt.Println("bed 1:", client.beds["bed 1"].Text)
	fmt.Println("bed 2:", client.beds["bed 2"].Text)
	client.mu.Unlock()

	check(hub.Close(ctx))
	check(other.Close(ctx))
	check(here.Close(ctx))
	check(there.Close(ctx))
	// Output:
	// bed 1: free
	// bed 2: bell
}
