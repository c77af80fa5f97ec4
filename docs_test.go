package backplane_test

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/hubkit"
)

// The README's program is run as a reader would run it, and is the one that the documentation shows as the example.
func TestREADMEProgram(t *testing.T) {
	readme := read(t, "README.md")
	_, rest, ok := strings.Cut(readme, "```go\n")
	program, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("README.md has no Go program")
	}

	body := func(text, head, end string) string {
		_, text, _ = strings.Cut(text, head+"() {\n")
		text, _, ok := strings.Cut(text, end)
		if !ok {
			t.Fatalf("no function %q that ends with %q", head, end)
		}
		return text
	}
	if body(program, "func main", "}\n\n") != body(read(t, "example_test.go"), "func Example", "\t// Output:") {
		t.Error("the program in README.md is not the one in example_test.go")
	}

	out, err := runProgram(t, program)
	if want := "instance b heard: bed 3: bell\n"; err != nil || out != want {
		t.Errorf("it printed %q, %v; want %q", out, err, want)
	}
}

// The README's lines about hubkit compile where their variables are at hand.
func TestREADMEHubkit(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "README.md"), "\n## hubkit\n")
	_, rest, ok := strings.Cut(section, "```go\n")
	lines, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("README.md shows nothing of hubkit")
	}
	out, err := runProgram(t, `package main

import (
	"context"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

func main() { _ = handle }

func handle(ctx context.Context, node *backplane.Node, conn hubkit.Conn, payload []byte,
	refetch func(context.Context, hubkit.Gap, []*hubkit.Connection)) error {
`+lines+`
	return err
}
`)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// runProgram runs a program as go run does, with this module at hand, and returns all that it printed.
func runProgram(t *testing.T, program string) (out string, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	if err = os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := exec.CommandContext(t.Context(), "go", "run", file).CombinedOutput()
	return string(b), err
}

// The code in the guide for transports is that of the example, and what is nobody's compiles; each property it names exists.
func TestTransportGuide(t *testing.T) {
	guide := read(t, "docs/transports.md")
	blocks := strings.Split(guide, "```go\n")
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of code, not 2", len(blocks)-1)
	}
	code := func(block string) string {
		code, _, _ := strings.Cut(block, "```\n")
		return code
	}
	if !strings.Contains(read(t, "examples/transports/relay/relay_test.go"), code(blocks[1])) {
		t.Error("the first block is not in relay_test.go")
	}
	out, err := runProgram(t, `package main

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
)

type options struct {
	Namespace string
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	Logger    *slog.Logger
}

func main() { _ = TestConformance }

`+strings.ReplaceAll(strings.ReplaceAll(code(blocks[2]), "mine.Options", "options"), "mine.Open", "open2")+`
func open2(context.Context, options) (backplane.Backplane, error) { return nil, nil }
`)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	namesProperties(t, "docs/transports.md", guide, 20)
}

// What the README promises is named by properties that exist.
func TestREADMENamesProperties(t *testing.T) {
	_, promises, _ := strings.Cut(read(t, "README.md"), "\n## What is promised\n")
	promises, _, _ = strings.Cut(promises, "What is **not** promised")
	namesProperties(t, "README.md", promises, 10)
}

// namesProperties checks that a text names some properties at least, and none that does not exist.
func namesProperties(t *testing.T, document, text string, least int) {
	t.Helper()
	known := map[string]bool{}
	for _, p := range conformance.Properties() {
		known[p.ID] = true
	}
	named := regexp.MustCompile("`([a-z]+/[a-z-]+)`").FindAllStringSubmatch(text, -1)
	if len(named) < least {
		t.Errorf("%s names only %d properties", document, len(named))
	}
	for _, match := range named {
		if !known[match[1]] {
			t.Errorf("%s names %s, which is no property", document, match[1])
		}
	}
}

