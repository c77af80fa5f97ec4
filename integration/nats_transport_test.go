package integration_test

import (
	"errors"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

// overNATS runs a test over a socket, over TLS, and without a network.
func overNATS(t *testing.T, f func(t *testing.T, open transport.Opener)) {
	overNATSServer(t, func(t *testing.T, _ *natsserver.Server, open transport.Opener) { f(t, open) })
}

func overNATSServer(t *testing.T, f func(t *testing.T, server *natsserver.Server, open transport.Opener)) {
	t.Run("plain", func(t *testing.T) {
		server := natsserver.Start(t, natsserver.Options{})
		f(t, server, nats.URL(server.URL()))
	})
	t.Run("TLS", func(t *testing.T) {
		server := natsserver.Start(t, natsserver.Options{TLS: true})
		f(t, server, nats.URL(server.URL()))
	})
	t.Run("in process", func(t *testing.T) {
		server := natsserver.Start(t, natsserver.Options{})
		f(t, server, nats.New(nats.Options{InProcess: server.Running()}))
	})
}

// What may stand in a name is what is printable, but for what means something to a server or in its errors.
func TestNATSNames(t *testing.T) {
	limits, allowed := newRig(t, nats.URL("nats://127.0.0.1")).Limits(), 0
	for b := range 256 {
		if limits.ChannelByte(byte(b)) {
			allowed++
		}
		if strings.ContainsRune("*>\"\\ \x7f", rune(b)) && limits.ChannelByte(byte(b)) {
			t.Errorf("%q may stand in a name", rune(b))
		}
	}
	if allowed != 90 {
		t.Errorf("%d bytes may stand in a name, want what is printable but * > \" \\", allowed)
	}
}

// The server knows a node by its name, and no more after Close.
func TestNATSClosesItsConnection(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{})
	r := connected(t, nats.URL(server.URL()))
	list, err := server.Running().Connz(nil)
	if err != nil || len(list.Conns) != 1 || !strings.HasPrefix(list.Conns[0].Name, "backplane:ward:") {
		t.Errorf("the server's connections: %+v, %v", list, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for server.Running().NumClients() > 0 { // the server takes note in its own time
		if t.Context().Err() != nil {
			t.Fatal("the connection is still there")
		}
	}
	if err := r.publish1(t.Context(), "ward.a", "x"); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Publish after Close: %v", err)
	}
	if err := r.Connect(t.Context(), transport.OnlyLink); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Connect after Close: %v", err)
	}
}

func TestNATSUsesALentConnectionsOptions(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{TLS: true, Users: []string{"user: ward, password: s3cret"}})
	lent, err := natsgo.Connect("tls://ward:s3cret@"+server.Addr, natsgo.RootCAs(server.CAFile), natsgo.CustomInboxPrefix("ward.inbox"))
	if err != nil {
		t.Fatal(err)
	}
	r := connected(t, nats.New(nats.Options{Conn: lent}))
	lent.Close()
	r.subscribed(t, "ward.a")
	r.published(t, "ward.a", "hello")
	r.awaitFrame(t, "ward.a", "hello")
}

// A cluster is known as one, so that the engine has subscriptions answered through all of it.
func TestNATSTellsAClusterFromOneServer(t *testing.T) {
	cluster := natsserver.StartCluster(t, 2, natsserver.Options{})
	for url, want := range map[string]bool{natsserver.Start(t, natsserver.Options{}).URL(): false, cluster.Servers[0].URL(): true} {
		r := newRig(t, nats.URL(url))
		c := r.Transport.(transport.Clustered) //nolint:forcetypeassert // it is
		if c.Clustered(transport.OnlyLink) {
			t.Error("clustered before the connection")
		}
		if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		if got := c.Clustered(transport.OnlyLink); got != want {
			t.Errorf("Clustered: %v, want %v", got, want)
		}
	}
}
