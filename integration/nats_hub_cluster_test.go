package integration_test

import (
	"testing"

	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/integration/natsserver"
)

func TestHubNATSCluster(t *testing.T) {
	cluster := natsserver.StartCluster(t, 3, natsserver.Options{JetStream: true})
	hubtest.Test(t, hubtest.Over(natsAt(spread(cluster))), hubtest.Strict(needsBubble))
}
