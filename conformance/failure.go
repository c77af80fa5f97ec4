package conformance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Failure is the error of a broken property.
type Failure struct { //nolint:errname // it is what package testing calls a failure
	Property Property
	Rule     string   // the rule that was broken: "order", "once", …; "" where the property itself saw it
	Witness  string   // the clearest sight of it, one sentence
	More     int      // how often else the same rule was broken
	Schedule []string // what model/random had drawn: a line on it, then one for each step
	Timeline []string // what happened around it, at most 12 lines
	Detail   string   // what goroutines were doing, or a child process printed, where that helps
	Log      string   // the newest lines that the instances logged
	// Transport is the rule of package transport that is usually broken when this property fails; "" for what was not
	// opened by [Transport].
	Transport string

	err      error // what a verb returned, if that was it
	watchdog bool  // a call did not return although its context had ended
}

// Error tells the promise, the witness, what happened around it, and the usual causes.
func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "    broke %s: %s\n", f.Property.ID, f.Property.Says)
	said := "On the way to it another promise broke"
	if len(f.Schedule) > 0 {
		said = "What broke is"
	}
	if f.Rule != "" && (len(f.Schedule) > 0 || !f.Property.isAbout(f.Rule)) {
		for _, r := range allRules() {
			if r.name == f.Rule {
				fmt.Fprintf(&b, "    %s (%s): %s.\n", said, r.home, r.says)
			}
		}
	}
	fmt.Fprintf(&b, "    %s\n", f.Witness)
	if f.More > 0 {
		fmt.Fprintf(&b, "    (And %d more of that kind.)\n", f.More)
	}
	if len(f.Schedule) > 0 {
		b.WriteString("\n    Schedule: " + strings.Join(f.Schedule, "\n      ") + "\n")
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
		b.WriteString("\n    Goroutines and output:\n      " + strings.ReplaceAll(f.Detail, "\n", "\n      "))
	}
	return strings.TrimRight(b.String(), "\n")
}

// Unwrap returns the error that a verb returned unexpectedly, if that is what happened.
func (f *Failure) Unwrap() error { return f.err }

// explain fills in how the failure was seen, and reports whether there is one. What the property itself saw comes first,
// unless it waited in vain for something and a rule knows why.
func (f *Failure) explain(w *world, h history, stuck string) bool {
	w.mu.Lock()
	failure, waited, failedAt := w.failure, w.waited, w.failedAt
	w.mu.Unlock()
	violations := judge(h)
	best, broken := choose(violations, w.property)
	var seen time.Duration
	switch {
	case failure != nil && (!waited || !broken):
		witness, detail, _ := strings.Cut(failure.Error(), "\n")
		f.Witness, f.Detail, f.err = strings.TrimSuffix(witness, ":"), tidy(detail), failure
		f.Timeline, _ = timeline(newView(h), violation{Sub: -1, Node: -1, At: failedAt.Tick})
		seen = failedAt.At
	case broken:
		f.Rule, f.Witness = best.Rule, best.Witness
		f.Timeline, seen = timeline(newView(h), best)
		for i := range violations {
			if violations[i].Rule == best.Rule {
				f.More++
			}
		}
		f.More-- // without the one that is told
		if failure != nil {
			seen = max(seen, failedAt.At)
		}
	default:
		return false
	}
	if stuck != "" {
		f.Detail, f.watchdog = tidy(stuck), true
	}
	f.Log = w.logs.until(seen)
	return true
}

// detailLines is the most that a failure shows of stacks and output.
const detailLines = 40

var (
	profileTitle = regexp.MustCompile(`(?m)^(goroutine profile: total \d+|# labels: .*)\n`)
	profileCount = regexp.MustCompile(`(?m)^(\d+) @( 0x[0-9a-f]+)+$`)
	profileFrame = regexp.MustCompile(`(?m)^#\t0x[0-9a-f]+\t(\S+?)\+0x[0-9a-f]+\s+(.*/)?([^/]+/[^/]+)$`)
	emptyLines   = regexp.MustCompile(`\n{2,}`)
)

// tidy makes stacks and output fit under a failure: without addresses and empty lines, and not too long.
func tidy(text string) string {
	text = profileTitle.ReplaceAllString(text, "")
	text = profileCount.ReplaceAllString(text, "$1 in:")
	text = profileFrame.ReplaceAllString(text, "  $1  $3")
	text = emptyLines.ReplaceAllString(strings.Trim(text, "\n"), "\n")
	lines := strings.Split(text, "\n")
	if len(lines) > detailLines {
		lines = append(lines[:detailLines], fmt.Sprintf("… and %d lines more", len(lines)-detailLines))
	}
	return strings.Join(lines, "\n")
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
