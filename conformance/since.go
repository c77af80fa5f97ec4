package conformance

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Since pins the version of the suite that the backplane is held to, "v1" or "v1.2": a younger property is run and
// reported, and if it fails it is [Provisional], which warns and fails nothing. So an update of this module breaks
// nobody's tests, and says what will be asked next. The default is to be held to all. A text that is no version, and
// one that this suite has not reached, is refused before anything is opened.
func Since(version string) Option {
	v, err := parseVersion(version)
	if err == nil && v.after(mustVersion(Version)) {
		err = errNotYet
	}
	if err != nil {
		err = fmt.Errorf("Since(%q) in suite %s: %w", version, Version, err)
	}
	return func(s *settings) { s.since, s.sinceErr = v, err }
}

var (
	errNoVersion = errors.New(`no version of the suite; write "v1" or "v1.2"`)
	errNotYet    = errors.New("a version that this suite has not reached")
)

// version is a version of the suite. The zero version pins nothing.
type version struct{ major, minor int }

func parseVersion(text string) (version, error) {
	numbers, ok := strings.CutPrefix(text, "v")
	major, minor, two := strings.Cut(numbers, ".")
	if !two {
		minor = "0"
	}
	a, errA := strconv.ParseUint(major, 10, 31)
	b, errB := strconv.ParseUint(minor, 10, 31)
	if !ok || errA != nil || errB != nil || a == 0 {
		return version{}, errNoVersion
	}
	return version{int(a), int(b)}, nil
}

func mustVersion(text string) version {
	v, err := parseVersion(text)
	if err != nil {
		panic(fmt.Sprintf("conformance: %q: %v", text, err))
	}
	return v
}

func (v version) after(w version) bool {
	return v.major > w.major || v.major == w.major && v.minor > w.minor
}

// String returns the version as it is written, "" for the zero version.
func (v version) String() string {
	switch {
	case v == version{}:
		return ""
	case v.minor == 0:
		return fmt.Sprintf("v%d", v.major)
	default:
		return fmt.Sprintf("v%d.%d", v.major, v.minor)
	}
}

// provisional reports whether a property is younger than what the backplane is held to.
func (s *suite) provisional(p Property) bool {
	return s.since != version{} && mustVersion(p.Since).after(s.since)
}
