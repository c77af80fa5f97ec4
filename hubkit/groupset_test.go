package hubkit

import (
	"fmt"
	"slices"
	"testing"

	"github.com/gobackplane/backplane"
)

// A set of groups is the same whether it holds few or many, and on the way from one to the other.
func TestGroupSet(t *testing.T) {
	var s groupSet
	in := make(map[string]*membership)
	check := func(what string) {
		t.Helper()
		var names []string
		for name, m := range in {
			if s.get(name) != m {
				t.Errorf("%s: %s is not there", what, name)
			}
			names = append(names, name)
		}
		slices.Sort(names)
		all := 0
		for m := range s.all() {
			if in[m.topic.addr.Name()] != m {
				t.Errorf("%s: all yields %s", what, m.topic.addr.Name())
			}
			all++
		}
		if got := s.names(); !slices.Equal(got, names) || all != len(in) || s.get("nobody") != nil || s.remove("nobody") != nil {
			t.Errorf("%s: %q and %d in all, want %q", what, got, all, names)
		}
	}
	check("empty")
	for i := range 3 * fewGroups {
		name := fmt.Sprintf("g%02d", i*7%(3*fewGroups))
		in[name] = &membership{topic: &topic{addr: backplane.Group(name)}}
		s.add(in[name])
		check("added " + name)
		if i%3 == 2 {
			if m := s.remove(name); m != in[name] {
				t.Errorf("%s was not removed", name)
			}
			delete(in, name)
			check("removed " + name)
		}
	}
	for name, m := range in {
		if s.remove(name) != m {
			t.Errorf("%s was not removed", name)
		}
		delete(in, name)
		check("removed " + name)
	}
}
