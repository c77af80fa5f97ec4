package embedded_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/nats/embedded"
	"github.com/gobackplane/backplane/transport"
)

// soon bounds what takes milliseconds, or the seconds in which a member is missed.
const soon = 60 * time.Second

var ward = backplane.Group("4B")

func opened(t *testing.T, open transport.Opener) *backplane.Node {
	t.Helper()
	n, err := backplane.Open(t.Context(), open, backplane.Options{Namespace: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, n) })
	return n
}

func closed(t *testing.T, n *backplane.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Error(err)
	}
}

// listening subscribes and returns the payloads that were heard.
func listening(t *testing.T, n *backplane.Node) <-chan string {
	t.Helper()
	heard := make(chan string, 100)
	_, err := n.Subscribe(t.Context(), ward, func(_ context.Context, e backplane.Event) {
		if m, ok := e.(*backplane.Message); ok {
			heard <- string(m.Payload)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return heard
}

func publish(t *testing.T, n *backplane.Node, text string) {
	t.Helper()
	if err := n.Publish(t.Context(), ward, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hears(t *testing.T, heard <-chan string, want string) {
	t.Helper()
	select {
	case got := <-heard:
		if got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	case <-time.After(soon):
		t.Fatalf("did not hear %q", want)
	}
}

// All nodes of one opener share a server, without a port; the last one that is closed ends it, and the next one starts it anew.
func TestNodesOfOneOpenerShareAServer(t *testing.T) {
	open := embedded.URL("nats+embedded:")
	for range 2 {
		a, b := opened(t, open), opened(t, open)
		heard := listening(t, b)
		publish(t, a, "x")
		hears(t, heard, "x")
		closed(t, a)
		publish(t, b, "y")
		hears(t, heard, "y")
		if _, ok := b.Store(); ok {
			t.Error("there is a store, and no JetStream")
		}
		closed(t, b)
	}
}

func TestInstancesHearEachOther(t *testing.T) {
	peers := []string{embedded.FreeAddress(t), embedded.FreeAddress(t), embedded.FreeAddress(t)}
	var heard []<-chan string
	var nodes []*backplane.Node
	for _, listen := range peers {
		n := opened(t, embedded.URL("nats+embedded://"+listen+"?secret=s&peers="+strings.Join(peers, ",")))
		nodes, heard = append(nodes, n), append(heard, listening(t, n))
	}
	for i, n := range nodes {
		publish(t, n, peers[i])
		for _, h := range heard {
			hears(t, h, peers[i])
		}
	}
}

// A server that cannot be started fails Open, and leaves nothing behind: the next attempt works.
func TestOpenTellsWhatIsWrong(t *testing.T) {
	listen := embedded.FreeAddress(t)
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	open := embedded.New(embedded.Options{Listen: listen, Secret: "s"})
	n, err := backplane.Open(t.Context(), open, backplane.Options{Namespace: "ward"})
	if n != nil || !errors.Is(err, backplane.ErrDenied) || !strings.Contains(err.Error(), "Listen") {
		t.Errorf("Open: %v, want ErrDenied and Listen", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	opened(t, open)
}
