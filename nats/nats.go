// Package nats is the transport over NATS, with its core publish and subscribe:
//
//	node, err := backplane.Open(ctx, nats.URL("nats://user:password@127.0.0.1:4222"), backplane.Options{Namespace: "ward"})
//
// One server, or a cluster of them: several servers may be named, and a node connects to one of them; nodes on different
// servers of a cluster hear one another. Delivery needs no JetStream.
//
// # What the server must allow
//
// A user restricted to the namespace needs two permissions, in the server's configuration
//
//	authorization {
//	  users = [
//	    { user: ward, password: $WARD_PASSWORD, permissions: {publish: ["ward.>"], subscribe: ["ward.>"]} }
//	  ]
//	}
//
// and with accounts the same under the account's users, or nsc edit user --allow-pubsub "ward.>". The server's
// max_payload must be at least the node's MaxPayload and 4 KiB; with the defaults of both it is.
//
// The store (see [transport.Store]) is a JetStream key-value bucket, and needs a nats-server 2.11 or newer that has JetStream
// on, with -js or jetstream {}. The user may then publish these as well:
//
//	publish: [
//	  "ward.>", "$KV.backplane-ward.ward.>",
//	  "$JS.API.STREAM.INFO.KV_backplane-ward", "$JS.API.STREAM.MSG.GET.KV_backplane-ward",
//	  "$JS.API.STREAM.CREATE.KV_backplane-ward", "$JS.API.CONSUMER.CREATE.KV_backplane-ward.>"
//	]
//
// CREATE of the stream is not needed where the bucket is there, and that of consumers lets Watch hear of changes at once, and not
// within a second. What is missing is named in a [transport.ErrDenied]. Without JetStream, or with a bucket that cannot keep
// what the store promises, every call of the store is [transport.ErrUnsupported] and says what to change; all else works.
// Who may create a stream or a consumer reaches subjects beyond the namespace, too: docs/operating.md says what to do about it.
//
// # How it works
//
// A link is one connection, made by nats.go and never made again by it: nothing is retried, queued or connected anew behind
// the engine's back. A batch of frames is followed by one PING, and was taken when its PONG is here; what a permission
// refused comes back before. All subscriptions deliver into one queue, which is never full: while frames wait in it the
// socket is not read, so that overload is the server's to see. It cuts off who is too slow, and that is a gap.
package nats

import (
	"context"
	"crypto/tls"
	"net"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

// Options say which servers to use and how to log in. One of URL, Addresses, Conn and InProcess is required; everything
// else has a default. An option that the URL gives as well is an error.
type Options struct {
	// URL is nats://[user:password@|token@]host[:port][,host[:port]...][?Option=value...], or the same with tls://.
	// IPv6 addresses stand in brackets; the port is 4222 if left out. Characters of the user, the password and the token that
	// mean something in a URL are escaped, '/' as %2F. The plain options below can stand in the query under their own
	// names, in any case: tls://host?CAFile=/etc/ca.pem.
	//
	// With tls:// a server that does not offer TLS is refused. With nats:// TLS is used where the server demands it, and the
	// system knows the authority.
	URL string
	// Addresses are the servers, "host:port", where there is no URL. They are tried in random order, one that failed last.
	Addresses []string

	// Username and Password log in. Default: nothing is sent.
	Username, Password string
	// Token logs in, instead of a user.
	Token string
	// CredentialsFile is a .creds file, with a user's JWT and seed, instead. This file, and all below, are read at each
	// connect, so they may be renewed while the node runs.
	CredentialsFile string
	// NKeySeedFile is a file with the seed of a user's nkey, instead.
	NKeySeedFile string

	// TLS makes connections use TLS; with a URL, the URL says tls://. It is cloned. Default with tls://: the system's
	// authorities, TLS 1.2 or later, the server's host as its name.
	TLS *tls.Config
	// CAFile is a PEM file of the authorities that sign servers' certificates, instead of TLS.RootCAs.
	CAFile string
	// CertFile and KeyFile are PEM files of our certificate and its key, for a server that demands one.
	CertFile, KeyFile string
	// ServerName is the name that the server's certificate must be for. Default: the server's host.
	ServerName string

	// Dialer makes the connections, on which TLS is then spoken where that is on. It must return when ctx ends. Default: a
	// net.Dialer.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

	// Conn lends the options of a connection that the application has anyway, instead of all of the above: its servers,
	// credentials, TLS, dialer and inbox prefix are used. The connection itself is not. Servers by WebSocket are not
	// supported.
	Conn *natsgo.Conn
	// InProcess is a server in this process, instead of all of the above but the credentials. Package nats/embedded makes
	// one, and a *server.Server of nats-server is one.
	InProcess natsgo.InProcessConnProvider

	// Bucket is the JetStream key-value bucket of the store. Default: "backplane-" and the namespace. The node that first misses
	// it makes it, on disk. Where somebody else has made it, it must have a history of 1, let values end by themselves
	// (nats kv add --marker-ttl=1m), and end none by its age; keys begin with the namespace, so several may share one.
	Bucket string
	// Replicas is how many servers of a cluster keep the bucket, 1 to 5, when it is made. Default: 1, and the values are away
	// while that server is. A bucket that has another number is used as it is, with a warning.
	Replicas int
}

// New returns an opener for backplane.Open that uses the servers the options describe. What is wrong with the options
// is reported by the opener, with an error that wraps [transport.ErrInvalidOption]. The opener reads the files that
// the options name, to check them, and does no other I/O; it may be used for any number of nodes.
func New(o Options) transport.Opener {
	return func(c transport.Config) (transport.Transport, error) {
		s, err := o.settings()
		if err != nil {
			return nil, err
		}
		return newBus(s, c), nil
	}
}

// URL is New with nothing but a URL; see [Options.URL].
func URL(rawurl string) transport.Opener { return New(Options{URL: rawurl}) }
