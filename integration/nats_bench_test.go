package integration_test

import (
	"context"
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

func BenchmarkNATSPublish(b *testing.B)       { benchedNATS(b).publish(b) }
func BenchmarkNATSReceive(b *testing.B)       { benchedNATS(b).receive(b) }
func BenchmarkNATSSubscribe100k(b *testing.B) { benchedNATS(b).subscribe100k(b) }

func benchedNATS(b *testing.B) benched {
	b.Helper()
	server := natsserver.StartProcess(b, natsserver.Options{})
	client := func(b *testing.B) *natsgo.Conn {
		b.Helper()
		nc, err := natsgo.Connect(server.URL(), natsgo.NoReconnect())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(nc.Close)
		return nc
	}
	subscribe := func(nc *natsgo.Conn, all chan *natsgo.Msg, channels []string) error {
		for _, name := range channels {
			if _, err := nc.ChanSubscribe(name, all); err != nil {
				return err
			}
		}
		return nc.Flush()
	}
	return benched{
		open: nats.URL(server.URL()), prefix: "bench.", client: "nats.go",
		publisher: func(b *testing.B) func(context.Context, []transport.Frame) error {
			b.Helper()
			nc := client(b)
			return func(ctx context.Context, frames []transport.Frame) error {
				for _, f := range frames {
					if err := nc.Publish(f.Channel, f.Data); err != nil {
						return err
					}
				}
				return nc.FlushWithContext(ctx)
			}
		},
		receiver: func(b *testing.B, channels []string) func() error {
			b.Helper()
			nc, all := client(b), make(chan *natsgo.Msg, 1<<16)
			if err := subscribe(nc, all, channels); err != nil {
				b.Fatal(err)
			}
			return func() error { <-all; return nil }
		},
		subscriber: func(b *testing.B) (func([]string) error, func()) {
			b.Helper()
			nc, all := client(b), make(chan *natsgo.Msg, 1<<16)
			return func(channels []string) error { return subscribe(nc, all, channels) }, nc.Close
		},
	}
}
