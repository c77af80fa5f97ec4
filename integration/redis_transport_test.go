package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// overRedis runs a test against miniredis and against a real server.
func overRedis(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("miniredis", func(t *testing.T) {
		f(t, "redis://"+miniredis.RunT(t).Addr())
	})
	t.Run("redis-server", func(t *testing.T) {
		f(t, redisserver.Start(t, redisserver.Options{}).URL())
	})
}

func TestRedisCarriesFramesInOrder(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		a, b := connected(t, redis.URL(url)), connected(t, redis.URL(url))
		a.subscribed(t, "ward:one", "ward:two")
		b.subscribed(t, "ward:one")
		frames := make([]transport.Frame, 1000)
		for i := range frames {
			frames[i] = transport.Frame{Channel: []string{"ward:one", "ward:two", "ward:nobody"}[i%3], Data: fmt.Append(nil, i)}
		}
		if errs := a.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
		a.published(t, "ward:one", "last")
		a.awaitFrame(t, "ward:one", "last")
		b.awaitFrame(t, "ward:one", "last")
		want := slices.Concat(frames, []transport.Frame{{Channel: "ward:one", Data: []byte("last")}})
		i := 0
		for _, got := range a.sink.take() {
			for want[i].Channel == "ward:nobody" {
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

// A channel's name is any bytes, and a payload too.
func TestRedisCarriesAnyBytes(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		r := connected(t, redis.URL(url))
		bytewise := make([]byte, 256)
		for i := range bytewise {
			bytewise[i] = byte(i)
		}
		names := []string{"ward:", "ward:*", "ward:\r\n$1\r\n", "ward: \x00ä", "ward:" + string(bytewise), "ward:" + strings.Repeat("long", 25_000)}
		r.subscribed(t, names...)
		for _, name := range names {
			for _, data := range [][]byte{{}, []byte("\r\n"), bytewise, bytes.Repeat(bytewise, 8<<10)} {
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
func TestRedisConfirmsManyChannels(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		r := connected(t, redis.URL(url))
		n := 20_000
		if strings.HasSuffix(t.Name(), "miniredis") { // its cost of a frame grows with the channels
			n = 2000
		}
		names, frames := make([]string, n), make([]transport.Frame, n)
		for i := range names {
			names[i] = fmt.Sprintf("ward:%d", i)
			frames[i] = transport.Frame{Channel: names[i], Data: []byte(names[i])}
		}
		r.subscribed(t, names...)
		publish := func() {
			if errs := r.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
				t.Fatal(errors.Join(errs...))
			}
		}
		publish()
		r.sink.await(t, "every frame", func() bool { return len(r.sink.frames) == n })
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

// A new connection has no subscriptions, and nothing of the old one is heard any more.
func TestRedisConnectsAnew(t *testing.T) {
	overRedis(t, func(t *testing.T, url string) {
		r := connected(t, redis.URL(url))
		r.subscribed(t, "ward:a")
		if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		r.subscribed(t, "ward:b")
		r.published(t, "ward:a", "nobody")
		r.published(t, "ward:b", "fence")
		r.awaitFrame(t, "ward:b", "fence")
		if got := r.sink.take(); len(got) != 1 {
			t.Errorf("%d frames came, want the fence", len(got))
		}
		if len(r.sink.downs) > 0 {
			t.Errorf("Down: %v", r.sink.downs)
		}
	})
}

func TestRedisClosesItsConnections(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{})
	r := connected(t, redis.URL(server.URL()))
	clients, _ := server.Do("CLIENT", "LIST").(string)
	for _, name := range []string{"name=backplane:ward:", ":pub ", ":sub "} {
		if !strings.Contains(clients, name) {
			t.Errorf("no %q in the list of clients:\n%s", name, clients)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for { // the server takes note in its own time
		clients, _ := server.Do("CLIENT", "LIST").(string)
		if !strings.Contains(clients, "backplane") {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("after Close:\n%s", clients)
		}
	}
}

func TestRedisUsesALentClientsOptions(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{TLS: true, Password: "s3cret"})
	options, err := goredis.ParseURL("rediss://:s3cret@" + server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	options.TLSConfig.RootCAs = server.Authority()
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()
	r := connected(t, redis.New(redis.Options{Client: client}))
	r.subscribed(t, "ward:a")
	r.published(t, "ward:a", "hello")
	r.awaitFrame(t, "ward:a", "hello")
}
