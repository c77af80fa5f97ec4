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

// Instances are two instances of a hub server; clients connect to the near one, and come back on the far one.
type Instances struct {
	Near, Far *hubkit.Hub
	URL       string // of the near one's handler, with a ward and a user in the query
	FarURL    string // of the far one's
	t         *testing.T
	broker    *inmem.Broker
	node      *backplane.Node
	resume    hubkit.ResumeOptions
}

// New starts two instances, which serve what handler makes. They are stopped when the test ends.
func New(t *testing.T, handler func(*hubkit.Hub, func(ward string) []byte) http.Handler) *Instances {
	t.Helper()
	return start(t, handler, hubkit.ResumeOptions{})
}

// Resuming is New, where clients are given tokens to come back with.
func Resuming(t *testing.T, handler func(*hubkit.Hub, func(ward string) []byte) http.Handler) *Instances {
	t.Helper()
	return start(t, handler, hubkit.ResumeOptions{Keys: []hubkit.ResumeKey{{ID: "test", Secret: []byte("32 random bytes of a secret store")}}})
}

func start(t *testing.T, handler func(*hubkit.Hub, func(ward string) []byte) http.Handler, resume hubkit.ResumeOptions) *Instances {
	t.Helper()
	in := &Instances{t: t, broker: inmem.NewBroker(), resume: resume}
	in.Far, _ = in.open()
	in.Near, in.node = in.open()
	serve := func(hub *hubkit.Hub) (url string) {
		server := httptest.NewServer(handler(hub, func(ward string) []byte { return []byte(`"ward ` + ward + `"`) }))
		t.Cleanup(func() {
			in.stop(hub.Close)
			server.Close()
		})
		return server.URL + "?ward=4B&user=nurse-17"
	}
	in.URL, in.FarURL = serve(in.Near), serve(in.Far)
	return in
}

func (in *Instances) open() (*hubkit.Hub, *backplane.Node) {
	in.t.Helper()
	node, err := backplane.Open(in.t.Context(), in.broker.Opener(), backplane.Options{})
	if err != nil {
		in.t.Fatal(err)
	}
	hub, err := hubkit.New(node, hubkit.Options{Name: "ward", Resume: in.resume})
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

// CheckResumes ends the test unless the far instance accepted and refused that many tokens.
func (in *Instances) CheckResumes(accepted, refused uint64) {
	in.t.Helper()
	if got := in.Far.Stats(); got.Resumed != accepted || got.ResumesRefused != refused {
		in.t.Fatalf("%d tokens were accepted and %d refused, want %d and %d", got.Resumed, got.ResumesRefused, accepted, refused)
	}
}

// CheckDraining checks that an instance which drains answers 503, upon which a balancer asks another one.
func CheckDraining(t *testing.T, handler func(*hubkit.Hub, func(ward string) []byte) http.Handler) {
	t.Helper()
	in := New(t, handler)
	if _, err := in.Near.Drain(t.Context(), hubkit.DrainOptions{}); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, in.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	if answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%s, want 503", answer.Status)
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
