package hubtest

import (
	"slices"

	"github.com/gobackplane/backplane/conformance"
)

// fault is what can be done to the instance's link.
func (s *seat) fault() (f conformance.Faults) {
	if s.link.Dials() > 0 {
		return conformance.Faults{Cut: s.link.Cut, Hang: s.link.Blackhole, Heal: s.link.Heal}
	}
	if given, is := s.node.(Faulter); is {
		return given.Faults()
	}
	return f
}

// canCut ends the property where the instance's link cannot be cut.
func (s *seat) canCut() {
	if f := s.fault(); f.Cut == nil || f.Heal == nil || slices.Contains(s.w.suite.without, AbilityCut) {
		s.w.without(AbilityCut)
	}
}

// sever cuts the instance's link.
func (s *seat) sever() {
	s.canCut()
	s.w.note(nil, "%s: its link is cut", s.name)
	s.setCut(true)
	s.fault().Cut()
}

// hang makes what the instance sends and gets stop, without closing anything.
func (s *seat) hang() {
	s.canCut()
	if s.fault().Hang == nil {
		s.w.without(AbilityCut)
	}
	s.w.note(nil, "%s: its link hangs", s.name)
	s.setCut(true)
	s.fault().Hang()
}

// heal ends what the faults did.
func (s *seat) heal() {
	s.w.note(nil, "%s: its link is healed", s.name)
	s.fault().Heal()
	s.setCut(false)
}

func (s *seat) setCut(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
}

// kill ends the instance without a goodbye.
func (s *seat) kill() {
	killer, can := s.node.(Killer)
	if !can {
		if f := s.fault(); f.Cut == nil || slices.Contains(s.w.suite.without, AbilityKill) {
			s.w.without(AbilityKill)
		}
	}
	s.w.note(nil, "%s: it is killed", s.name)
	s.setCut(true)
	if can {
		killer.Kill()
		return
	}
	s.fault().Cut()
}
