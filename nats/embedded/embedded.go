// Package embedded is a transport without a separate broker: each instance of a hub server runs a NATS server inside, and
// these servers form a cluster among themselves.
//
//	open := embedded.New(embedded.Options{
//		Listen: "0.0.0.0:6222",
//		Peers:  []string{"hub.default.svc.cluster.local:6222"}, // all pods behind a headless service
//		Secret: os.Getenv("CLUSTER_SECRET"),
//	})
//	node, err := backplane.Open(ctx, open, backplane.Options{Namespace: "ward"})
//
// It is a module of its own (go get github.com/gobackplane/backplane/nats/embedded), so that nobody else carries the
// server. Programs that choose their transport by URL hand it
// to package dial:
//
//	dial.URL(ctx, u, backplane.Options{}, dial.With("nats+embedded", embedded.URL))
//
// # One opener, one server
//
// An opener stands for one server in this process. It is started when the first node that was opened with it connects,
// shared by all of them, and stopped when the last one is closed. It listens on nothing but the cluster's address: nodes
// reach it through memory. It writes no log of its own and takes no signals. The empty Options, or the URL
// "nats+embedded:", make a server without peers: everything stays in this process.
//
// # How instances find each other
//
// Peers names the instances, or a DNS name that stands for all of them; an instance may find itself among them. Names are
// resolved anew every second, every address is tried until it has a route, and one that was connected is tried again for
// an hour after it has left the list or the DNS. So each pair gets its route back after a cut of any length, also where
// nothing but an instance between them had introduced one to the other. Opening a node waits for the routes to all peers that can be
// reached, and not for the others.
//
// # What keeps strangers out
//
// Routes are authenticated by Secret, which travels as a hash, and, with CertFile, by mutual TLS. Without TLS the hash can be
// read, and used, by whoever can read the network between instances.
//
// # What there is not
//
// There is no JetStream, so a node has no store: see package nats and servers of their own for that.
package embedded

import (
	"crypto/tls"
	"log/slog"

	"github.com/gobackplane/backplane/transport"
)

// Options say how the server of this process meets the others. The zero value makes one that meets none.
type Options struct {
	// URL is nats+embedded:[//listen-host:port][?Option=value...]: the listen address stands where other URLs have a
	// host, and every option below but TLS and Logger may stand in the query, under its own name in any case; Peers with commas
	// between. An option that the URL gives as well is an error.
	URL string

	// Name is this instance's, in logs of its peers. No two instances may have the same. Default: the host's name and a
	// random part.
	Name string
	// Listen is the address, "host:port", on which peers connect; 0.0.0.0 for all interfaces. Default: there is none, and
	// no peers either. The port is 6222 if left out.
	Listen string
	// Advertise is the address, "host:port", under which peers reach this instance, where it is not the one that its own
	// connections to them come from with Listen's port.
	Advertise string
	// Peers are the other instances, "host:port" each. A host may be a DNS name with any number of addresses. This
	// instance may be among them, so that all can have the same list. The port is 6222 if left out.
	Peers []string
	// Cluster is the cluster's name, equal for all. Default: backplane.
	Cluster string
	// Secret is what instances prove to each other that they know. It, or SecretFile, is required with Listen.
	Secret string
	// SecretFile is a file that holds the secret, read when the server starts. White space around it is left out.
	SecretFile string

	// CertFile and KeyFile are PEM files of our certificate and its key, with CAFile: then routes use TLS, on which both
	// sides present a certificate. The files are read again for each connection, so they may be renewed while the
	// server runs. All instances use TLS, or none does.
	CertFile, KeyFile string
	// CAFile is a PEM file of the authorities that sign the instances' certificates.
	CAFile string
	// ServerName is the name that a peer's certificate must be for. Default: one of the hosts that Peers names.
	ServerName string
	// TLS is another way to make routes use TLS: its certificates (or GetCertificate and GetClientCertificate), RootCAs,
	// versions and cipher suites are used. It is cloned.
	TLS *tls.Config

	// Logger is told which peers are refused, by us or by them. Default: the logger of the node that started the server.
	Logger *slog.Logger
}

// New returns an opener for [backplane.Open] that uses the server the options describe. What is wrong with the options is
// reported by the opener, with an error that wraps [transport.ErrInvalidOption]; so is, when a node is opened, what turns
// out to be wrong: an address in use, a peer with the same Name, another Cluster or another Secret.
//
// [backplane.Open]: https://pkg.go.dev/github.com/gobackplane/backplane#Open
func New(o Options) transport.Opener {
	set, err := o.settings()
	if err != nil {
		return func(transport.Config) (transport.Transport, error) { return nil, err }
	}
	return newHost(set).open
}

// URL is New with nothing but a URL; see [Options.URL].
func URL(rawurl string) transport.Opener { return New(Options{URL: rawurl}) }
