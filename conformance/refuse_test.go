package conformance

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
)

// What does not fit is refused before anything is opened, by each of the three ways to run.
func TestOptionsThatDoNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		option Option
		say    []string
	}{
		"known, but not here": {Known("no/such", "https://example.org/7"), []string{`Known("no/such"`, "no such property"}},
		"known without link":  {Known("order/sizes", " "), []string{`Known("order/sizes", " ")`, "has no link"}},
		"known, and no link":  {Known("order/sizes", "soon"), []string{`Known("order/sizes", "soon")`, "has no link"}},
		"no patience":         {Patience(-time.Second), []string{"Patience(-1s)", "above 0"}},
		"none at all":         {Patience(0), []string{"Patience(0s)", "above 0"}},
		"no linger":           {Linger(-1), []string{"Linger(-1ns)", "above 0"}},
		"no soak":             {Soak(0, nil), []string{"Soak(0s)", "above 0"}},
		"strict but for what": {Strict("no/such"), []string{`Strict("no/such")`, "no such property"}},
		"no version":          {Since("1"), []string{`Since("1")`, `write "v1"`}},
		"a version to come":   {Since("v999"), []string{`Since("v999")`, "has not reached"}},
		"no version at all":   {Since(""), []string{`Since("")`, `write "v1"`}},
		"a strange claim":     {Claims(AbilityHealth, "backplane.Storage"), []string{`Claims("backplane.Storage")`, "no such ability", string(AbilityCluster)}},
		"a tiny payload":      {MaxPayload(100), []string{"MaxPayload(100)", "2048"}},
	} {
		t.Run(name, func(t *testing.T) {
			open := func(context.Context, Instance) (backplane.Backplane, error) {
				t.Error("an instance was opened")
				return nil, errors.New("no")
			}
			report := Check(t.Context(), open, c.option)
			r := Run(t.Context(), "deliver/self", open, c.option)
			if r.Verdict != Failed || report.Count(Failed) != 1 || len(report.Results) != 1 {
				t.Fatalf("%v, %s", r.Verdict, report.Summary())
			}
			for _, say := range c.say {
				if !strings.Contains(r.Err.Error(), say) || !strings.Contains(report.Err().Error(), say) {
					t.Errorf("%v and %v do not say %q", r.Err, report.Err(), say)
				}
			}
		})
	}
	for name, text := range map[string]string{"CONFORMANCE_SEED": "x51", "CONFORMANCE_PATIENCE": "10"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, text)
			open, faults := toys(nil)
			if r := Run(t.Context(), "deliver/self", open, faults, Short()); r.Verdict != Failed || !strings.Contains(r.Err.Error(), name+`="`+text+`"`) {
				t.Errorf("%v: %v", r.Verdict, r.Err)
			}
		})
	}
	if r := Run(t.Context(), "deliver/self", nil); r.Verdict != Failed || !errors.Is(r.Err, errNoOpener) {
		t.Errorf("no opener: %v", r.Err)
	}
}
