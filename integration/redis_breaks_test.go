package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// check asks for the role.
func (r *rig) check(ctx context.Context) error {
	return r.Transport.(transport.Checker).Check(ctx, transport.OnlyLink) //nolint:forcetypeassert // it is one
}

func TestRedisSubscribingConnectionKilled(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{})
	r := connected(t, redis.URL(server.URL()))
	r.works(t)
	server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	if err := r.sink.awaitDown(t); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Down: %v", err)
	}
	if err := r.publish1(t.Context(), "ward:works", "x"); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Publish on a link that is down: %v", err)
	}
	if errs := r.Subscribe(t.Context(), transport.OnlyLink, []string{"ward:a"}); len(errs) != 1 || !errors.Is(errs[0], transport.ErrUnavailable) {
		t.Errorf("Subscribe on a link that is down: %v", errs)
	}
	if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	r.works(t)
	if len(r.sink.downs) != 1 {
		t.Errorf("Down was called %d times", len(r.sink.downs))
	}
}

// The publishing connection alone is replaced without a word: what was under way says so.
func TestRedisPublishingConnectionKilled(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{})
	r := connected(t, redis.URL(server.URL()))
	r.works(t)
	server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	err := r.publish1(t.Context(), "ward:works", "lost")
	if !errors.Is(err, transport.ErrUncertain) && !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Publish on a killed connection: %v", err)
	}
	r.published(t, "ward:works", "again")
	r.awaitFrame(t, "ward:works", "again")
	if len(r.sink.downs) > 0 {
		t.Errorf("Down: %v", r.sink.downs)
	}
}

func TestRedisServerKilledAndRestarted(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{})
	r := connected(t, redis.URL(server.URL()))
	r.works(t)
	server.Kill()
	if err := r.sink.awaitDown(t); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Down: %v", err)
	}
	for range 3 {
		if err := r.Connect(t.Context(), transport.OnlyLink); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Connect without a server: %v", err)
		}
	}
	server.Restart()
	// Nothing remembers the failures: the first attempt is let in.
	if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	r.works(t)
}

// A frozen server holds up calls for as long as their contexts say, and Disconnect not at all.
func TestRedisServerFrozen(t *testing.T) {
	for _, tls := range []bool{false, true} {
		server := redisserver.Start(t, redisserver.Options{TLS: tls})
		r := connected(t, redis.URL(server.URL()))
		r.works(t)
		server.Freeze()

		soon := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		}
		if err := r.publish1(soon(), "ward:works", "x"); !errors.Is(err, transport.ErrUncertain) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Publish: %v", err)
		}
		// That connection is given up; a new one is accepted by the kernel, and says nothing.
		if err := r.publish1(soon(), "ward:works", "x"); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Publish on a new connection: %v", err)
		}
		if err := r.check(soon()); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Check: %v", err)
		}
		if errs := r.Subscribe(soon(), transport.OnlyLink, []string{"ward:a"}); len(errs) != 1 || !errors.Is(errs[0], transport.ErrUnavailable) {
			t.Errorf("Subscribe: %v", errs)
		}

		waiting := make(chan []error)
		many := make([]string, 200_000) // more than the sockets take
		for i := range many {
			many[i] = "ward:a name of some length, which makes it more"
		}
		go func() { waiting <- r.Subscribe(t.Context(), transport.OnlyLink, many) }()
		begun := time.Now()
		r.Disconnect(transport.OnlyLink)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("Disconnect took %v", took)
		}
		if errs := <-waiting; len(errs) != len(many) || !errors.Is(errs[len(errs)-1], transport.ErrUnavailable) {
			t.Errorf("Subscribe under way: %v outcomes", len(errs))
		}
		if err := r.Connect(soon(), transport.OnlyLink); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Connect: %v", err)
		}
		if len(r.sink.downs) > 0 {
			t.Errorf("Down: %v", r.sink.downs)
		}
		server.Thaw()
		if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		r.works(t)
	}
}

// A replica is never published to, also when it was the master a moment ago.
func TestRedisFollowsTheMaster(t *testing.T) {
	one := redisserver.Start(t, redisserver.Options{})
	two := redisserver.Start(t, redisserver.Options{ReplicaOf: one})

	alone := newRig(t, redis.URL(two.URL()))
	if err := alone.Connect(t.Context(), transport.OnlyLink); !errors.Is(err, transport.ErrReadOnly) {
		t.Errorf("Connect to a replica: %v", err)
	}

	both := redis.URL("redis://" + two.Addr + "," + one.Addr)
	r, listener := connected(t, both), connected(t, redis.URL(one.URL()))
	listener.subscribed(t, "ward:a")
	r.subscribed(t, "ward:x") // without a subscription it would not be a connection of type pubsub
	r.published(t, "ward:a", "to the master")
	listener.awaitFrame(t, "ward:a", "to the master")
	if err := r.check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}

	two.Do("REPLICAOF", "NO", "ONE")
	one.Do("REPLICAOF", "127.0.0.1", two.Addr[len("127.0.0.1:"):])
	if err := r.check(t.Context()); !errors.Is(err, transport.ErrReadOnly) {
		t.Errorf("Check of a demoted master: %v", err)
	}
	one.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") // as Sentinel does
	err := r.publish1(t.Context(), "ward:a", "lost")            // the old connection, if the kill has not arrived
	if err == nil || errors.Is(err, transport.ErrReadOnly) == errors.Is(err, transport.ErrUncertain) && !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Publish on a killed connection: %v", err)
	}
	if err := r.publish1(t.Context(), "ward:a", "never"); !errors.Is(err, transport.ErrReadOnly) {
		t.Errorf("Publish on a new connection to a replica: %v", err)
	}
	if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	r.works(t)
	now := connected(t, redis.URL(two.URL()))
	now.subscribed(t, "ward:b")
	r.published(t, "ward:b", "to the new master")
	now.awaitFrame(t, "ward:b", "to the new master")

	two.Kill()
	if err := r.sink.awaitDown(t); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Down: %v", err)
	}
	if err := r.Connect(t.Context(), transport.OnlyLink); !errors.Is(err, transport.ErrReadOnly) {
		t.Errorf("Connect without a master: %v", err)
	}
}

// A server that takes shorter frames only says so.
func TestRedisFrameTooLarge(t *testing.T) {
	const most = 1 << 20
	for _, tls := range []bool{false, true} {
		server := redisserver.Start(t, redisserver.Options{TLS: tls, Config: []string{"proto-max-bulk-len 1mb"}})
		r := connected(t, redis.URL(server.URL()))
		for range 20 { // the server closes the connection while we write
			frames := []transport.Frame{
				{Channel: "ward:a", Data: []byte("short")},
				{Channel: "ward:b", Data: make([]byte, 16*most)},
				{Channel: "ward:c", Data: make([]byte, 16*most)},
			}
			errs := r.Publish(t.Context(), transport.OnlyLink, frames)
			if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], transport.ErrTooLarge) || errs[2] == nil || errors.Is(errs[2], transport.ErrTooLarge) {
				t.Fatalf("TLS %v: %v", tls, errs)
			}
		}
		r.published(t, "ward:a", string(make([]byte, most)))
	}
}
