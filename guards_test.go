package backplane_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// skippers lists the functions that may skip a test, and why; everything else has to fail or to run.
var skippers = map[string]string{
	"integration/require.go":         "the one helper: it says what is missing, and fails where BACKPLANE_REQUIRE names it",
	"conformance/conformance.go":     "a property that was not exercised says so; with Strict, which our own tests use, it fails",
	"conformance/hubtest/hubtest.go": "the same",
	"hubkit/cost_test.go":            "allocations cannot be counted under the race detector; .ci/run also tests without it",
	"hubkit/resume_cost_test.go":     "the same",
}

// A test waits for an event with a bound. Only inside a testing/synctest bubble, where it moves the fake clock and costs
// nothing, may it sleep: in what is written into a call of synctest.Test, or of a function of the package that calls it.
func TestNoTestSleeps(t *testing.T) {
	type sleep struct {
		at    string
		above []ast.Node
	}
	sleeps := map[string][]sleep{}          // by folder
	bubbles := map[string]map[string]bool{} // by folder: functions that make a bubble
	eachGoFile(t, func(name string, file *ast.File, at func(ast.Node) token.Position) {
		if !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "conformance/") {
			return
		}
		dir := path.Dir(name)
		if bubbles[dir] == nil {
			bubbles[dir] = map[string]bool{}
		}
		ast.PreorderStack(file, nil, func(n ast.Node, above []ast.Node) bool {
			switch {
			case calls(n, "time", "Sleep"):
				sleeps[dir] = append(sleeps[dir], sleep{at(n).String(), slices.Clone(above)})
			case calls(n, "synctest", "Test") && len(above) > 1:
				if f, ok := above[1].(*ast.FuncDecl); ok {
					bubbles[dir][f.Name.Name] = true
				}
			}
			return true
		})
	})
	for dir, list := range sleeps {
		for _, s := range list {
			if !slices.ContainsFunc(s.above, func(n ast.Node) bool { return calls(n, "synctest", "Test") || bubbles[dir][callee(n)] }) {
				t.Errorf("%s: time.Sleep outside a synctest bubble: wait for an event", s.at)
			}
		}
	}
}

// callee returns the name of the function of the same package that a node calls, "" if it does not.
func callee(n ast.Node) string {
	if call, ok := n.(*ast.CallExpr); ok {
		if f, ok := call.Fun.(*ast.Ident); ok {
			return f.Name
		}
	}
	return ""
}

// A test that did not run must not look like one that passed.
func TestNoTestSkipsOnItsOwn(t *testing.T) {
	eachGoFile(t, func(name string, file *ast.File, at func(ast.Node) token.Position) {
		if skippers[name] != "" {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) {
				t.Errorf("%v: a test skips by itself; use integration.Missing, or give the file a reason in skippers", at(n))
			}
			return true
		})
	})
}

// calls reports whether a node is a call of pkg.name.
func calls(n ast.Node, pkg, name string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != name {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// eachGoFile parses every Go file of all modules, under its name relative to the root with forward slashes.
func eachGoFile(t *testing.T, f func(name string, file *ast.File, at func(ast.Node) token.Position)) {
	t.Helper()
	files := token.NewFileSet()
	eachFile(t, ".go", func(name string) {
		file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		f(name, file, func(n ast.Node) token.Position { return files.Position(n.Pos()) })
	})
}

// eachFile visits the files of the tree with an extension, less hidden folders.
func eachFile(t *testing.T, extension string, f func(name string)) {
	t.Helper()
	visited := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !d.IsDir() && filepath.Ext(name) == extension:
			visited++
			f(filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil || visited == 0 {
		t.Fatalf("%d files visited, %v", visited, err)
	}
}
