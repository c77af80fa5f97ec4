package hubtest_test

import (
	"context"
	"fmt"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// A test file has hubtest.Test in the place of hubtest.Check, and needs no more.
func ExampleCheck() {
	broker := inmem.NewBroker()
	open := conformance.Transport(func(conformance.Instance) transport.Opener { return broker.Opener() }, backplane.Options{})
	report := hubtest.Check(context.Background(), hubtest.Over(open), hubtest.Only(func(p hubtest.Property) bool {
		return p.Contract == "H1" && !p.Slow
	}))
	fmt.Println(report.Summary())
	// Output: hub conformance v1: 9 proven, 0 not exercised
}
