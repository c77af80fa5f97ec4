package conformance

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
)

// Every fault leaves its mark and can be healed, whether the instance dials or the opener gives the faults.
func TestFaultsAreMarked(t *testing.T) {
	var given []string
	note := func(what string) func() { return func() { given = append(given, what) } }
	all := Faults{
		Cut: note("cut"), Hang: note("hang"), Deafen: note("deafen"), Mute: note("mute"), Lose: note("lose"), Heal: note("heal"),
	}
	inject := Inject(func(Instance, backplane.Backplane) Faults { return all })
	wire := func(s *settings) {
		s.dial = func(context.Context, string, string) (net.Conn, error) {
			near, _ := net.Pipe()
			return near, nil
		}
	}
	for name, dials := range map[string]bool{"dials": true, "given": false} {
		t.Run(name, func(t *testing.T) {
			given = nil
			open, _ := toys(nil)
			s := newSuite(func(ctx context.Context, in Instance) (backplane.Backplane, error) {
				if dials {
					c, err := in.Dial(ctx, "tcp", "")
					if err != nil {
						return nil, err
					}
					defer func() { _ = c.Close() }()
				}
				return open(ctx, in)
			}, []Option{inject, wire, Short(), Linger(time.Millisecond)})
			var marks []string
			r := s.prove(t.Context(), Property{ID: "test/faults", run: func(w *world) {
				n := w.openAll(1)[0]
				n.heal() // nothing to heal
				faults := []func(){n.cut, n.hang, n.deafen, n.mute, n.lose}
				if !n.canDeafen() || !n.canMute() || !n.canLose() {
					w.fatalf("it cannot do what it was given")
				}
				if dials {
					faults = append(faults, func() { n.delay(time.Millisecond) }, func() { n.sip(1) }, func() { n.tearAfter(1) }, func() { n.refuse(1) })
				}
				for _, f := range faults {
					f()
					n.heal()
				}
				for _, m := range w.rec.snapshot().Marks {
					marks = append(marks, m.Kind)
				}
			}})
			if r.Verdict != Proven {
				t.Fatal(r.Err)
			}
			want := []string{"cut", "heal", "hang", "heal", "deafen", "heal", "mute", "heal", "lose", "heal"}
			wantGiven := want
			if dials {
				want = append(slices.Clone(want), "delay", "heal", "sip", "heal", "tear", "heal", "refuse", "heal")
				wantGiven = []string{"heal", "heal", "heal", "heal", "lose", "heal", "heal", "heal", "heal", "heal"}
			}
			if !slices.Equal(marks, want) {
				t.Errorf("marks %v, want %v", marks, want)
			}
			if !slices.Equal(given, wantGiven) {
				t.Errorf("given %v, want %v", given, wantGiven)
			}
		})
	}
}
