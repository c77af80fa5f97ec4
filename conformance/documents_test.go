package conformance

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/conformance/internal/mutant"
)

// docs/contract.md and docs/matrix.md are made of what the suite consists of: "make docs" writes them anew.

var update = flag.Bool("update", false, "write docs/contract.md, and docs/matrix.md in TestMatrix")

const (
	contractFile = "../docs/contract.md"
	matrixFile   = "../docs/matrix.md"
)

// A document that is behind the suite is told, with what to do.
func TestContractDocument(t *testing.T) {
	want := contractDocument(Properties())
	if *update {
		writeDocument(t, contractFile, want)
	}
	if got := readDocument(t, contractFile); got != want {
		t.Errorf("docs/contract.md is not what the properties say: run make docs\n%s", firstDifference(got, want))
	}
}

// How a mutant is seen depends on the run; which there are, and which property has to see them, does not.
func TestMatrixDocument(t *testing.T) {
	got := readDocument(t, matrixFile)
	rows := strings.Count(got, "\n| [`")
	if want := len(mutant.All()); rows != want {
		t.Errorf("docs/matrix.md has %d rows for %d mutants: run make docs", rows, want)
	}
	for _, m := range mutant.All() {
		if !strings.Contains(got, "\n"+matrixRow(m)+" ") {
			t.Errorf("docs/matrix.md does not say this of %s: run make docs\n%s", m.Name, matrixRow(m))
		}
	}
	if !strings.HasSuffix(got, survivorsDocument()) {
		t.Error("docs/matrix.md does not list what the engine makes up for as it is: run make docs")
	}
}

// The reports that are committed are of this suite, and of runs in which nothing failed.
func TestCommittedReports(t *testing.T) {
	for _, name := range []string{"inmem", "miniredis", "nats", "nats-cluster", "redis"} {
		text := readDocument(t, "../docs/reports/"+name+".json")
		var report struct {
			Suite      string
			Verdicts   map[string]int
			Properties []struct{ ID string }
		}
		if err := json.Unmarshal([]byte(text), &report); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if report.Suite != Version || report.Verdicts["failed"] > 0 || report.Verdicts["proven"] == 0 {
			t.Errorf("%s: %+v: run make report", name, report)
		}
		told := map[string]bool{}
		for _, p := range report.Properties {
			told[p.ID] = true
		}
		for _, p := range Properties() {
			if !told[p.ID] {
				t.Errorf("%s does not tell of %s: run make report", name, p.ID)
			}
		}
	}
}

func readDocument(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// firstDifference shows the first line in which two texts differ.
func firstDifference(got, want string) string {
	is, should := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(is), len(should)) {
		if is[i] != should[i] {
			return fmt.Sprintf("line %d is\n%s\nand should be\n%s", i+1, is[i], should[i])
		}
	}
	return fmt.Sprintf("it has %d lines and should have %d", len(is), len(should))
}

// chapters has the titles of the contract's chapters, by the first part of their properties' ids.
var chapters = map[string]string{
	"deliver":     "Delivery",
	"order":       "Order",
	"subscribe":   "Subscribing",
	"unsubscribe": "Unsubscribing",
	"isolate":     "Isolation",
	"names":       "Names",
	"limits":      "Limits",
	"payload":     "Payloads",
	"handler":     "Handlers",
	"pressure":    "Pressure",
	"race":        "Everything at once",
	"ctx":         "Contexts",
	"errors":      "Errors",
	"publish":     "Publishing",
	"close":       "Closing",
	"open":        "Opening",
	"link":        "Links that fail",
	"restart":     "A broker that restarts",
	"clock":       "Clocks",
	"claims":      "Abilities",
	"health":      "Health",
	"members":     "Members",
	"ask":         "Questions",
	"model":       "Random schedules",
}

// chapter returns the title of a property's chapter.
func chapter(id string) string {
	first, _, _ := strings.Cut(id, "/")
	return cmp.Or(chapters[first], strings.ToUpper(first[:1])+first[1:])
}

