package integration_test

import (
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// needsBubble names what takes minutes, unless time costs nothing.
const needsBubble = "resume/expired"

// hubsOver makes hubs of hubkit over a server by URL.
func hubsOver(url func(conformance.Instance) string) hubtest.Opener {
	return hubtest.Over(conformance.Transport(func(in conformance.Instance) transport.Opener {
		return redis.New(redis.Options{URL: url(in), Dialer: in.Dial})
	}, backplane.Options{}))
}

// miniredis publishes under one lock, so that an instance that is made to hang stalls all others: each property has a
// server of its own.
func TestHubMiniredis(t *testing.T) {
	beside(t)
	var mu sync.Mutex
	servers := map[string]*miniredis.Miniredis{}
	hubtest.Test(t, hubsOver(func(in conformance.Instance) string {
		mu.Lock()
		defer mu.Unlock()
		if servers[in.World] == nil {
			servers[in.World] = miniredis.RunT(t)
		}
		return "redis://" + servers[in.World].Addr()
	}), hubtest.Strict(needsBubble))
}

func TestHubRedis(t *testing.T) {
	beside(t)
	server := redisserver.Start(t, redisserver.Options{})
	hubtest.Test(t, hubsOver(func(conformance.Instance) string { return server.URL() }), hubtest.Strict(needsBubble))
}
