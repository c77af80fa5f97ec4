package conformance

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance/internal/mutant"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

func TestClaimsAreComparedBothWays(t *testing.T) {
	for _, c := range []struct {
		name    string
		foreign bool
		opts    []Option
		verdict Verdict
	}{
		{"engine, all claimed", false, []Option{Claims(AbilityHealth, AbilityCluster)}, Proven},
		{"engine, one not claimed", false, []Option{Claims(AbilityCluster)}, Failed},
		{"engine, none claimed", false, []Option{Claims()}, Failed},
		{"engine, nothing said", false, nil, NotClaimed},
		{"foreign, none claimed", true, []Option{Claims()}, Proven},
		{"foreign, one claimed", true, []Option{Claims(AbilityCluster)}, Failed},
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

// tardy is a node on a busy machine: those who are asked do not answer in time, some times in a row.
type tardy struct {
	*backplane.Node
	left *atomic.Int32
}

func (n tardy) AskAll(ctx context.Context, service string, request []byte) ([]backplane.Answer, error) {
	answers, err := n.Node.AskAll(ctx, service, request)
	if service == "shy" && n.left.Add(-1) >= 0 {
		for i := range answers {
			answers[i].Payload, answers[i].Err = nil, fmt.Errorf("late: %w", backplane.ErrUnavailable)
		}
	}
	return answers, err //nolint:wrapcheck // it stands in for the node
}

// Who answers late on a busy machine is given more time, and blamed only after that.
func TestWhoIsLateIsAskedAgain(t *testing.T) {
	for late, verdict := range map[int32]Verdict{0: Proven, 2: Proven, 100: Failed} {
		synctest.Test(t, func(t *testing.T) {
			broker, left := inmem.NewBroker(), new(atomic.Int32)
			left.Store(late)
			r := Run(t.Context(), "ask/answers", func(ctx context.Context, in Instance) (backplane.Backplane, error) {
				n, err := backplane.Open(ctx, broker.Opener(), backplane.Options{Namespace: in.Namespace})
				return tardy{n, left}, err //nolint:wrapcheck // the suite tells it
			}, Bubble(), Short())
			if r.Verdict != verdict {
				t.Errorf("%d late rounds: %v: %v", late, r.Verdict, r.Err)
			}
		})
	}
}

// What a transport can beyond the verbs is told at the head of the report.
func TestAbilitiesOfTransports(t *testing.T) {
	var found abilities
	_, err := found.under(func(transport.Config) (transport.Transport, error) {
		return struct {
			transport.Transport
			transport.Store
		}{}, nil
	})(transport.Config{})
	if got := strings.Join(found.names(), " "); err != nil || got != "transport.Store" {
		t.Errorf("%q, %v", got, err)
	}
}
