package integration_test

import (
	"testing"

	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/integration/natsserver"
)

func TestHubNATS(t *testing.T) {
	beside(t)
	server := natsserver.Start(t, natsserver.Options{JetStream: true})
	hubtest.Test(t, hubtest.Over(natsAt(at(server.URL()))), hubtest.Strict(needsBubble))
}

// Under the race detector, which does not see into a process of its own, the short form is enough.
func TestHubNATSProcess(t *testing.T) {
	beside(t)
	server := natsserver.StartProcess(t, natsserver.Options{JetStream: true})
	opts := []hubtest.Option{hubtest.Strict(needsBubble)}
	if raced {
		opts = append(opts, hubtest.Short())
	}
	hubtest.Test(t, hubtest.Over(natsAt(at(server.URL()))), opts...)
}
