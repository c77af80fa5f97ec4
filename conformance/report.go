package conformance

import "time"

// Verdict is what came out for a property.
type Verdict uint8

// The verdicts.
const (
	Proven       Verdict = iota + 1 // the promise was put to the test, and held
	Failed                          // it was broken; Result.Err is a *Failure
	NotExercised                    // nobody could put it to the test: a hook is missing, Result.Err tells which
	KnownFailing                    // it was broken, and [Known] says so
	Skipped                         // left out by [Short]
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
	default:
		return "invalid"
	}
}

// Result is what came out for one property.
type Result struct {
	Property Property
	Verdict  Verdict
	Err      error // nil for Proven and Skipped
	Took     time.Duration
	Seed     uint64 // repeats the run, with [Seed]
}

// Failure is the error of a broken property.
type Failure struct {
	Property Property
	Rule     string   // the rule that was broken: "order", "once", …; "" where the property itself saw it
	Witness  string   // the clearest sight of it, one sentence
	Timeline []string // what happened around it, at most 12 lines
	Detail   string   // goroutines or logs, where they help; may be empty
}

// Error tells the promise, the witness, the timeline and the usual causes.
func (f *Failure) Error() string { panic("soon") }

// Report is what came out for all properties.
type Report struct {
	Results []Result // in the order of [Properties]
}