// contractDocument renders all properties, chapter by chapter.
func contractDocument(properties []Property) string {
	byChapter := map[string][]Property{}
	var order []string
	for _, p := range properties {
		title := chapter(p.ID)
		if byChapter[title] == nil {
			order = append(order, title)
		}
		byChapter[title] = append(byChapter[title], p)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# The contract

<!-- Made by "make docs" of the properties in package conformance; a change belongs there. -->

What a backplane promises, as the %d properties of the [conformance suite](../conformance), version %s. Each is put to the
test over every transport of this module, and over anybody else's by the same code: go test -run TestX/order/per-publisher
proves just one. That a property finds what it is for is shown by the broken backplanes in the [matrix](matrix.md).

A *gap* is an event in a subscription's stream in place of messages that may be missing. *Rule of package transport* is
what a transport under our engine has usually broken when the property fails.

| chapter | properties |
|---|---|
`, len(properties), Version)
	for _, title := range order {
		var links []string
		for _, p := range byChapter[title] {
			links = append(links, fmt.Sprintf("[`%s`](#%s)", p.ID, Anchor(p.ID)))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", title, strings.Join(links, ", "))
	}
	for _, title := range order {
		fmt.Fprintf(&b, "\n## %s\n", title)
		for _, p := range byChapter[title] {
			fmt.Fprintf(&b, "\n<a id=\"%s\"></a>\n\n### %s\n\n**%s**\n\n", Anchor(p.ID), p.ID, sentence(p.Says))
			fmt.Fprintf(&b, "- Without it: %s\n- A failure is often: %s\n", p.Why, p.Often)
			if p.Transport != "" {
				fmt.Fprintf(&b, "- Rule of package transport: %s\n", p.Transport)
			}
			if p.Ability != "" {
				fmt.Fprintf(&b, "- Only where the backplane is a %s\n", p.Ability)
			}
			if needs := p.Needs.String(); needs != "" {
				fmt.Fprintf(&b, "- Needs: %s\n", needs)
			}
			fmt.Fprintf(&b, "- In the suite since %s\n", p.Since)
		}
	}
	return b.String()
}

// sentence begins with a capital letter.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// matrixRow is what the matrix says of a mutant whatever the seed; a column with how it was seen follows.
func matrixRow(m mutant.Mutant) string {
	return fmt.Sprintf("| [`%s`](contract.md#%s) | `%s` | %s | %s |", m.Breaks, Anchor(m.Breaks), m.Name, cell(m.Defect), cell(m.Seen))
}

// matrixHead is what stands above the rows.
func matrixHead(mutants, properties int) string {
	return fmt.Sprintf(`# Properties and the broken backplanes that they catch

<!-- Made by "make docs" of package conformance/internal/mutant and a run of the matrix. -->

A suite is worth as much as the broken backplanes that it catches. Here are %d, each our engine over the in-memory transport
with one defect in the one or the other, and the property that has to find each of them out. [A test](../conformance/matrix_test.go)
lets each face its property: none survives, none is caught only because a call never returned, and each of
the %d properties catches one at least.

| property | broken backplane | its defect | seen elsewhere | how it is seen |
|---|---|---|---|---|
`, mutants, properties)
}

// writeMatrix writes the matrix of a run.
func writeMatrix(t *testing.T, kills []kill) {
	t.Helper()
	place := map[string]int{}
	for i, p := range Properties() {
		place[p.ID] = i
	}
	kills = slices.Clone(kills)
	slices.SortStableFunc(kills, func(a, b kill) int { return cmp.Compare(place[a.mutant.Breaks], place[b.mutant.Breaks]) })
	before, _ := os.ReadFile(matrixFile) // there may be none
	written := slices.Collect(strings.Lines(string(before)))
	var b strings.Builder
	b.WriteString(matrixHead(len(kills), len(place)))
	for _, k := range kills {
		row, seen := matrixRow(k.mutant), cell(steady(firstLine(k)))
		line := fmt.Sprintf("%s %s |\n", row, seen)
		same := func(old string) bool {
			then, ok := strings.CutPrefix(old, row+" ")
			return ok && ruleSeen(then) == ruleSeen(seen)
		}
		if i := slices.IndexFunc(written, same); i >= 0 {
			line = written[i] // the same sight of it, perhaps of another message
		}
		b.WriteString(line)
	}
	b.WriteString(survivorsDocument())
	writeDocument(t, matrixFile, b.String())
}

// ruleSeen returns the rule by which a mutant was seen; "" where the property saw it.
func ruleSeen(how string) string {
	for _, r := range allRules() {
		if strings.HasPrefix(how, r.name+": ") {
			return r.name
		}
	}
	return ""
}

// survivorsDocument lists the lies of a transport that the engine makes up for.
func survivorsDocument() string {
	var b strings.Builder
	b.WriteString(`
## What the engine makes up for

These transports break a rule of package transport as well, and no promise breaks with it. The suite has to find nothing,
[over all properties](../conformance/survivors_test.go), although each of them does lie.

| broken transport | its defect |
|---|---|
`)
	for _, m := range mutant.Survivors() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", m.Name, cell(m.Defect))
	}
	return b.String()
}

// steady takes out of a text what each run draws anew, and shortens it.
func steady(text string) string {
	const most = 160
	text = oneLine(text)
	for _, drawn := range []string{`ct-[0-9a-f]+`, `\b[0-9a-f]{16}\b`, `0x[0-9a-f]+`} {
		text = regexp.MustCompile(drawn).ReplaceAllString(text, "…")
	}
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return text
}

func writeDocument(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil { // as all documents
		t.Fatal(err)
	}
}

// The track record names properties and mutants that there are.
func TestTrackRecordIsTrue(t *testing.T) {
	text := readDocument(t, "TRACKRECORD.md")
	known := map[string]bool{}
	for _, p := range Properties() {
		known[p.ID] = true
	}
	for _, m := range mutant.All() {
		known[m.Name] = true
	}
	named := regexp.MustCompile("`([a-z]+[/-][a-z/-]+)`").FindAllStringSubmatch(text, -1)
	if len(named) == 0 {
		t.Error("it names nothing")
	}
	for _, name := range named {
		if !known[name[1]] {
			t.Errorf("%s is neither a property nor a mutant", name[1])
		}
	}
}
