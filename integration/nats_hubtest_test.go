package integration_test

import (
	"testing"

	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/integration/natsserver"
)

func TestHubNATS(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{JetStream: true})
	hubtest.Test(t, hubtest.Over(natsAt(at(server.URL()))), hubtest.Strict(needsBubble))
}
