package integration_test

import (
	"errors"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
)

// A server that refuses a frame for its length closes the connection. The next publish is innocent and must not meet that.
func TestPublishAfterOneThatTheServerRefuses(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{Config: []string{"proto-max-bulk-len 2000000"}})
	n, err := backplane.Open(t.Context(), redis.URL(server.URL()), backplane.Options{Namespace: "large", MaxPayload: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 3<<20)
	for range 30 {
		if err := n.Publish(t.Context(), backplane.Group("g"), large); !errors.Is(err, backplane.ErrTooLarge) && !errors.Is(err, backplane.ErrUncertain) {
			t.Errorf("3 MiB to a server that takes 2 MB: %v", err)
		}
		if err := n.Publish(t.Context(), backplane.Group("h"), []byte("small")); err != nil {
			t.Fatalf("the next publish: %v", err)
		}
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
