package integration_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

// storeless is a transport without its store.
type storeless struct {
	transport.Transport

	cluster transport.Clustered
}

// Clustered is a method of its own: embedded, the field of that name would hide it.
func (s storeless) Clustered(link transport.Link) bool { return s.cluster.Clustered(link) }

// Hubs of instances at three servers. Without the store, which TestHubNATS proves: a cluster that makes two dozen buckets at a time
// takes longer on two processors than a node waits for it.
func TestHubNATSCluster(t *testing.T) {
	cluster := natsserver.StartCluster(t, 3, natsserver.Options{})
	url := spread(cluster.URLs())
	open := func(in conformance.Instance) transport.Opener {
		return func(c transport.Config) (transport.Transport, error) {
			tr, err := nats.New(nats.Options{URL: url(in), Dialer: in.Dial})(c)
			if err != nil {
				return nil, err
			}
			clustered, ok := tr.(transport.Clustered)
			if !ok {
				return nil, errors.New("it cannot tell of a cluster")
			}
			return storeless{tr, clustered}, nil
		}
	}
	hubtest.Test(t, hubtest.Over(conformance.Transport(open, backplane.Options{ReconnectMax: 100 * time.Millisecond})),
		hubtest.Strict(needsBubble, "user/future", "user/leave", "user/time", "user/survives"))
}
