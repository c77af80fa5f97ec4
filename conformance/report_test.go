package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance/internal/since"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// madeUp is a property that ends as told.
func madeUp(id, since string, fails bool) Property {
	return Property{
		ID: id, Says: "made up.", Since: since, Transport: "made up, too.",
		run: func(w *world) {
			w.openAll(1)
			if fails {
				w.fatalf("it was made up")
			}
		},
	}
}

// checkMadeUp runs made-up properties over our engine, in a bubble.
func checkMadeUp(t *testing.T, properties []Property, opts ...Option) *Report {
	t.Helper()
	open := Transport(func(Instance) transport.Opener { return inmem.New(inmem.Options{}) }, backplane.Options{})
	var report *Report
	synctest.Test(t, func(t *testing.T) {
		report = newSuite(open, append([]Option{Bubble(), Short(), Seed(7)}, opts...)).check(t.Context(), properties)
	})
	return report
}

func TestSinceMakesYoungerPropertiesProvisional(t *testing.T) {
	properties := []Property{
		madeUp("old/fails", "v1", true), madeUp("old/holds", "v1", false),
		madeUp("young/fails", "v1.1", true), madeUp("young/holds", "v1.1", false), madeUp("next/fails", "v2", true),
		{ID: "young/hook", Says: "made up.", Since: "v1.1", run: func(w *world) { w.notExercised("nobody can") }},
	}
	verdicts := func(r *Report) (all []Verdict) {
		for i := range r.Results {
			all = append(all, r.Results[i].Verdict)
		}
		return all
	}
	report := checkMadeUp(t, properties, Since("v1"), Strict())
	want := []Verdict{Failed, Proven, Provisional, Proven, Provisional, NotExercised}
	if got := verdicts(report); !slices.Equal(got, want) {
		t.Errorf("held to v1: %v, want %v", got, want)
	}
	if err := report.Err(); err == nil || strings.Contains(err.Error(), "young/") {
		t.Errorf("held to v1 the run fails with: %v", err)
	}
	for _, line := range []string{" held to v1: 1 failed, 2 proven", "\n  provisional, will fail once the run is held to v1.1: young/fails", "to v2: next/fails"} {
		if !strings.Contains(report.Summary(), line) {
			t.Errorf("no %q in %s", line, report.Summary())
		}
	}
	all := verdicts(checkMadeUp(t, properties, Strict()))
	if !slices.Equal(all, []Verdict{Failed, Proven, Failed, Proven, Failed, Failed}) {
		t.Errorf("held to all: %v", all)
	}
}

func TestSinceTakesVersionsOnly(t *testing.T) {
	for _, text := range []string{"", "1", "v", "v0", "v1.", "v1.x", "v1.2.3", "v-1", "latest", "v99"} {
		if len(newSuite(Transport(nil, backplane.Options{}), []Option{Since(text)}).refusals()) != 1 {
			t.Errorf("Since(%q) is not refused", text)
		}
	}
	for _, p := range Properties() {
		if v, err := since.Parse(p.Since); err != nil || v.After(since.Must(Version)) {
			t.Errorf("%s is in the suite since %q, which is no version up to %s", p.ID, p.Since, Version)
		}
	}
	for text, older := range map[string]string{"v1.1": "v1", "v2": "v1.9", "v1.10": "v1.9"} {
		if !since.Must(text).After(since.Must(older)) || since.Must(older).After(since.Must(text)) || since.Must(text).String() != text {
			t.Errorf("%s and %s are in the wrong order", text, older)
		}
	}
}

func TestReportsAreStable(t *testing.T) {
	properties := []Property{madeUp("b/holds", "v1", false), madeUp("a/holds", "v1", false)}
	write := func() (string, string) {
		var asJSON, asMarkdown bytes.Buffer
		r := checkMadeUp(t, properties, Subject("inmem", "none | at all"))
		if err := errors.Join(r.WriteJSON(&asJSON), r.WriteMarkdown(&asMarkdown)); err != nil {
			t.Fatal(err)
		}
		return asJSON.String(), asMarkdown.String()
	}
	j1, m1 := write()
	j2, m2 := write()
	if j1 != j2 || m1 != m2 {
		t.Errorf("two healthy runs are not reported alike:\n%s\n%s\n%s\n%s", j1, j2, m1, m2)
	}
	var got struct {
		Suite, Subject, Broker, Go, Seed string
		Settings, Abilities              []string
		Verdicts                         map[string]int
		Properties                       []struct{ ID, Verdict string }
	}
	if err := json.Unmarshal([]byte(j1), &got); err != nil {
		t.Fatal(err)
	}
	if got.Suite != Version || got.Subject != "inmem" || got.Seed != "0x7" || got.Verdicts["proven"] != 2 || got.Properties[0].ID != "a/holds" ||
		!slices.Equal(got.Abilities, []string{"backplane.Cluster", "backplane.HealthReporter", "transport.Store"}) || !slices.Contains(got.Settings, "short") {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"# Conformance of inmem\n", "| broker | none \\| at all |", "2 proven, 0 not claimed, 0 not exercised", "#a-holds) | proven | made up. |"} {
		if !strings.Contains(m1, want) {
			t.Errorf("no %q in\n%s", want, m1)
		}
	}
}

func TestHeadInOneLine(t *testing.T) {
	r := checkMadeUp(t, []Property{madeUp("a/holds", "v1", false)}, Subject("inmem", ""))
	want := "inmem, " + r.Head.Go + ", short, in a bubble, patience 10s, linger 5s, "
	end := ", seed 0x7, abilities backplane.Cluster backplane.HealthReporter transport.Store"
	if got := r.Head.String(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, end) {
		t.Errorf("%q", got)
	}
}

func TestReportsTellFailures(t *testing.T) {
	var b bytes.Buffer
	known := Known("a/known", "https://example.org/7")
	r := checkMadeUp(t, []Property{madeUp("a/fails", "v1", true), madeUp("a/known", "v1", true)}, known)
	if err := errors.Join(r.WriteMarkdown(&b), r.WriteJSON(&b)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## a/fails: failed", "broke a/fails: made up.", "Rule of package transport: made up, too.", `"witness": "it was made up"`,
		`"because": "https://example.org/7"`, "| known failing | https://example.org/7 |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// Only a transport under our engine is told a rule of package transport.
func TestForeignBackplanesAreToldNoTransportRule(t *testing.T) {
	r := prove(t, "order/per-publisher", func(b *broken) { b.handler = swapping })
	if r.Verdict != Failed || strings.Contains(r.Err.Error(), "package transport") {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
	for _, p := range Properties() {
		if p.Transport == "" {
			t.Errorf("%s names no rule of package transport: give its chapter one in transport_rules.go", p.ID)
		}
	}
	for of, rule := range transportRules() {
		if !slices.ContainsFunc(Properties(), func(p Property) bool { return strings.HasPrefix(p.ID, of) && p.Transport == rule }) {
			t.Errorf("the rule of package transport for %q is told for no property", of)
		}
	}
}

func TestOnlySomeAndProgress(t *testing.T) {
	open, faults := toys(nil)
	var told []string
	synctest.Test(t, func(t *testing.T) {
		report := Check(t.Context(), open, faults, Bubble(), Short(),
			Only(func(p Property) bool { return strings.HasPrefix(p.ID, "payload/") }), Progress(func(r Result) { told = append(told, r.Property.ID) }))
		if len(report.Results) < 3 || len(report.Results) != len(told) || report.Count(Proven) != len(told) {
			t.Errorf("%s; told of %v", report.Summary(), told)
		}
	})
}
