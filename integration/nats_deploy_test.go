package integration_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/dial"
)

// The documented configuration is one of three servers: nodes that connect to any of them hear one another, and those of a
// server that is taken away as documented go to the others.
func TestDeployNATSCluster(t *testing.T) {
	servers, addresses := startDocumentedCluster(t)
	urls := "nats://ward:s3cret@" + strings.Join(addresses, ",") + "?namespace=ward"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	const nodes = 6
	type heard struct {
		by    int
		event backplane.Event
	}
	events := make(chan heard, 1000)
	var all []*backplane.Node
	for i := range nodes {
		n, err := dial.URL(ctx, urls, backplane.Options{Label: fmt.Sprint("n", i), RequireBroker: true})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
		if _, err = n.Subscribe(ctx, backplane.Group("4B"), func(_ context.Context, e backplane.Event) { events <- heard{i, e} }); err != nil {
			t.Fatal(err)
		}
	}
	// roundTrip publishes on each node, and returns when every node has heard all of it, or was told of a gap.
	roundTrip := func(name string) (gaps []*backplane.Gap) {
		t.Helper()
		for i, n := range all {
			if err := n.Publish(ctx, backplane.Group("4B"), fmt.Append(nil, name, i)); err != nil {
				t.Fatalf("%s: publish on node %d: %v", name, i, err)
			}
		}
		missing := map[int]map[string]bool{}
		for by := range nodes {
			missing[by] = map[string]bool{}
			for from := range nodes {
				missing[by][fmt.Sprint(name, from)] = true
			}
		}
		for len(missing) > 0 {
			select {
			case h := <-events:
				switch e := h.event.(type) {
				case *backplane.Message:
					if delete(missing[h.by], string(e.Payload)); len(missing[h.by]) == 0 {
						delete(missing, h.by)
					}
				case *backplane.Gap:
					gaps = append(gaps, e)
					delete(missing, h.by)
				}
			case <-ctx.Done():
				t.Fatalf("%s: of %d messages of %d nodes these never came: %v", name, nodes, nodes, missing)
			}
		}
		return gaps
	}
	for _, g := range roundTrip("before ") {
		t.Errorf("a gap (%v, %v), and nothing had happened", g.Cause, g.Err)
	}

	leaving := 0 // the server with the most clients
	for i, s := range servers {
		if s.NumClients() > servers[leaving].NumClients() {
			leaving = i
		}
	}
	moving := servers[leaving].NumClients()
	go servers[leaving].LameDuckShutdown()
	for moved := map[int]bool{}; len(moved) < moving; {
		select {
		case h := <-events:
			if g, is := h.event.(*backplane.Gap); is {
				if moved[h.by] = true; g.Cause != backplane.GapLink {
					t.Errorf("node %d was told of %v, %v, want a gap of the link", h.by, g.Cause, g.Err)
				}
			}
		case <-ctx.Done():
			t.Fatalf("of %d nodes these were sent elsewhere: %v", moving, moved)
		}
	}
	servers[leaving].WaitForShutdown()
	for gaps, again := moving, 1; gaps > 0; again++ { // what is told as a gap now is heard the next time
		gaps = len(roundTrip(fmt.Sprint("after ", again, " ")))
	}
	for _, n := range all {
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

// startDocumentedCluster starts the three servers of the documentation in this process, and returns when they are connected
// to one another.
func startDocumentedCluster(t *testing.T) (servers []*server.Server, addresses []string) {
	t.Helper()
	t.Setenv("WARD_PASSWORD", "s3cret")
	t.Setenv("ROUTE_PASSWORD", "r0ute")
	const attempts = 5 // another process may take a port first
	for range attempts {
		const n = 3
		var routes []string
		servers, addresses = nil, nil
		for range n {
			addresses, routes = append(addresses, closedPort(t)), append(routes, closedPort(t))
		}
		for i := range n {
			var others []string
			for j, route := range routes {
				if j != i {
					others = append(others, fmt.Sprintf("%q", "nats://route:r0ute@"+route))
				}
			}
			t.Setenv("NATS_NAME", fmt.Sprint("nats-", i))
			t.Setenv("NATS_ROUTES", "["+strings.Join(others, ", ")+"]")
			if s := startDocumentedServer(t, addresses[i], routes[i]); s != nil {
				servers = append(servers, s)
			}
		}
		if len(servers) < n {
			continue
		}
		for _, from := range addresses {
			for _, to := range addresses {
				awaitRoute(t, from, to)
			}
		}
		return servers, addresses
	}
	t.Fatal("three NATS servers got no ports")
	return nil, nil
}

// startDocumentedServer starts a server by the documented file, of which only the addresses are replaced. It returns nil if it
// does not get them.
func startDocumentedServer(t *testing.T, address, route string) *server.Server {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "examples", "wardboard", "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(file)
	for documented, own := range map[string]string{"0.0.0.0:4222": address, "0.0.0.0:6222": route} {
		if strings.Count(text, documented) != 1 {
			t.Fatalf("nats.conf does not say %q once", documented)
		}
		text = strings.Replace(text, documented, own, 1)
	}
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs = true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	const patience = 5 * time.Second
	if !s.ReadyForConnections(patience) {
		return nil
	}
	return s
}

// awaitRoute returns when what one server takes reaches a subscription at the other.
func awaitRoute(t *testing.T, from, to string) {
	t.Helper()
	connect := func(address string) *natsgo.Conn {
		conn, err := natsgo.Connect("nats://"+address, natsgo.UserInfo("ward", "s3cret"), natsgo.NoReconnect())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	mouth, ear := connect(from), connect(to)
	defer mouth.Close()
	defer ear.Close()
	sub, err := ear.SubscribeSync("ward.route")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(wardboardPatience); time.Now().Before(deadline); {
		if err := mouth.Publish("ward.route", nil); err != nil {
			t.Fatal(err)
		}
		const pace = 10 * time.Millisecond
		if _, err := sub.NextMsg(pace); err == nil {
			return
		}
	}
	t.Fatalf("no way from %s to %s", from, to)
}
