package hubkit

import (
	"iter"
	"slices"
)

// groupSet holds a connection's memberships by group. Most connections are in a few: for these a list takes a quarter of what
// a map takes, and is no slower.
type groupSet struct {
	few  []*membership          // while there are at most fewGroups
	many map[string]*membership // beyond that, in place of few
}

const fewGroups = 8

func (s *groupSet) get(name string) *membership {
	if s.many != nil {
		return s.many[name]
	}
	if i := s.index(name); i >= 0 {
		return s.few[i]
	}
	return nil
}

// add adds the membership in a group that is not there.
func (s *groupSet) add(m *membership) {
	switch {
	case s.many != nil:
		s.many[m.topic.addr.Name()] = m
	case len(s.few) < fewGroups:
		s.few = append(s.few, m)
	default:
		s.many = make(map[string]*membership, 2*fewGroups)
		for _, old := range append(s.few, m) {
			s.many[old.topic.addr.Name()] = old
		}
		s.few = nil
	}
}

// remove takes the membership in a group out, and returns it; nil if there is none.
func (s *groupSet) remove(name string) *membership {
	if s.many != nil {
		m := s.many[name]
		delete(s.many, name)
		return m
	}
	i := s.index(name)
	if i < 0 {
		return nil
	}
	m := s.few[i]
	s.few = slices.Delete(s.few, i, i+1)
	return m
}

func (s *groupSet) index(name string) int {
	return slices.IndexFunc(s.few, func(m *membership) bool { return m.topic.addr.Name() == name })
}

// all returns the memberships, in no order.
func (s *groupSet) all() iter.Seq[*membership] {
	return func(yield func(*membership) bool) {
		for _, m := range s.few {
			if !yield(m) {
				return
			}
		}
		for _, m := range s.many {
			if !yield(m) {
				return
			}
		}
	}
}

// names returns the groups, sorted.
func (s *groupSet) names() []string {
	var names []string
	for m := range s.all() {
		names = append(names, m.topic.addr.Name())
	}
	slices.Sort(names)
	return names
}

// own returns the groups that the connection is in by itself, and not only as its user, sorted.
func (s *groupSet) own() []string {
	var names []string
	for m := range s.all() {
		if !m.granted {
			names = append(names, m.topic.addr.Name())
		}
	}
	slices.Sort(names)
	return names
}
