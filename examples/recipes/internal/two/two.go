// Package two gives the tests of the recipes two instances of a hub server.
package two

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// Instances are two instances of a hub server; clients connect to the near one.
type Instances struct {
	Near, Far *hubkit.Hub
	URL       string // of the near one's handler, with a ward and a user in the query
	t         *testing.T
	broker    *inmem.Broker
	node      *backplane.Node
}

// New starts two instances; the near one serves what handler makes. They are stopped when the test ends.
func New(t *testing.T, handler func(*hubkit.Hub, func(ward string) []byte) http.Handler) *Instances {
	t.Helper()
	in := &Instances{t: t, broker: inmem.NewBroker()}
	in.Far, _ = in.open()
	in.Near, in.node = in.open()
	server := httptest.NewServer(handler(in.Near, func(ward string) []byte { return []byte(`"ward ` + ward + `"`) }))
	t.Cleanup(func() {
		in.stop(in.Near.Close)
		server.Close()
	})
	in.URL = server.URL + "?ward=4B&user=nurse-17"
	return in
}

func (in *Instances) open() (*hubkit.Hub, *backplane.Node) {
	in.t.Helper()
	node, err := backplane.Open(in.t.Context(), in.broker.Opener(), backplane.Options{})
	if err != nil {
		in.t.Fatal(err)
	}
	hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() {
		in.stop(hub.Close)
		in.stop(node.Close)
	})
	return hub, node
}

func (in *Instances) stop(stop func(context.Context) error) {
	if err := stop(context.Background()); err != nil {
		in.t.Error(err)
	}
}

// Send sends from the far instance to the ward.
func (in *Instances) Send(payload string) {
	in.t.Helper()
	if err := in.Far.Send(in.t.Context(), hubkit.ToGroups("4B"), []byte(payload)); err != nil {
		in.t.Fatal(err)
	}
}

// Outage breaks the near instance's connection to the broker, so that its clients have to be told.
func (in *Instances) Outage() { in.broker.Kick(in.node.ID()) }

// Flood sends until the near instance gives its client up because it does not read, and checks that the connection then
// ends long before a write would time out.
func (in *Instances) Flood() {
	in.t.Helper()
	for in.Near.Stats().ConnectionsTotal == 0 || in.Near.Stats().Groups == 0 && in.Near.Stats().SlowDisconnects == 0 {
		runtime.Gosched() // the client is about to join
	}
	payload := `"` + strings.Repeat("x", 1<<19) + `"`
	for in.Near.Stats().SlowDisconnects == 0 {
		in.Send(payload)
	}
	ctx, cancel := context.WithTimeout(in.t.Context(), 5*time.Second)
	defer cancel()
	if err := in.Near.Close(ctx); err != nil {
		in.t.Errorf("the stuck connection does not end: %v", err)
	}
}
