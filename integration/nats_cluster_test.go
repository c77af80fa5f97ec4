package integration_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/integration/natsserver"
)

// spread gives the instances of a property different servers. They are called n1, n2, …, and n2.2 when n2 is
// opened a second time.
func spread(urls []string) func(conformance.Instance) string {
	return func(in conformance.Instance) string {
		k := 0
		for digit := range strings.SplitSeq(in.Name[1:], ".") {
			n, err := strconv.Atoi(digit)
			if err != nil {
				panic("not the name of an instance: " + in.Name)
			}
			k += n
		}
		return urls[k%len(urls)]
	}
}

func TestConformanceNATSCluster(t *testing.T) {
	t.Parallel()
	cluster := natsserver.StartCluster(t, 3, natsserver.Options{})
	conformance.Test(t, natsAt(spread(cluster.URLs())), sized(restartsNATS(cluster), conformance.Baselines(), ours,
		conformance.Strict(slices.Concat(overTCP, []string{"link/lost-first"})...),
		conformance.Subject("nats-cluster", cluster.Servers[0].Version()+", three servers"))...)
}

// Three processes, all of which are killed and started again where the suite restarts its broker; see also TestConformanceNATSProcess.
func TestConformanceNATSProcesses(t *testing.T) {
	t.Parallel()
	cluster := natsserver.StartProcesses(t, 3, natsserver.Options{})
	conformance.Test(t, natsAt(spread(cluster.URLs())), sized(restartsNATS(killed{cluster}), conformance.Strict(overTCP...), ours,
		conformance.Only(func(p conformance.Property) bool { return p.ID != "model/random" }))...)
}
