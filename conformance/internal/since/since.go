// Package since knows the versions of a suite, so that what is proven can be held to an older one.
package since

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What is wrong with a version that a run is to be held to.
var (
	ErrNoVersion = errors.New(`no version of the suite; write "v1" or "v1.2"`)
	ErrNotYet    = errors.New("a version that this suite has not reached")
)

// Version is a version of a suite. The zero value pins nothing.
type Version struct{ major, minor int }

// Pin reads what Since was given, in a suite of a version.
func Pin(text, suite string) (Version, error) {
	v, err := Parse(text)
	if err == nil && v.After(Must(suite)) {
		err = ErrNotYet
	}
	if err != nil {
		err = fmt.Errorf("Since(%q) in suite %s: %w", text, suite, err)
	}
	return v, err
}

// Parse reads a version.
func Parse(text string) (Version, error) {
	numbers, ok := strings.CutPrefix(text, "v")
	major, minor, two := strings.Cut(numbers, ".")
	if !two {
		minor = "0"
	}
	a, errA := strconv.ParseUint(major, 10, 31)
	b, errB := strconv.ParseUint(minor, 10, 31)
	if !ok || errA != nil || errB != nil || a == 0 {
		return Version{}, ErrNoVersion
	}
	return Version{int(a), int(b)}, nil
}

// Must reads a version that is a part of the suite.
func Must(text string) Version {
	v, err := Parse(text)
	if err != nil {
		panic(fmt.Sprintf("conformance: %q: %v", text, err))
	}
	return v
}

// After reports whether v is younger.
func (v Version) After(w Version) bool {
	return v.major > w.major || v.major == w.major && v.minor > w.minor
}

// Younger reports whether what is in the suite since a version is younger than the one that is pinned.
func (v Version) Younger(since string) bool { return v != Version{} && Must(since).After(v) }

// String returns the version as it is written, "" for the zero version.
func (v Version) String() string {
	switch {
	case v == Version{}:
		return ""
	case v.minor == 0:
		return fmt.Sprintf("v%d", v.major)
	default:
		return fmt.Sprintf("v%d.%d", v.major, v.minor)
	}
}
