package conformance

// shrink returns the smallest schedule that fails still: chunks of steps are left out, then instances, then single steps
// are made simpler, until nothing more can go or enough was tried. fails runs a schedule in a fresh world; more is asked
// before each such run.
func shrink(s schedule, fails func(schedule) bool, more func() bool) schedule {
	try := func(candidate schedule) bool {
		if !more() || !fails(candidate) {
			return false
		}
		s = candidate
		return true
	}
	try(s.withoutPauses()) // which are what takes the time
	for smaller := true; smaller && more(); {
		smaller = false
		for node := s.instances - 1; node >= 0 && s.instances > 1; node-- {
			smaller = try(s.withoutInstance(node)) || smaller
		}
		for chunk := max(1, len(s.steps)/2); chunk > 0; chunk /= 2 {
			for from := len(s.steps) - chunk; from >= 0; { // from behind: what comes after the failure goes first
				if try(s.without(from, from+chunk)) {
					smaller = true
				}
				from = min(from, len(s.steps)) - chunk
			}
		}
		if smaller {
			continue
		}
		for i := range s.steps {
			for _, st := range s.steps[i].simpler() {
				if try(s.with(i, st)) {
					smaller = true
					break
				}
			}
		}
	}
	return s
}