// An operator finds every setting, every counter and every cause.
func TestOperatingNamesEverything(t *testing.T) {
	document := read(t, "docs/operating.md")
	var names []string
	for _, of := range []reflect.Type{
		reflect.TypeFor[backplane.Options](), reflect.TypeFor[backplane.Stats](),
		reflect.TypeFor[hubkit.Options](), reflect.TypeFor[hubkit.Stats](),
	} {
		for field := range of.Fields() {
			names = append(names, field.Name)
		}
	}
	for cause := backplane.GapCause(1); cause.String() != "invalid"; cause++ {
		names = append(names, cause.String())
	}
	for _, match := range regexp.MustCompile(`CauseKind += "([a-z]+)"`).FindAllStringSubmatch(read(t, "backplane.go"), -1) {
		names = append(names, match[1])
	}
	for _, name := range names {
		if !strings.Contains(document, "`"+name+"`") {
			t.Errorf("docs/operating.md does not name %s", name)
		}
	}
}

// The rights that the documentation tells an operator to give are those that the suite runs with.
func TestOperatingShowsTheRightsThatAreTested(t *testing.T) {
	_, rights, ok := strings.Cut(read(t, "integration/conformance_test.go"), `const rights = "`)
	rights, _, _ = strings.Cut(rights, `"`)
	want := "ACL SETUSER ward " + strings.ReplaceAll(rights, "%s", "ward")
	if !ok || !strings.Contains(read(t, "docs/operating.md"), want+"\n") {
		t.Errorf("docs/operating.md does not show %q", want)
	}
}

// So are the permissions in NATS, also those for the store, and the package's comment and the cluster's configuration have the same.
func TestDocumentsShowThePermissionsThatAreTested(t *testing.T) {
	_, permissions, ok := strings.Cut(read(t, "integration/nats_conformance_test.go"), "password: secret, ")
	permissions, _, _ = strings.Cut(permissions, "`")
	permissions = strings.ReplaceAll(permissions, "%s", "ward")
	for _, name := range []string{"docs/operating.md", "docs/deploy.md", "nats/nats.go"} {
		if !ok || !strings.Contains(read(t, name), permissions) {
			t.Errorf("%s does not show %q", name, permissions)
		}
	}
	_, rights, _ := strings.Cut(read(t, "integration/nats_store_test.go"), "func natsStoreRights(")
	rights, _, _ = strings.Cut(rights, "\n}\n")
	subjects := regexp.MustCompile(`"(\$[A-Z.a-z]+[.-])"`).FindAllStringSubmatch(rights, -1)
	if len(subjects) < 5 {
		t.Fatalf("the test of the store's permissions has only %v", subjects)
	}
	for _, subject := range subjects {
		if !strings.Contains(read(t, "docs/operating.md"), subject[1]) {
			t.Errorf("docs/operating.md does not show that the store needs %s", subject[1])
		}
	}
}

func TestREADMEIsShort(t *testing.T) {
	if lines := strings.Count(read(t, "README.md"), "\n"); lines > 200 {
		t.Errorf("README.md has %d lines; 200 are enough, the rest belongs into docs", lines)
	}
}

// Every relative link in the documents leads to a file, and every anchor to a heading.
func TestLinksInDocuments(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	eachFile(t, ".md", func(name string) {
		for _, match := range link.FindAllStringSubmatch(read(t, name), -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, ":") {
				continue // another site
			}
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			info, err := os.Stat(file)
			if err != nil {
				t.Errorf("%s links to %s, which is not there", name, match[1])
				continue
			}
			if anchor != "" && !info.IsDir() && !hasHeading(read(t, file), anchor) {
				t.Errorf("%s links to %s, which has no such heading", name, match[1])
			}
		}
	})
}

// The file map names every file of the root package and every folder, so that a reader finds what a listing shows.
func TestArchitectureNamesEveryFile(t *testing.T) {
	document := read(t, "docs/architecture.md")
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		inMap := e.IsDir() && name[0] != '.' && name != "docs" && name != "internal" || path.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go")
		if inMap && !strings.Contains(document, "`"+name+"`") {
			t.Errorf("docs/architecture.md does not name %s: say in a line what it is for", name)
		}
	}
}

// hasHeading reports whether a document has an anchor, by itself or made by web sites of a heading.
func hasHeading(document, anchor string) bool {
	if strings.Contains(document, `<a id="`+anchor+`"></a>`) {
		return true
	}
	odd := regexp.MustCompile(`[^a-z0-9 _-]`)
	for line := range strings.Lines(document) {
		heading := strings.TrimLeft(line, "#")
		if heading == line {
			continue
		}
		heading = odd.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
		if strings.ReplaceAll(heading, " ", "-") == anchor {
			return true
		}
	}
	return false
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
