package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
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

func TestNATSCarriesFramesInOrder(t *testing.T) {
	overNATS(t, func(t *testing.T, open transport.Opener) {
		a, b := connected(t, open), connected(t, open)
		a.subscribed(t, "ward.one", "ward.two")
		b.subscribed(t, "ward.one")
		frames := make([]transport.Frame, 1000)
		for i := range frames {
			frames[i] = transport.Frame{Channel: []string{"ward.one", "ward.two", "ward.nobody"}[i%3], Data: fmt.Append(nil, i)}
		}
		if errs := a.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
		a.published(t, "ward.one", "last")
		a.awaitFrame(t, "ward.one", "last")
		b.awaitFrame(t, "ward.one", "last")
		want := slices.Concat(frames, []transport.Frame{{Channel: "ward.one", Data: []byte("last")}})
		i := 0
		for _, got := range a.sink.take() {
			for want[i].Channel == "ward.nobody" {
				i++
			}
			if got.Channel != want[i].Channel || string(got.Data) != string(want[i].Data) {
				t.Fatalf("heard %s %q, want %s %q", got.Channel, got.Data, want[i].Channel, want[i].Data)
			}
			i++
		}
		if i != len(want) {
			t.Errorf("heard up to frame %d of %d", i, len(want))
		}
		if n := len(b.sink.take()); n != 335 {
			t.Errorf("the node on one channel heard %d frames, want 335", n)
		}
	})
}

// A channel's name is any byte that the limits allow, as long as they allow, and a payload any bytes.
func TestNATSCarriesAnyBytes(t *testing.T) {
	overNATS(t, func(t *testing.T, open transport.Opener) {
		r := connected(t, open)
		limits := r.Limits()
		bytewise := make([]byte, 256)
		var allowed strings.Builder
		for i := range bytewise {
			bytewise[i] = byte(i)
			if b := byte(i); b != '.' && limits.ChannelByte(b) {
				allowed.WriteByte(b)
			}
		}
		if n := allowed.Len(); n != 89 {
			t.Errorf("%d bytes may stand in a name, want what is printable but . * > \" \\", n)
		}
		names := []string{"ward.a", "ward." + allowed.String(), "ward." + strings.Repeat("g", limits.MaxChannel-len("ward."))}
		r.subscribed(t, names...)
		for _, name := range names {
			for _, data := range [][]byte{{}, []byte("\r\n"), bytewise, bytes.Repeat(bytewise, 4<<10)} {
				r.published(t, name, string(data))
				r.sink.await(t, "a frame", func() bool { return len(r.sink.frames) > 0 })
				if got := r.sink.take(); len(got) != 1 || got[0].Channel != name || !bytes.Equal(got[0].Data, data) {
					t.Fatalf("%d frames came for %d bytes on %.20q", len(got), len(data), name)
				}
			}
		}
	})
}

// When Subscribe has returned every channel is heard, and when Unsubscribe has returned none is.
func TestNATSConfirmsManyChannels(t *testing.T) {
	overNATS(t, func(t *testing.T, open transport.Opener) {
		r := connected(t, open)
		const n = 20_000
		names, frames := make([]string, n), make([]transport.Frame, n)
		for i := range names {
			names[i] = fmt.Sprintf("ward.%d", i)
			frames[i] = transport.Frame{Channel: names[i], Data: []byte(names[i])}
		}
		r.subscribed(t, names...)
		r.subscribed(t, names[:10]...) // again: they must not be heard twice
		publish := func() {
			for batch := range slices.Chunk(frames, 2000) {
				if errs := r.Publish(t.Context(), transport.OnlyLink, batch); errs != nil {
					t.Fatal(errors.Join(errs...))
				}
			}
		}
		publish()
		r.sink.await(t, "every frame", func() bool { return len(r.sink.frames) >= n })
		for i, f := range r.sink.take() {
			if f.Channel != names[i] || string(f.Data) != names[i] {
				t.Fatalf("frame %d is %q on %s", i, f.Data, f.Channel)
			}
		}
		if errs := r.Unsubscribe(t.Context(), transport.OnlyLink, names[1:]); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
		publish()
		r.published(t, names[0], "fence")
		r.awaitFrame(t, names[0], "fence")
		if got := r.sink.take(); len(got) != 2 {
			t.Errorf("%d frames came, want that of the channel that is left, and the fence", len(got))
		}
	})
}

// What was sent before a confirmation is with the sink when Subscribe returns.
func TestNATSConfirmationsDoNotOvertakeFrames(t *testing.T) {
	overNATS(t, func(t *testing.T, open transport.Opener) {
		r, other := connected(t, open), connected(t, open)
		r.subscribed(t, "ward.a")
		frames := slices.Repeat([]transport.Frame{{Channel: "ward.a", Data: make([]byte, 100)}}, 500)
		for i := range 20 {
			if errs := other.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
				t.Fatal(errors.Join(errs...))
			}
			r.subscribed(t, fmt.Sprintf("ward.b%d", i))
			if n := len(r.sink.take()); n != len(frames) {
				t.Fatalf("%d of %d frames had reached the sink", n, len(frames))
			}
		}
	})
}

// A new connection has no subscriptions, and nothing of the old one is heard any more.
func TestNATSConnectsAnew(t *testing.T) {
	overNATS(t, func(t *testing.T, open transport.Opener) {
		r := connected(t, open)
		r.subscribed(t, "ward.a")
		if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		r.subscribed(t, "ward.b")
		r.published(t, "ward.a", "nobody")
		r.published(t, "ward.b", "fence")
		r.awaitFrame(t, "ward.b", "fence")
		if got := r.sink.take(); len(got) != 1 {
			t.Errorf("%d frames came, want the fence", len(got))
		}
		if len(r.sink.downs) > 0 {
			t.Errorf("Down: %v", r.sink.downs)
		}
	})
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
