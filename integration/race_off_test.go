//go:build !race

package integration_test

import (
	"testing"

	"github.com/gobackplane/backplane/conformance"
)

const raced = false

func sized(opts ...conformance.Option) []conformance.Option { return opts }

func beside(t *testing.T) {
	t.Helper()
	t.Parallel()
}
