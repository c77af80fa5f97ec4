package conformance

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Verdict is what came out for a property.
type Verdict uint8

// The verdicts.
const (
	Proven       Verdict = iota + 1 // the promise was put to the test, and held
	Failed                          // it was broken; Result.Err tells how
	NotExercised                    // nobody could put it to the test, or not all of it: a hook is missing, Result.Err tells which
	KnownFailing                    // it was broken, and [Known] says so
	Skipped                         // left out by [Short]
	Provisional                     // it was broken, and is younger than what [Since] says
	NotClaimed                      // it is about an ability that the backplane does not have; never a failure
)

// String returns the verdict in words.
func (v Verdict) String() string {
	switch v {
	case Proven:
		return "proven"
	case Failed:
		return "failed"
	case NotExercised:
		return "not exercised"
	case KnownFailing:
		return "known failing"
	case Skipped:
		return "skipped"
	case Provisional:
		return "provisional"
	case NotClaimed:
		return "not claimed"
	default:
		return "invalid"
	}
}

// Result is what came out for one property.
type Result struct {
	Property Property
	Verdict  Verdict
	Err      error // nil for Proven and Skipped; a *Failure, by errors.As, for a broken promise
	Took     time.Duration
	Seed     uint64 // repeats the run, with [Seed]

	history history
	flags   string // of go test, which repeating it takes as well
	link    string // where a known failure is written down
	world   string // the name of the world it came out of
}

// WriteHistory writes all that happened as JSON lines: what came out, then one record each. [ReadHistory] reads it.
func (r Result) WriteHistory(w io.Writer) error {
	title := historyTitle{Suite: Version, Property: r.Property.ID, Verdict: r.Verdict.String(), Seed: fmt.Sprintf("%#x", r.Seed)}
	if f, ok := errors.AsType[*Failure](r.Err); ok {
		title.Witness = f.Witness
	}
	return r.history.write(w, title)
}

func (r Result) why() string {
	if r.Err == nil {
		return "it takes seconds"
	}
	return r.Err.Error()
}

// Report is what came out for all properties.
type Report struct {
	Head    Head
	Results []Result // in the order of [Properties]
}

// Count tells how many properties have a verdict.
func (r *Report) Count(v Verdict) int {
	n := 0
	for i := range r.Results {
		if r.Results[i].Verdict == v {
			n++
		}
	}
	return n
}

// Err is nil if no property failed, else it joins the failures.
func (r *Report) Err() error {
	var errs []error
	for i := range r.Results {
		if r.Results[i].Verdict == Failed {
			errs = append(errs, r.Results[i].Err)
		}
	}
	return errors.Join(errs...)
}

// Summary is one line with the counts, and one for each reason why something was not claimed, not exercised, or only warns.
func (r *Report) Summary() string {
	var b strings.Builder
	b.WriteString("conformance " + Version)
	if r.Head.Since != "" {
		b.WriteString(" held to " + r.Head.Since)
	}
	b.WriteString(": " + r.counts())
	var reasons []string
	ids := map[string][]string{}
	for i := range r.Results {
		var reason string
		switch result := &r.Results[i]; result.Verdict {
		case NotExercised:
			reason = "not exercised, because " + oneLine(result.why())
		case NotClaimed:
			reason = "not claimed, because " + oneLine(result.why())
		case Provisional:
			reason = "provisional, will fail once the run is held to " + result.Property.Since
		default:
			continue
		}
		if ids[reason] == nil {
			reasons = append(reasons, reason)
		}
		ids[reason] = append(ids[reason], r.Results[i].Property.ID)
	}
	for _, reason := range reasons {
		fmt.Fprintf(&b, "\n  %s: %s", reason, strings.Join(ids[reason], ", "))
	}
	return b.String()
}

// counts says how many properties have which verdict; the four that say how far the proof goes also where there are none.
func (r *Report) counts() string {
	var all []string
	for _, v := range []Verdict{Failed, Proven, NotClaimed, NotExercised, KnownFailing, Provisional, Skipped} {
		if n := r.Count(v); n > 0 || v == Proven || v == NotClaimed || v == KnownFailing || v == NotExercised {
			all = append(all, fmt.Sprintf("%d %v", n, v))
		}
	}
	return strings.Join(all, ", ")
}
