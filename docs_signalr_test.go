package backplane_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// The code in the guide for those who come from SignalR is that of the examples, which are run.
func TestSignalRGuide(t *testing.T) {
	files, err := filepath.Glob("hubkit/example_*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var examples strings.Builder
	for _, name := range files {
		examples.WriteString(read(t, name))
	}
	blocks := strings.Split(read(t, "docs/from-signalr.md"), "```go\n")[1:]
	if len(blocks) < 4 {
		t.Errorf("%d blocks of code, want 4", len(blocks))
	}
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```\n")
		if code == "" || !strings.Contains(examples.String(), "\n"+code) {
			t.Errorf("no example has this:\n%s", code)
		}
	}
}
