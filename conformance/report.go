package conformance

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Verdict is what came out for a property.
type Verdict uint8

// The verdicts.
const (
	Proven       Verdict = iota + 1 // the promise was put to the test, and held
	Failed                          // it was broken; Result.Err tells how
	NotExercised                    // nobody could put it to the test: a hook is missing, Result.Err tells which
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
	link    string // where a known failure is written down
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

// Failure is the error of a broken property.
type Failure struct { //nolint:errname // it is what package testing calls a failure
	Property Property
	Rule     string   // the rule that was broken: "order", "once", …; "" where the property itself saw it
	Witness  string   // the clearest sight of it, one sentence
	More     int      // how often else the same rule was broken
	Timeline []string // what happened around it, at most 12 lines
	Detail   string   // what goroutines were doing, where that helps
	Log      string   // the newest lines that the instances logged
	// Transport is the rule of package transport that is usually broken when this property fails; "" for what was not
	// opened by [Transport].
	Transport string

	err error // what a verb returned, if that was it
}

// Error tells the promise, the witness, what happened around it, and the usual causes.
func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "    broke %s: %s\n", f.Property.ID, f.Property.Says)
	if f.Rule != "" && !f.Property.isAbout(f.Rule) {
		for _, r := range allRules() {
			if r.name == f.Rule {
				fmt.Fprintf(&b, "    On the way to it another promise broke (%s): %s.\n", r.home, r.says)
			}
		}
	}
	fmt.Fprintf(&b, "    %s\n", f.Witness)
	if f.More > 0 {
		fmt.Fprintf(&b, "    (And %d more of that kind.)\n", f.More)
	}
	if len(f.Timeline) > 0 {
		b.WriteString("\n      " + strings.Join(f.Timeline, "\n      ") + "\n")
	}
	if f.Property.Often != "" {
		fmt.Fprintf(&b, "\n    Often: %s", f.Property.Often)
	}
	if f.Transport != "" {
		fmt.Fprintf(&b, "\n    Rule of package transport: %s", f.Transport)
	}
	if f.Log != "" {
		b.WriteString("\n    Log:\n      " + strings.ReplaceAll(f.Log, "\n", "\n      "))
	}
	if f.Detail != "" {
		b.WriteString("\n    Goroutines:\n" + f.Detail)
	}
	return strings.TrimRight(b.String(), "\n")
}

// Unwrap returns the error that a verb returned unexpectedly, if that is what happened.
func (f *Failure) Unwrap() error { return f.err }

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

// Summary is one line with the counts, and one for each reason why something was not exercised or only warns.
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

// isAbout reports whether a rule is one that the property is to prove.
func (p Property) isAbout(rule string) bool { return slices.Contains(p.about, rule) }

// choose returns the violation that tells most: of a rule that the property is about, else of the first rule broken.
func choose(all []violation, p Property) (best violation, found bool) {
	for _, v := range all {
		if p.isAbout(v.Rule) {
			return v, true
		}
	}
	if len(all) > 0 {
		return all[0], true
	}
	return violation{}, false
}
