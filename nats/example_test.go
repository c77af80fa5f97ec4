package nats_test

import (
	"context"
	"log"
	"log/slog"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/nats"
)

// A job that tells a ward something and ends; it subscribes to nothing. One of the three servers is taken at random, another
// one where that is gone.
func ExampleURL() { //nolint:testableexamples // it needs a server
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	open := nats.URL("nats://ward:PASSWORD@nats-0,nats-1,nats-2")
	// A job that cannot reach a server has failed. A hub server leaves RequireBroker out: it starts, and waits for one.
	node, err := backplane.Open(ctx, open, backplane.Options{Namespace: "ward", Label: "handover", RequireBroker: true})
	check(err)
	check(node.Publish(ctx, backplane.Group("4B"), []byte("handover in 10 minutes")))
	check(node.Close(ctx))
}

// The node of a hub server, with a credentials file and certificates of an authority of one's own. Both files are read
// at each connect, so they may be renewed while the node runs.
func ExampleNew() { //nolint:testableexamples // it needs a server
	open := nats.New(nats.Options{
		URL:             "tls://nats-0,nats-1,nats-2",
		CredentialsFile: "/run/secrets/ward.creds",
		CAFile:          "/etc/ssl/nats-ca.pem",
	})
	// What is wrong with the settings is an error here, and so is what the server denies. Its absence is not: health tells of it.
	node, err := backplane.Open(context.Background(), open, backplane.Options{Namespace: "ward", Logger: slog.Default()})
	check(err)
	_ = node // package hubkit goes on from here
}

// A connection that the application has anyway lends its servers, credentials and TLS. The node makes one of its own with
// them, so that neither waits behind the other.
func ExampleNew_lent() { //nolint:testableexamples // it needs a server
	conn, err := natsgo.Connect("nats://127.0.0.1:4222", natsgo.UserInfo("ward", "PASSWORD"))
	check(err)
	node, err := backplane.Open(context.Background(), nats.New(nats.Options{Conn: conn}), backplane.Options{Namespace: "ward"})
	check(err)
	_ = node
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
