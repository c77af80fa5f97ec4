//go:build race

package integration_test

import (
	"testing"

	"github.com/gobackplane/backplane/conformance"
)

// raced: everything takes five times as much of a processor. What is smaller then is run in full without the race detector, by
// make test, and .ci/run does both.
const raced = true

// sized makes a run of the suite short. In full size it is run under the race detector once for each of our transports, which
// TestConformanceRedis and TestConformanceNATS are: what differs in the others is the server, into which it does not see.
func sized(opts ...conformance.Option) []conformance.Option { return append(opts, conformance.Short()) }

// beside lets a test of hubs run beside others. Two of them at once, dozens of farms each, would starve each other.
func beside(*testing.T) {}
