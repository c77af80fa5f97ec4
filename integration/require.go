// Package integration tests the module against real brokers and browsers. It is a module of its own, so that nobody who
// uses backplane inherits what these tests need.
package integration

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Missing ends a test for which a tool of this machine is missing: it skips, and says why. Where the environment's
// BACKPLANE_REQUIRE (a list: redis,browser,nginx) names the tool, the test fails instead.
func Missing(t testing.TB, tool, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("BACKPLANE_REQUIRE"), ","), tool) {
		t.Fatalf("%s is required by BACKPLANE_REQUIRE and missing: %s", tool, why)
	}
	t.Skipf("needs %s: %s", tool, why)
}
