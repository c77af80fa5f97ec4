package conformance

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gobackplane/backplane"
)

// What is wrong with the opener is told once, not by each property in full.
func TestUnopenedIsToldOnce(t *testing.T) {
	cause := errors.New("there is no broker at this address")
	r := Check(t.Context(), func(context.Context, Instance) (backplane.Backplane, error) { return nil, cause }, Short())
	full := 0
	for _, result := range r.Results {
		switch {
		case result.Verdict == Skipped || result.Verdict == NotExercised || result.Verdict == NotClaimed:
			continue
		case result.Verdict != Failed || !errors.Is(result.Err, cause):
			t.Errorf("%s: %v, %v", result.Property.ID, result.Verdict, result.Err)
		case strings.Contains(result.Err.Error(), cause.Error()):
			full++
		}
	}
	if most := 8; full < 1 || full > most { // the instances' names differ
		t.Errorf("the cause was told %d times, want at most %d", full, most)
	}
}
