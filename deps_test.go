package backplane_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"strings"
	"testing"
)

// module is the path of this module. In the tables below "." is its root package, and a name whose first part has no
// dot is a package of it; "name/..." is the package and all below it.
const module = "github.com/gobackplane/backplane"

// A layer says what the code of a package, less its tests, may import beyond the standard library, and why.
type layer struct {
	pkg string
	may map[string]string // import → reason
}

// layers has an entry for every package of the module; the first that matches counts.
var layers = []layer{
	{".", map[string]string{
		"transport":    "the interface that the engine drives; never a transport itself",
		"internal/...": "the engine's self-contained parts",
	}},
	{"transport", nil},
	{"inmem/...", map[string]string{
		"transport":    "what it implements; never the root or another transport",
		"internal/...": "parts that transports share",
	}},
	{"redis/...", map[string]string{
		"transport":                        "what it implements; never the root or another transport",
		"internal/...":                     "parts that transports share",
		"github.com/redis/go-redis/v9/...": "its client",
	}},
	{"nats/...", map[string]string{
		"transport":                      "what it implements; never the root or another transport",
		"internal/...":                   "parts that transports share",
		"github.com/nats-io/nats.go/...": "its client",
	}},
	{"dial", map[string]string{
		".":         "it opens nodes",
		"transport": "openers of foreign transports",
		"inmem":     "it is the one place that knows all transports",
		"nats":      "it is the one place that knows all transports",
		"redis":     "it is the one place that knows all transports",
	}},
	{"conformance/hubtest/...", map[string]string{
		".":               "hubs stand on a backplane",
		"conformance/...": "the same history and rules",
		"hubkit/...":      "what it proves",
		"internal/...":    "links that can be cut",
	}},
	{"conformance/...", map[string]string{
		".":               "it proves any Backplane; never hubkit, which is above it",
		"transport":       "it opens transports under our engine",
		"conformance/...": "its own parts",
		"internal/...":    "links that can be cut",
	}},
	{"hubkit/...", map[string]string{
		".":            "it is written against the contract; never against a transport",
		"hubkit/...":   "its own parts",
		"internal/...": "parts that it shares with the engine",
	}},
	{"cmd/backplane", map[string]string{
		".":           "it opens nodes",
		"transport":   "openers of transports",
		"dial":        "a URL picks the transport",
		"inmem":       "a broker for each of the suite's worlds, and its faults",
		"nats":        "the suite's dialer",
		"redis":       "the suite's dialer",
		"conformance": "what it runs",
	}},
	{"internal/...", map[string]string{
		"transport":    "sentinel errors and the interface",
		"internal/...": "parts of parts",
	}},
}

// A baggage says which modules a package brings into the build of who imports it, and why.
type baggage struct {
	pkg    string
	brings map[string]string // module → reason
}

// bags has an entry for every package that users import; the first that matches counts.
var bags = []baggage{
	{"redis/...", redisBrings},
	{"nats/...", natsBrings},
	{"dial", allBring},
	{"cmd/backplane", allBring},
	{"...", map[string]string{"golang.org/x/sync": "as good as the standard library"}},
}

var redisBrings = map[string]string{
	"github.com/redis/go-redis/v9": "the client",
	"github.com/cespare/xxhash/v2": "brought by go-redis",
	"go.uber.org/atomic":           "brought by go-redis",
	"golang.org/x/sys":             "brought by go-redis",
	"golang.org/x/sync":            "as good as the standard library",
}

var natsBrings = map[string]string{
	"github.com/nats-io/nats.go":    "the client",
	"github.com/nats-io/nkeys":      "brought by nats.go: credentials",
	"github.com/nats-io/nuid":       "brought by nats.go",
	"github.com/klauspost/compress": "brought by nats.go",
	"golang.org/x/crypto":           "brought by nkeys",
	"golang.org/x/sys":              "brought by x/crypto",
	"golang.org/x/sync":             "as good as the standard library",
}

// allBring is for who knows all transports.
var allBring = func() map[string]string {
	all := maps.Clone(redisBrings)
	maps.Copy(all, natsBrings)
	return all
}()

