package integration_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

// natsAt opens instances at NATS servers by URL, through the suite's dialer. They come back soon: a link is one connection, and
// link/torn tears it again and again, so that an instance would rest for ReconnectMax each time and the property take 20 s.
func natsAt(url func(conformance.Instance) string) conformance.Opener {
	return conformance.Transport(func(in conformance.Instance) transport.Opener {
		return nats.New(nats.Options{URL: url(in), Dialer: in.Dial})
	}, backplane.Options{ReconnectMax: 100 * time.Millisecond})
}

// at is the URL for all instances.
func at(url string) func(conformance.Instance) string {
	return func(conformance.Instance) string { return url }
}

// A natsBroker is one or several servers that can be stopped and started again, which then have forgotten everything.
type natsBroker interface {
	Stop()
	TryRestart() error
}

// killed is a natsBroker of processes: they are killed.
type killed struct{ processes }

type processes interface {
	Kill()
	TryRestart() error
}

func (k killed) Stop() { k.Kill() }

func restartsNATS(b natsBroker) conformance.Option {
	return conformance.Broker(
		func(context.Context, string) error { b.Stop(); return nil },
		func(context.Context, string) error { return b.TryRestart() },
	)
}

func TestConformanceNATS(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{})
	conformance.Test(t, natsAt(at(server.URL())), restartsNATS(server), conformance.Strict(overTCP...), ours,
		conformance.Subject("nats", server.Version()))
}

// A process of its own ends as a crash does.
func TestConformanceNATSProcess(t *testing.T) {
	t.Parallel()
	server := natsserver.StartProcess(t, natsserver.Options{})
	conformance.Test(t, natsAt(at(server.URL())), sized(restartsNATS(killed{server}), conformance.Strict(overTCP...), ours)...)
}

// Under TLS and with permissions the short form is enough: all that is different is how a connection is made, and what a
// name may be.
func TestConformanceNATSTLS(t *testing.T) {
	t.Parallel()
	server := natsserver.Start(t, natsserver.Options{TLS: true, ClientCert: true})
	conformance.Test(t, natsAt(at(server.URL())), restartsNATS(server), conformance.Strict(overTCP...), ours, conformance.Short())
}

// Every instance logs in as a user that may use nothing but its own namespace, of which the suite draws one for each
// property.
func TestConformanceNATSPermissions(t *testing.T) {
	t.Parallel()
	server := natsserver.Start(t, natsserver.Options{Namespaces: true})
	conformance.Test(t, natsAt(func(in conformance.Instance) string { return server.URLAs(in.Namespace, "secret") }),
		restartsNATS(server), conformance.Strict(overTCP...), ours, conformance.Short())
}

// confined is a user of one namespace, as the documentation says.
func confined(namespace string) string {
	return fmt.Sprintf(`user: %s, password: secret, permissions: {publish: ["%s.>"], subscribe: ["%s.>"]}`, namespace, namespace, namespace)
}
