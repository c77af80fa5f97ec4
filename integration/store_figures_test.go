//go:build !race

package integration_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
)

// far is a connection to a server that is a while away: what it says comes later.
type far struct{ net.Conn }

const farAway = 5 * time.Millisecond

func (f far) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	<-time.After(farAway)
	return n, err
}

// Calls of the store do not wait for one another's round trips: many connects at a time, each of which reads a user's record, take a
// fraction of what they take one after the other.
func TestFigureStoreCallsRunAtTheSameTime(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{})
	s := storeIn(t, redis.New(redis.Options{
		URL: server.URL(),
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return far{conn}, err
		},
	}), "ward")
	if _, err := s.Create(t.Context(), "users/nurse", make([]byte, 200), 0); err != nil {
		t.Fatal(err)
	}
	rate := func(callers, calls int) float64 {
		took := concurrently(callers, calls, func(int) {
			if _, err := s.Get(t.Context(), "users/nurse"); err != nil {
				t.Error(err)
			}
		})
		return float64(calls) / took.Seconds()
	}
	rate(64, 64) // the connections are made
	var ratios []float64
	for range rounds {
		one, many := rate(1, 40), rate(64, 320)
		t.Logf("one caller %.0f reads/s, 64 callers %.0f/s", one, many)
		ratios = append(ratios, many/one)
	}
	r := median(ratios)
	t.Logf("64 callers read %.1f times as fast as one", r)
	if r < 4 {
		t.Errorf("64 callers read %.1f times as fast as one, want 4", r)
	}
}
