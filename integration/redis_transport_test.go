package integration_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/alicebob/miniredis/v2"

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
		want := append(frames[:len(frames):len(frames)], transport.Frame{Channel: "ward:one", Data: []byte("last")})
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
