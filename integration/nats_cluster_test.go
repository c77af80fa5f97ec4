package integration_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/integration/natsserver"
)

// allOf stops and starts all servers of a cluster.
type allOf struct{ *natsserver.Cluster }

func (c allOf) Stop() {
	for _, s := range c.Servers {
		s.Stop()
	}
}

func (c allOf) TryRestart() error {
	for _, s := range slices.Backward(c.Servers) { // each connects to those behind it
		if err := s.TryRestart(); err != nil {
			return err
		}
	}
	return c.TryAwait()
}

// spread gives the instances of a property different servers of a cluster. They are called n1, n2, …, and n2.2 when n2 is
// opened a second time.
func spread(c *natsserver.Cluster) func(conformance.Instance) string {
	return func(in conformance.Instance) string {
		k := 0
		for digit := range strings.SplitSeq(in.Name[1:], ".") {
			n, err := strconv.Atoi(digit)
			if err != nil {
				panic("not the name of an instance: " + in.Name)
			}
			k += n
		}
		return c.Servers[k%len(c.Servers)].URL()
	}
}

// Under the race detector a long stream is left out, which would be half of this test's time. So is model/random always: it
// demands that what was taken is heard and not told as a gap, also of an instance that hung while another one came and found
// itself alone. In a cluster that is a gap (docs/decisions/0019-barriers-over-members.md).
func TestConformanceNATSCluster(t *testing.T) {
	cluster := natsserver.StartCluster(t, 3, natsserver.Options{})
	conformance.Test(t, natsAt(spread(cluster)), restartsNATS(allOf{cluster}), conformance.Strict(overTCP...), ours,
		conformance.Only(func(p conformance.Property) bool {
			return p.ID != "model/random" && (!raced || p.ID != "deliver/volume")
		}),
		conformance.Subject("nats-cluster", cluster.Servers[0].Version()+", three servers"))
}
