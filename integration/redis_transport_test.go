package integration_test

import (
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
)

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
