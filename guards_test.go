package backplane_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// skippers lists the functions that may skip a test, and why; everything else has to fail or to run.
var skippers = map[string]string{
	"integration/require.go": "the one helper: it says what is missing, and fails where BACKPLANE_REQUIRE names it",
}

// A test waits for an event with a bound. Only inside a testing/synctest bubble, where it moves the fake clock and costs
// nothing, may it sleep.
func TestNoTestSleeps(t *testing.T) {
	eachGoFile(t, func(name string, file *ast.File, at func(ast.Node) token.Position) {
		if !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "conformance/") {
			return
		}
		ast.PreorderStack(file, nil, func(n ast.Node, above []ast.Node) bool {
			if calls(n, "time", "Sleep") && !slices.ContainsFunc(above, func(a ast.Node) bool { return calls(a, "synctest", "Test") }) {
				t.Errorf("%v: time.Sleep outside a synctest bubble: wait for an event", at(n))
			}
			return true
		})
	})
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
