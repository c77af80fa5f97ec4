package integration_test

import (
	"testing"

	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/integration/natsserver"
)

// Hubs of instances at three servers. They are without JetStream, and so the hubs without the store, which TestHubNATS proves: a
// cluster that makes two dozen buckets at a time takes longer on two processors than a node waits for it.
func TestHubNATSCluster(t *testing.T) {
	beside(t)
	cluster := natsserver.StartCluster(t, 3, natsserver.Options{})
	hubtest.Test(t, hubtest.Over(natsAt(spread(cluster.URLs()))),
		hubtest.Strict(needsBubble, "user/future", "user/leave", "user/time", "user/survives"))
}
