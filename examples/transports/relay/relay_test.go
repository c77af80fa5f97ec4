package relay_test

import (
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/examples/transports/relay"
	"github.com/gobackplane/backplane/transport"
)

func TestConformance(t *testing.T) {
	server := start(t) // a relay in a process of its own
	open := func(in conformance.Instance) transport.Opener {
		return relay.New(relay.Options{Address: server.address, Dial: in.Dial})
	}
	conformance.Test(t, conformance.Transport(open, backplane.Options{MaxPayload: relay.MaxPayload}),
		conformance.Broker(server.stop, server.restart),
		conformance.Strict("link/lost-middle", "link/lost-tail", "link/last-words", "clock/skew"))
}
