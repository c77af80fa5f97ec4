package hubtest_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/conformance/hubtest/internal/mutant"
)

// docs/hub-contract.md is made of what the suite consists of: "make docs" writes it anew.

var update = flag.Bool("update", false, "write docs/hub-contract.md")

const contractFile = "../../docs/hub-contract.md"

// A document that is behind the suite is told, with what to do.
func TestHubContractDocument(t *testing.T) {
	want := contractDocument()
	if *update {
		if err := os.WriteFile(contractFile, []byte(want), 0o644); err != nil { // as all documents
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(contractFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/hub-contract.md is not what the properties say: run make docs")
	}
}

// guarantees are the titles of what properties belong to.
var guarantees = []struct{ contract, title string }{
	{"H0", "A hub has a name"},
	{"H1", "One copy of a send for each connection that it means"},
	{"H2", "Operations and questions from any instance, and what their errors mean"},
	{"H3", "After a leave or a disconnect nothing more"},
	{"H4", "Races leave nothing behind"},
	{"H5", "One client never harms another"},
	{"H6", "Who is there, and instances that die"},
	{"H7", "Gaps and states"},
	{"H8", "Draining"},
	{"resume", "Clients that come back"},
}

// contractDocument renders all properties, guarantee by guarantee, with the broken hubs that they catch.
func contractDocument() string {
	caught := map[string][]mutant.Mutant{}
	for _, m := range mutant.All() {
		caught[m.Breaks] = append(caught[m.Breaks], m)
	}
	properties := hubtest.Properties()
	var b strings.Builder
	fmt.Fprintf(&b, `# The contract of a hub

<!-- Made by "make docs" of package conformance/hubtest; a change belongs there. -->

What a hub promises to a server, as the %d properties of [package hubtest](../conformance/hubtest), version %s. Each is put to
the test for hubkit over the in-memory transport, miniredis and a real Redis, with three instances, and for anybody else's hub by the
same code: go test -run TestX/remote/join-is-effective proves just one. What a backplane promises is in [its contract](contract.md).

A suite is worth as much as the broken hubs that it catches: below each property are those, %d in all, that
[a test](../conformance/hubtest/matrix_test.go) has it find out.

| guarantee | properties |
|---|---|
`, len(properties), hubtest.Version, len(mutant.All()))
	sections := map[string][]hubtest.Property{}
	for _, p := range properties {
		sections[p.Contract] = append(sections[p.Contract], p)
	}
	for _, g := range guarantees {
		var links []string
		for _, p := range sections[g.contract] {
			links = append(links, fmt.Sprintf("[`%s`](#%s)", p.ID, anchor(p.ID)))
		}
		fmt.Fprintf(&b, "| %s: %s | %s |\n", g.contract, g.title, strings.Join(links, ", "))
	}
	for _, g := range guarantees {
		fmt.Fprintf(&b, "\n## %s: %s\n", g.contract, g.title)
		for _, p := range sections[g.contract] {
			fmt.Fprintf(&b, "\n<a id=\"%s\"></a>\n\n### %s\n\n**%s**\n\n", anchor(p.ID), p.ID, strings.ToUpper(p.Says[:1])+p.Says[1:])
			fmt.Fprintf(&b, "- Without it: %s\n- A failure is often: %s\n", p.Why, p.Often)
			if p.Needs != "" {
				fmt.Fprintf(&b, "- Needs: %s\n", p.Needs)
			}
			for _, m := range caught[p.ID] {
				fmt.Fprintf(&b, "- Catches `%s`: %s\n", m.Name, m.Defect)
			}
			fmt.Fprintf(&b, "- In the suite since %s\n", p.Since)
		}
	}
	return b.String()
}

func anchor(id string) string { return strings.ReplaceAll(id, "/", "-") }

// Every property says what it is, and is in a section of the document.
func TestPropertiesAreWhole(t *testing.T) {
	titled := map[string]bool{}
	for _, g := range guarantees {
		titled[g.contract] = true
	}
	seen := map[string]bool{}
	for _, p := range hubtest.Properties() {
		switch {
		case seen[p.ID]:
			t.Errorf("two properties are called %s", p.ID)
		case !titled[p.Contract]:
			t.Errorf("%s belongs to %q, which is no guarantee", p.ID, p.Contract)
		case p.Says == "" || p.Why == "" || p.Often == "" || p.Since == "":
			t.Errorf("%s does not say all that it should: %+v", p.ID, p)
		case !strings.HasSuffix(p.Says, ".") || !strings.HasSuffix(p.Why, ".") || !strings.HasSuffix(p.Often, "."):
			t.Errorf("%s has something that is no sentence: %+v", p.ID, p)
		}
		seen[p.ID] = true
	}
}
