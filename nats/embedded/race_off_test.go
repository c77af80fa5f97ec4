//go:build !race

package embedded

import "github.com/gobackplane/backplane/conformance"

func sized(opts ...conformance.Option) []conformance.Option { return opts }
