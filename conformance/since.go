package conformance

import "github.com/gobackplane/backplane/conformance/internal/since"

// Since pins the version of the suite that the backplane is held to, "v1" or "v1.2": a younger property is run and
// reported, and if it fails it is [Provisional], which warns and fails nothing. So an update of this module breaks
// nobody's tests, and says what will be asked next. The default is to be held to all. A text that is no version, and
// one that this suite has not reached, is refused before anything is opened.
func Since(version string) Option {
	v, err := since.Pin(version, Version)
	return func(s *settings) { s.since, s.sinceErr = v, err }
}

// provisional reports whether a property is younger than what the backplane is held to.
func (s *suite) provisional(p Property) bool { return s.since.Younger(p.Since) }