// requirements has the lines of go.mod that are not indirect: nothing that only a test needs is among them.
var requirements = map[string]string{
	"github.com/redis/go-redis/v9": "the client of package redis",
	"github.com/nats-io/nats.go":   "the client of package nats",
}

func TestPackagesImportOnlyWhatTheirLayerAllows(t *testing.T) {
	for _, p := range goList(t, ".", "./...") {
		l, ok := find(layers, func(l layer) bool { return matches(l.pkg, p.ImportPath) })
		if !ok {
			t.Errorf("package %s has no entry in layers: say what it may import, and why", p.ImportPath)
		}
		for _, path := range p.Imports {
			if !standard(path) && !anyMatches(l.may, path) {
				t.Errorf("package %s imports %s; its layer %q does not allow that", p.ImportPath, path, l.pkg)
			}
		}
	}
}

func TestPackagesBringOnlyTheModulesTheyNeed(t *testing.T) {
	for _, p := range goList(t, ".", "./...") {
		bag, ok := find(bags, func(b baggage) bool { return matches(b.pkg, p.ImportPath) })
		if !ok {
			t.Fatalf("package %s has no entry in bags", p.ImportPath)
		}
		for _, dep := range goList(t, ".", "-deps", p.ImportPath) {
			if dep.Standard || dep.Module.Path == module {
				continue
			}
			if _, ok := bag.brings[dep.Module.Path]; !ok {
				t.Errorf("package %s brings the module %s, by package %s", p.ImportPath, dep.Module.Path, dep.ImportPath)
			}
		}
	}
}

// Test code must not get into programs: package conformance imports testing, and with it flags and profiles.
func TestOnlyTestsImportConformance(t *testing.T) {
	for dir := range strings.Lines(runGo(t, ".", "list", "-m", "-f", "{{.Dir}}")) {
		for _, p := range goList(t, strings.TrimSpace(dir), "./...") {
			if matches("conformance/...", p.ImportPath) || matches("cmd/backplane", p.ImportPath) { // the command runs the suite
				continue
			}
			for _, path := range p.Imports {
				if matches("conformance/...", path) {
					t.Errorf("package %s imports %s outside its tests", p.ImportPath, path)
				}
			}
		}
	}
}

func TestRequirementsAreTheOnesWithAReason(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal([]byte(runGo(t, ".", "mod", "edit", "-json")), &mod); err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for _, r := range mod.Require {
		if _, ok := requirements[r.Path]; !ok && !r.Indirect {
			t.Errorf("go.mod requires %s, which has no reason here; what only tests need belongs into a nested module", r.Path)
		}
		direct[r.Path] = !r.Indirect
	}
	for path, reason := range requirements {
		if !direct[path] {
			t.Errorf("go.mod does not require %s (%s) any more: remove it here", path, reason)
		}
	}
}

// goPackage is what go list tells of a package.
type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string // of the code, less its tests
	Module     struct{ Path string }
}

func goList(t *testing.T, dir string, args ...string) []goPackage {
	t.Helper()
	var list []goPackage
	out := runGo(t, dir, append([]string{"list", "-json=ImportPath,Standard,Imports,Module"}, args...)...)
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func runGo(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go %v: %v\n%s", args, err, exit.Stderr)
		}
		t.Fatalf("go %v: %v", args, err)
	}
	return string(out)
}

// standard reports whether a path is the standard library's: its first part has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// matches reports whether a name of the tables means an import path.
func matches(name, path string) bool {
	if path == module {
		path = "."
	}
	path = strings.TrimPrefix(path, module+"/")
	below, ok := strings.CutSuffix(name, "...")
	return name == path || ok && strings.HasPrefix(path+"/", below)
}

func anyMatches(may map[string]string, path string) bool {
	for name := range may {
		if matches(name, path) {
			return true
		}
	}
	return false
}

func find[T any](list []T, is func(T) bool) (found T, ok bool) {
	for _, v := range list {
		if is(v) {
			return v, true
		}
	}
	return found, false
}
