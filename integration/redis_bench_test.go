package integration_test

import (
	"context"
	"slices"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

func BenchmarkRedisPublish(b *testing.B)       { benchedRedis(b).publish(b) }
func BenchmarkRedisReceive(b *testing.B)       { benchedRedis(b).receive(b) }
func BenchmarkRedisSubscribe100k(b *testing.B) { benchedRedis(b).subscribe100k(b) }

func benchedRedis(b *testing.B) benched {
	b.Helper()
	server := redisserver.Start(b, redisserver.Options{})
	client := func(b *testing.B) *goredis.Client { // set as well as can be for this
		b.Helper()
		client := goredis.NewClient(&goredis.Options{Addr: server.Addr, Protocol: 2, MaxRetries: -1, PoolSize: 1, PipelinePoolSize: -1, WriteBufferSize: 64 << 10})
		b.Cleanup(func() { _ = client.Close() })
		return client
	}
	return benched{
		open: redis.URL(server.URL()), prefix: "bench:", client: "go-redis",
		publisher: func(b *testing.B) func(context.Context, []transport.Frame) error {
			b.Helper()
			pipe := client(b).Pipeline()
			return func(ctx context.Context, frames []transport.Frame) error {
				for _, f := range frames {
					pipe.Publish(ctx, f.Channel, f.Data)
				}
				_, err := pipe.Exec(ctx)
				return err
			}
		},
		receiver: func(b *testing.B, channels []string) func() error {
			b.Helper()
			pubsub := client(b).Subscribe(b.Context(), channels...)
			if err := confirmed(b.Context(), pubsub, len(channels)); err != nil {
				b.Fatal(err)
			}
			return func() error { _, err := pubsub.ReceiveMessage(b.Context()); return err }
		},
		subscriber: func(b *testing.B) (subscribe func([]string) error, end func()) {
			b.Helper()
			pubsub := client(b).Subscribe(b.Context())
			subscribe = func(channels []string) error {
				go func() {
					for some := range slices.Chunk(channels, 512) {
						_ = pubsub.Subscribe(b.Context(), some...)
					}
				}()
				return confirmed(b.Context(), pubsub, len(channels))
			}
			return subscribe, func() { _ = pubsub.Close() }
		},
	}
}

// confirmed returns when as many channels are confirmed.
func confirmed(ctx context.Context, pubsub *goredis.PubSub, channels int) error {
	for range channels {
		if _, err := pubsub.Receive(ctx); err != nil {
			return err
		}
	}
	return nil
}
