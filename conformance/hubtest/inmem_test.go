package hubtest_test

import (
	"testing"

	"github.com/gobackplane/backplane/conformance/hubtest"
)

func TestInMemory(t *testing.T) {
	hubtest.Test(t, inMemory(), hubtest.Bubble(), hubtest.Strict())
}
