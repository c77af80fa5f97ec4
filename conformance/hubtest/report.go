package hubtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gobackplane/backplane/conformance"
)

// Result is what came out for one property. The verdicts are those of package conformance.
type Result struct {
	Property Property
	Verdict  conformance.Verdict
	Err      error // nil for a proven one; a *Failure, by errors.As, for a broken promise
	Took     time.Duration
}

const (
	proven       = conformance.Proven
	failed       = conformance.Failed
	notExercised = conformance.NotExercised
	knownFailing = conformance.KnownFailing
	skipped      = conformance.Skipped
	provisional  = conformance.Provisional
)

func (r Result) why() string {
	if r.Err == nil {
		return "it takes seconds"
	}
	return r.Err.Error()
}

// Report is what came out for all properties, in the order of [Properties].
type Report struct{ Results []Result }

// Err is nil if no property failed, else it joins the failures.
func (r *Report) Err() error {
	var errs []error
	for _, result := range r.Results {
		if result.Verdict == failed {
			errs = append(errs, result.Err)
		}
	}
	return errors.Join(errs...)
}

// Count tells how many properties have a verdict.
func (r *Report) Count(v conformance.Verdict) int {
	n := 0
	for _, result := range r.Results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// Summary is one line with the counts, and one for each property that is not exercised.
func (r *Report) Summary() string {
	var counts []string
	for _, v := range []conformance.Verdict{failed, proven, notExercised, knownFailing, provisional, skipped} {
		if n := r.Count(v); n > 0 || v == proven || v == notExercised {
			counts = append(counts, fmt.Sprintf("%d %v", n, v))
		}
	}
	lines := []string{"hub conformance " + Version + ": " + strings.Join(counts, ", ")}
	for _, result := range r.Results {
		if result.Verdict == notExercised {
			lines = append(lines, fmt.Sprintf("  not exercised: %s: %s", result.Property.ID, result.why()))
		}
	}
	return strings.Join(lines, "\n")
}

// Failure is the error of a broken property.
type Failure struct { //nolint:errname // it is what package testing calls a failure
	Property Property
	Witness  string   // the clearest sight of it, one sentence
	Timeline []string // what happened before, at most 12 lines
	// Waited says that it was seen only by waiting in vain: for a call to return, or for something to come.
	Waited bool

	err error // what a call returned, if that was it
}

// Error tells the promise, the witness, what happened before it, and the usual causes.
func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "    broke %s (%s): %s\n    %s\n", f.Property.ID, f.Property.Contract, f.Property.Says, f.Witness)
	if len(f.Timeline) > 0 {
		b.WriteString("\n      " + strings.Join(f.Timeline, "\n      ") + "\n")
	}
	if f.Property.Often != "" {
		b.WriteString("\n    Often: " + f.Property.Often)
	}
	return strings.TrimRight(b.String(), "\n")
}

// Unwrap returns the error that a call returned unexpectedly, if that is what happened.
func (f *Failure) Unwrap() error { return f.err }

// event is one thing that happened in a world.
type event struct {
	at     time.Duration
	text   string
	about  []string // keys of the clients, groups and users concerned; empty for what concerns all
	result string
}

// timelineLines is the most that a failure shows.
const timelineLines = 12

// timeline shows the newest events that concern who has some keys, or all events where there are none. What happens several times in a
// row is one line, with the time of the first.
func timeline(events []event, about []string) []string {
	var lines []string
	last, times := "", 0
	for _, e := range slices.Backward(events) {
		if len(about) > 0 && len(e.about) > 0 && !slices.ContainsFunc(e.about, func(c string) bool { return slices.Contains(about, c) }) {
			continue
		}
		text, count := e.text+e.result, ""
		if times++; text != last {
			if len(lines) == timelineLines {
				break
			}
			lines, last, times = append(lines, ""), text, 1
		}
		if times > 1 {
			count = fmt.Sprintf(" (%d times)", times)
		}
		lines[len(lines)-1] = fmt.Sprintf("%9.3f ms  %s%s", float64(e.at)/float64(time.Millisecond), text, count)
	}
	slices.Reverse(lines)
	return lines
}
