package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gobackplane/backplane/conformance"
)

// judge judges histories again.
func judge(args []string, stdin io.Reader, stdout io.Writer) (status int, err error) {
	if len(args) == 0 {
		return undone, errors.New("no history: write backplane judge FILE..., with the files that a failure left behind")
	}
	for _, name := range args {
		if strings.HasPrefix(name, "-") && name != "-" {
			return undone, fmt.Errorf("judge has no flag %q", name)
		}
	}
	for _, name := range args {
		h, err := readHistory(name, stdin)
		if err != nil {
			return undone, err
		}
		failures := h.Judge()
		sayf(stdout, "%s: a history of %s, suite %s, seed %s, which was %s then; %d rules are broken\n",
			name, h.Property, h.Suite, h.Seed, h.Verdict, len(failures))
		if len(failures) == 0 && h.Witness != "" {
			sayf(stdout, "    What was seen then shows in no rule: %s\n", h.Witness)
		}
		for _, f := range failures {
			sayf(stdout, "\n%v\n", f)
			status = broken
		}
		sayf(stdout, "\n")
	}
	return status, nil
}

func readHistory(name string, stdin io.Reader) (conformance.History, error) {
	if name == "-" {
		return conformance.ReadHistory(stdin)
	}
	f, err := os.Open(name) //nolint:gosec // where the user said
	if err != nil {
		return conformance.History{}, err
	}
	h, err := conformance.ReadHistory(f)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return h, errors.Join(err, f.Close())
}
