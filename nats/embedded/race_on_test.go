//go:build race

package embedded

import "github.com/gobackplane/backplane/conformance"

// sized makes a run of the suite short, as in module integration: everything takes five times as much of a processor. It is run
// in full without the race detector, by make test, and .ci/run does both.
func sized(opts ...conformance.Option) []conformance.Option { return append(opts, conformance.Short()) }
