package conformance

import (
	"io"
)

// History is all that happened while a property was put to the test. It can be judged again: by a newer suite, or by
// whoever gets it with a bug report.
type History struct {
	Suite    string // the version of the suite that wrote it
	Property string // the id of the property
	Verdict  string // what came out then, in words
	Seed     string // what repeats the run
	// Witness is how the failure was seen then. Not every failure is seen in the history alone: that a call hung, or
	// returned an unexpected error, the property tells.
	Witness string

	history history
}

// ReadHistory reads what [Result.WriteHistory] wrote, or says in which line it is wrong.
func ReadHistory(r io.Reader) (History, error) {
	h, title, err := readHistory(r)
	return History{
		Suite: title.Suite, Property: title.Property, Verdict: title.Verdict, Seed: title.Seed, Witness: title.Witness, history: h,
	}, err
}

// Judge applies all rules, and returns a failure for each that was broken: the clearest sight of it, the timeline around
// that, and how often it was seen.
func (h History) Judge() []*Failure {
	property, _ := find(h.Property) // an unknown one has no rules of its own
	homes := map[string]string{}
	for _, r := range allRules() {
		homes[r.name] = r.home
	}
	v := newView(h.history)
	var out []*Failure
	for _, x := range judge(h.history) {
		if len(out) > 0 && out[len(out)-1].Rule == x.Rule {
			out[len(out)-1].More++
			continue
		}
		p := property
		if !p.isAbout(x.Rule) {
			p, _ = find(homes[x.Rule])
		}
		lines, _ := timeline(v, x)
		out = append(out, &Failure{Property: p, Rule: x.Rule, Witness: x.Witness, Timeline: lines})
	}
	return out
}
