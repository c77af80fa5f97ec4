// Package redis is the transport over a Redis or Valkey server, with its classic pub/sub:
//
//	node, err := backplane.Open(ctx, redis.URL("redis://user:password@127.0.0.1:6379"), backplane.Options{Namespace: "ward"})
//
// Several endpoints may be named, of a master and its replicas: the one whose ROLE is master is used, and all are asked
// again at every connect. Redis Cluster classic pub/sub works through any one of its masters. Sentinel, and sharded
// pub/sub, are not supported yet.
//
// # What the server must allow
//
// A password is enough where there is one user. An ACL user needs the channels of the namespace and three commands, and
// is better off with two more:
//
//	ACL SETUSER ward on >secret resetchannels &ward:* +publish +subscribe +unsubscribe +role +client|setname
//
// Without ROLE (and without INFO, which is tried next) a replica cannot be told from the master: a message published on
// a replica reaches only that replica's subscribers, and the server does not say so. With several endpoints one of the
// two is required; with one endpoint a warning is logged once.
//
// The store (see [transport.Store]) needs keys as well:
//
//	ACL SETUSER ward ~ward:* +get +set +del +exists +pexpire +persist +time +eval
//
// # How it works
//
// A link is two connections to the same server: one publishes, one subscribes. go-redis logs in on both and asks for
// their role; what follows, the three commands of pub/sub, this package speaks itself, so that nothing is retried, queued
// or connected anew behind the engine's back, and the fate of every frame is known (decision 0008 in docs/decisions).
// When the subscribing connection fails the link is down. When the publishing connection fails, the publish in progress
// says so, and the next one makes a new connection. The store has a third connection to the same server, made when it is
// first used, and up to eight for calls at the same time; there go-redis speaks. Pub/sub ignores database numbers: the namespace is what separates
// applications.
package redis

import (
	"context"
	"crypto/tls"
	"net"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/transport"
)

// Options say which server to use and how to log in. One of URL, Addresses and Client is required; everything else has
// a default. An option that the URL gives as well is an error.
type Options struct {
	// URL is redis://[user[:password]@]host[:port][,host[:port]...][?Option=value...], or the same with rediss:// for
	// TLS. IPv6 addresses stand in brackets; the port is 6379 if left out. Characters of the user and the password that
	// mean something in a URL are escaped, '/' as %2F. The plain options below can stand in the query under their own
	// names, in any case: rediss://host?CAFile=/etc/ca.pem.
	URL string
	// Addresses are the endpoints, "host:port", where there is no URL.
	Addresses []string

	// Username is the ACL user. Default: the server's default user.
	Username string
	// Password is that user's. Default: none is sent.
	Password string
	// Credentials is asked for the user and the password at each connect, instead of Username and Password: for
	// passwords that change. Its context ends with the attempt to connect. Its error fails the attempt.
	Credentials func(ctx context.Context) (username, password string, err error)

	// TLS makes connections use TLS; with a URL, the URL says rediss://. It is cloned. Default with rediss://: the
	// system's authorities, TLS 1.2 or later, the endpoint's host as the server's name.
	TLS *tls.Config
	// CAFile is a PEM file of the authorities that sign servers' certificates, instead of TLS.RootCAs. This file, and
	// the two below, are read at each connect, so they may be renewed while the node runs.
	CAFile string
	// CertFile and KeyFile are PEM files of our certificate and its key, for a server that demands one.
	CertFile, KeyFile string
	// ServerName is the name that the server's certificate must be for. Default: the endpoint's host.
	ServerName string

	// Dialer makes the connections, on which this package then speaks TLS where that is on. It must return when ctx
	// ends. Default: a net.Dialer.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

	// Client lends the options of a client that the application has anyway, instead of all of the above: its address,
	// dialer, TLS, credentials and OnConnect are used. The client itself is not, nor its pool, timeouts and retries. It
	// must be a *redis.Client for a single server; anything else is an error that wraps ErrUnsupported too. Its
	// StreamingCredentialsProvider is not supported: use Credentials.
	Client goredis.UniversalClient
}

// New returns an opener for backplane.Open that uses the server the options describe. What is wrong with the options
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
