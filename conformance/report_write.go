package conformance

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A report is written so that two of them can be compared line by line: properties by their ids, no times, nothing that a
// healthy run draws anew. Only the seed differs, unless it is given.

// reportJSON is a report as it is written.
type reportJSON struct {
	Head
	Seed       string         `json:"seed"`
	Verdicts   map[string]int `json:"verdicts"` // how many properties have which
	Properties []resultJSON   `json:"properties"`
}

// resultJSON is a result as it is written.
type resultJSON struct {
	ID        string   `json:"id"`
	Verdict   string   `json:"verdict"`
	Because   string   `json:"because,omitempty"` // of what is neither proven nor broken, and of what is known
	Rule      string   `json:"rule,omitempty"`
	Witness   string   `json:"witness,omitempty"`
	Timeline  []string `json:"timeline,omitempty"`
	Transport string   `json:"transport,omitempty"` // the rule of package transport that is usually broken then
}

// MarshalJSON writes the report with the properties sorted by their ids.
func (r *Report) MarshalJSON() ([]byte, error) {
	out := reportJSON{
		Head: r.Head, Seed: fmt.Sprintf("%#x", r.Head.Seed), Verdicts: map[string]int{}, Properties: make([]resultJSON, 0, len(r.Results)),
	}
	for i := range r.Results {
		result := &r.Results[i]
		out.Verdicts[result.Verdict.String()]++
		out.Properties = append(out.Properties, result.written())
	}
	slices.SortStableFunc(out.Properties, func(a, b resultJSON) int { return cmp.Compare(a.ID, b.ID) })
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("conformance: the report: %w", err)
	}
	return b, nil
}

func (r *Result) written() resultJSON {
	out := resultJSON{ID: r.Property.ID, Verdict: r.Verdict.String()}
	var f *Failure
	switch {
	case r.Verdict == Proven:
	case errors.As(r.Err, &f):
		out.Rule, out.Witness, out.Timeline, out.Transport = f.Rule, f.Witness, f.Timeline, f.Transport
		out.Because = r.link
	default:
		out.Because = r.why()
	}
	return out
}

// WriteJSON writes the report as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("conformance: writing the report: %w", err)
	}
	return nil
}

// contract is where the promises can be read.
const contract = "https://github.com/gobackplane/backplane/blob/main/docs/contract.md"

// WriteMarkdown writes the report for people: what was run, the counts, a line for each property sorted by its id, and
// how each failure was seen.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	title := "Conformance"
	if r.Head.Subject != "" {
		title += " of " + oneLine(r.Head.Subject)
	}
	fmt.Fprintf(&b, "# %s\n\n%s\n\n| | |\n|---|---|\n", title, r.counts())
	for _, line := range []struct{ name, value string }{
		{"suite", r.Head.Suite}, {"held to", r.Head.Since}, {"broker", r.Head.Broker}, {"Go", r.Head.Go},
		{"settings", strings.Join(r.Head.Settings, ", ")}, {"seed", fmt.Sprintf("%#x", r.Head.Seed)},
		{"abilities", strings.Join(r.Head.Abilities, ", ")},
	} {
		if line.value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", line.name, cell(line.value))
		}
	}
	b.WriteString("\n| property | verdict | |\n|---|---|---|\n")
	results := slices.Clone(r.Results)
	slices.SortStableFunc(results, func(a, b Result) int { return cmp.Compare(a.Property.ID, b.Property.ID) })
	for i := range results {
		result := results[i].written()
		fmt.Fprintf(&b, "| [`%s`](%s#%s) | %s | %s |\n", result.ID, contract, Anchor(result.ID), result.Verdict,
			cell(cmp.Or(result.Because, result.Witness, results[i].Property.Says)))
	}
	for i := range results {
		if result := results[i]; result.Verdict == Failed || result.Verdict == Provisional || result.Verdict == KnownFailing {
			fmt.Fprintf(&b, "\n## %s: %v\n\n```\n%s\n```\n", result.Property.ID, result.Verdict, strings.ReplaceAll(result.why(), "```", "'''"))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("conformance: writing the report: %w", err)
	}
	return nil
}

// Anchor is where docs/contract.md tells a property's promise: "order-per-publisher".
func Anchor(id string) string { return strings.ReplaceAll(id, "/", "-") }

// cell makes a text fit into a table.
func cell(text string) string { return strings.ReplaceAll(oneLine(text), "|", `\|`) }

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
