package conformance

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"
)

// What is wrong with the options is told at once, before any instance is opened: a run that proves something else than
// what was asked for is worse than none.

// minPayload is the smallest largest payload that the suite can work with.
const minPayload = 2 << 10

var (
	errNoLink       = errors.New("has no link: say where the failure is written down, https://example.org/issues/7")
	errNoAbility    = fmt.Errorf("no such ability; there are %v", allAbilities())
	errNoOpener     = errors.New("there is no Opener")
	errNoTime       = errors.New("it has to be a time above 0")
	errUnreadable   = errors.New("what the environment says makes no sense")
	errSmallPayload = fmt.Errorf("the suite needs at least %d", minPayload)
)

// refusal is an option that does not fit, and the property that it names, if it does.
type refusal struct {
	id  string
	err error
}

// positive notes an option that has to be more than 0 and is not.
func (s *settings) positive(option string, d time.Duration) {
	if d <= 0 {
		s.wrong = append(s.wrong, fmt.Errorf("%s(%v): %w", option, d, errNoTime))
	}
}

// isLink reports whether a text leads somewhere.
func isLink(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// refusals returns all that is wrong with the options.
func (s *suite) refusals() []refusal {
	var all []refusal
	refuse := func(id, format string, args ...any) {
		all = append(all, refusal{id, fmt.Errorf("conformance: "+format, args...)}) //nolint:err113 // wraps one
	}
	if s.open == nil {
		refuse("", "%w", errNoOpener)
	}
	for _, err := range s.wrong {
		refuse("", "%w", err)
	}
	if s.sinceErr != nil {
		refuse("", "%w", s.sinceErr)
	}
	if n := s.maxPayload; n != 0 && n < minPayload {
		refuse("", "MaxPayload(%d): %w", n, errSmallPayload)
	}
	for _, a := range s.claims {
		if !slices.Contains(allAbilities(), a) { // it would be claimed, and nobody would look
			refuse("claims/honest", "Claims(%q): %w", a, errNoAbility)
		}
	}
	for _, id := range s.except {
		if _, err := find(id); err != nil {
			refuse(id, "Strict(%q): %w", id, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.known)) {
		link := s.known[id]
		if _, err := find(id); err != nil { // it may have been renamed
			refuse(id, "Known(%q, %q): %w", id, link, err)
		}
		if !isLink(link) {
			refuse(id, "Known(%q, %q) %w", id, link, errNoLink)
		}
	}
	return all
}

// refused are refusals as the results of a run in which nothing else was judged.
func refused(all []refusal) []Result {
	results := make([]Result, len(all))
	for i, r := range all {
		results[i] = Result{Property: Property{ID: r.id}, Verdict: Failed, Err: r.err}
	}
	return results
}
