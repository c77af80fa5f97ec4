package integration_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// ours are the abilities of this module's engine.
var ours = conformance.Claims(conformance.AbilityCluster, conformance.AbilityHealth)

// over opens instances at a server by URL, through the suite's dialer.
func over(url string) conformance.Opener {
	return conformance.Transport(func(in conformance.Instance) transport.Opener {
		return redis.New(redis.Options{URL: url, Dialer: in.Dial})
	}, backplane.Options{})
}

// miniredis publishes under one lock, so that an instance that is made to hang stalls all others: each property has a
// server of its own.
func TestConformanceMiniredis(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	type server struct {
		*miniredis.Miniredis

		addr string // also while it is stopped
	}
	servers := map[string]server{}
	of := func(world string) server {
		mu.Lock()
		defer mu.Unlock()
		s, there := servers[world]
		if !there {
			s.Miniredis = miniredis.RunT(t)
			s.addr = s.Addr()
			servers[world] = s
		}
		return s
	}
	stop := func(_ context.Context, world string) error {
		of(world).Close()
		return nil
	}
	start := func(_ context.Context, world string) error { return of(world).Restart() }
	conformance.Test(t, conformance.Transport(func(in conformance.Instance) transport.Opener {
		return redis.New(redis.Options{URL: "redis://" + of(in.World).addr, Dialer: in.Dial})
	}, backplane.Options{}), sized(conformance.Broker(stop, start), conformance.Strict(overTCP...), ours, conformance.Subject("redis", "miniredis"))...)
}

// overTCP names what nobody can exercise: a connection loses nothing while it is healthy, and the engine asks nobody for the
// time of day.
var overTCP = []string{"link/lost-middle", "link/lost-tail", "link/last-words", "clock/skew"}

// restarts makes the suite kill a server and start it again, which then has forgotten everything.
func restarts(server *redisserver.Server) conformance.Option {
	return conformance.Broker(
		func(context.Context, string) error { server.Kill(); return nil },
		func(context.Context, string) error { return server.TryRestart() },
	)
}

func TestConformanceRedis(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{})
	conformance.Test(t, over(server.URL()), restarts(server), conformance.Strict(overTCP...), ours, conformance.Subject("redis", server.Version()))
}

func TestConformanceRedisTLS(t *testing.T) {
	t.Parallel()
	server := redisserver.Start(t, redisserver.Options{TLS: true, ClientCert: true})
	conformance.Test(t, over(server.URL()), sized(restarts(server), conformance.Strict(overTCP...), ours)...)
}

// rights are what a user of one namespace needs, as the documentation says.
const rights = "on >secret resetchannels &%s:* +publish +subscribe +unsubscribe +role +client|setname"

// Every instance logs in as a user that may use nothing but its own namespace: the suite draws a namespace for each
// property, and the user is made when it is first seen.
func TestConformanceRedisACL(t *testing.T) {
	t.Parallel()
	server := redisserver.Start(t, redisserver.Options{})
	var mu sync.Mutex
	users := map[string][]string{} // by world
	stopped := false               // guarded by mu, as is users
	open := func(in conformance.Instance) transport.Opener {
		rules := strings.Fields(fmt.Sprintf(rights, in.Namespace))
		setUser := append([]string{"ACL", "SETUSER", in.Namespace}, rules...)
		mu.Lock()
		defer mu.Unlock()
		users[in.World] = setUser
		if !stopped { // else start does it
			server.Do(setUser...)
		}
		return redis.New(redis.Options{URL: server.URLAs(in.Namespace, "secret"), Dialer: in.Dial})
	}
	start := func(_ context.Context, world string) error { // users are a part of what a server forgets
		if err := server.TryRestart(); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		stopped = false
		_, err := server.Try(users[world]...)
		return err
	}
	stop := func(context.Context, string) error {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		server.Kill()
		return nil
	}
	conformance.Test(t, conformance.Transport(open, backplane.Options{}),
		sized(conformance.Broker(stop, start), conformance.Strict(overTCP...), ours)...)
}
