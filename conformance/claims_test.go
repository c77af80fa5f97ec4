package conformance

import (
	"testing"
	"testing/synctest"

	"github.com/gobackplane/backplane/conformance/internal/mutant"
)

func TestClaimsAreComparedBothWays(t *testing.T) {
	for _, c := range []struct {
		name    string
		foreign bool
		opts    []Option
		verdict Verdict
	}{
		{"engine, all claimed", false, []Option{Claims(Health, Cluster)}, Proven},
		{"engine, one not claimed", false, []Option{Claims(Cluster)}, Failed},
		{"engine, none claimed", false, []Option{Claims()}, Failed},
		{"engine, nothing said", false, nil, NotClaimed},
		{"foreign, none claimed", true, []Option{Claims()}, Proven},
		{"foreign, one claimed", true, []Option{Claims(Cluster)}, Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open, _ := opener(mutant.Mutant{Name: healthy})
				if c.foreign {
					open, _ = toys(nil)
				}
				if r := Run(t.Context(), "claims/honest", open, append(c.opts, Bubble(), Short())...); r.Verdict != c.verdict {
					t.Errorf("%v: %v", r.Verdict, r.Err)
				}
			})
		})
	}
}

// What is about an ability that the backplane does not have is not claimed, and that fails nobody.
func TestWhatABackplaneCannotIsNotClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, faults := toys(nil)
		about := Only(func(p Property) bool { return p.Ability != "" })
		report := Check(t.Context(), open, faults, Claims(), Bubble(), Strict(), about)
		if len(report.Results) == 0 || report.Count(NotClaimed) != len(report.Results) || report.Err() != nil {
			t.Errorf("%s\n%v", report.Summary(), report.Err())
		}
	})
}
