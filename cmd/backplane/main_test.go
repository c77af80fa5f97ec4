package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the suite run this program again, for the properties that end their process.
func TestMain(m *testing.M) {
	if os.Getenv("CONFORMANCE_CHILD") != "" {
		main()
	}
	os.Exit(m.Run())
}

// do runs the command and returns its exit status and what it printed.
func do(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Setenv("BACKPLANE_URL", "")
	var out, errs bytes.Buffer
	status = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// Each of these is refused at once, with a text that helps and shows nothing secret.
func TestWhatCannotBeDone(t *testing.T) {
	for _, tc := range []struct{ args, say string }{
		{"", "Exit status"},
		{"nonsense", `no command "nonsense"`},
		{"conform", "BACKPLANE_URL"},
		{"conform inmem: inmem:", "two URLs"},
		{"conform inmem: -colour", "-colour"},
		{"conform foo://u:secret@h", `"foo" is not known`},
		{"conform inmem:?colour=secret", "unknown parameter"},
		{"conform redis://u:secret@h?colour=secret", "colour"},
		{"conform redis://u:secret@h?probeTimeout=secret", "ProbeTimeout"},
		{"conform redis://u:secret@127.0.0.1:1", "no backplane to put to the test"},
		{"conform rediss://u:secret@127.0.0.1:1", "no backplane to put to the test"},
		{"conform nats://secret@127.0.0.1:1", "no backplane to put to the test"},
		{"conform tls://u:secret@127.0.0.1:1", "no backplane to put to the test"},
		{"conform nats://u:secret@127.0.0.1:1?maxPayload=secret", "MaxPayload"},
		{"conform nats://u:secret@h,nats://u:secret@h", "a list of several"},
		{"conform inmem: -run (", "missing closing"},
		{"conform inmem: -run nosuch", "no property"},
		{"conform inmem: -seed 0", "not 0"},
		{"conform inmem: -patience 10", "unit"},
		{"conform inmem: -soak -1m", "unit"},
		{"conform inmem: -known no/such=https://example.org/7", "no/such"},
		{"conform inmem: -known deliver/once", "has a link"},
		{"conform inmem: -known deliver/once=soon", "has a link"},
		{"conform inmem: -since v99", "has not reached"},
		{"conform inmem: -strict=no/such", "no/such"},
		{"conform inmem: -json " + filepath.Join(t.TempDir(), "no", "such"), "no such file"},
		{"judge", "no history"},
		{"judge -v", "no flag"},
		{"judge " + filepath.Join(t.TempDir(), "no"), "no such file"},
		{"judge -", "line 1"}, // nothing comes in
		{"judge main.go", "main.go: conformance: line 1: not a history"},
	} {
		status, stdout, stderr := do(t, strings.Fields(tc.args)...)
		if status != undone || stdout != "" || !strings.Contains(stderr, tc.say) {
			t.Errorf("%s: status %d, %q, %q; it should say %q", tc.args, status, stdout, stderr, tc.say)
		}
		if strings.Contains(stderr, "secret") || strings.Contains(stderr, "backplane: backplane:") {
			t.Errorf("%s: %q", tc.args, stderr)
		}
	}
}

// A report says over which transport it is, also where the scheme does not.
func TestTargetsAreNamed(t *testing.T) {
	for url, want := range map[string]string{"tls://user:secret@h": "nats", "NATS://h": "nats", "rediss://h": "rediss", "inmem:": "inmem"} {
		if got, err := newTarget(url); err != nil || got.name != want {
			t.Errorf("%s: %+v, %v, want the name %q", url, got, err, want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"conform", "-h"}} {
		if status, stdout, stderr := do(t, args...); status != held || stderr != "" || !strings.Contains(stdout, "backplane conform") {
			t.Errorf("%v: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

func TestConformInMemory(t *testing.T) {
	dir := t.TempDir()
	asJSON, asMarkdown := filepath.Join(dir, "report.json"), filepath.Join(dir, "report.md")
	if err := os.WriteFile(asJSON, bytes.Repeat([]byte("an older and longer report"), 1e4), 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := do(t, "conform", "-short", "-v", "inmem:?namespace=ward", "-strict=link/slow,link/torn,clock/skew,open/fails-clean", "-seed", "0x51f3", "-broker", "none",
		"-json", asJSON, "-md", asMarkdown)
	if status != held || !strings.Contains(stdout, " 0 known failing") || strings.Contains(stdout, "FAILED") || !strings.Contains(stdout, "seed 0x51f3") {
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	for _, want := range []string{"proven         deliver/once", "namespace in the URL is not used"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in %s", want, stderr)
		}
	}
	var report struct {
		Subject, Seed string
		Abilities     []string
		Verdicts      map[string]int
	}
	text, err := os.ReadFile(asJSON)
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil || report.Subject != "inmem" || report.Seed != "0x51f3" || report.Verdicts["proven"] < 40 || len(report.Abilities) < 2 {
		t.Errorf("%v: %+v", err, report)
	}
	if text, err := os.ReadFile(asMarkdown); err != nil || !strings.HasPrefix(string(text), "# Conformance of inmem\n") {
		t.Errorf("%v\n%s", err, text)
	}
}

// A failure ends in status 1, tells how to see it again, and leaves its history for judge. The only one that a healthy
// backplane can show is a mark that is stale.
func TestFailure(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	status, stdout, stderr := do(t, "conform", "inmem:", "-short", "-run", "^deliver/(once|self)$", "-known", "deliver/once=https://example.org/7", "-artifacts", dir)
	if status != broken || stderr != "" {
		t.Errorf("status %d, %s", status, stderr)
	}
	for _, want := range []string{"FAILED deliver/once", "example.org/7", "Repeat: backplane conform -short -known 'deliver/once=https://example.org/7' -seed 0x", "-run '^deliver/once$' URL", "1 failed, 1 proven"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	status, stdout, stderr = do(t, "judge", filepath.Join(dir, "deliver-once.jsonl"))
	if status != held || !strings.Contains(stdout, "0 rules are broken") || !strings.Contains(stdout, "shows in no rule: it holds") {
		t.Errorf("status %d, %s%s", status, stdout, stderr)
	}
}

func TestJudge(t *testing.T) {
	history, err := os.ReadFile("testdata/twice.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), []string{"judge", "testdata/twice.jsonl", "-"}, bytes.NewReader(history), &stdout, &stderr)
	if status != broken || stderr.Len() > 0 || strings.Count(stdout.String(), "n1 heard n1#1 twice.") != 2 || strings.Count(stdout.String(), "<- here") != 2 {
		t.Errorf("status %d\n%s%s", status, &stdout, &stderr)
	}
}

// onFirst calls f at the first write.
type onFirst struct {
	bytes.Buffer
	f func()
}

func (w *onFirst) Write(p []byte) (int, error) {
	w.f()
	return w.Buffer.Write(p)
}

// An interrupt ends the run with what has been judged.
func TestInterrupt(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	stderr := &onFirst{f: interrupt}
	var stdout bytes.Buffer
	kept, fresh := filepath.Join(t.TempDir(), "kept.json"), filepath.Join(t.TempDir(), "fresh.md")
	if err := os.WriteFile(kept, []byte("of a whole run"), 0o600); err != nil {
		t.Fatal(err)
	}
	status := run(ctx, []string{"conform", "inmem:", "-v", "-strict", "-json", kept, "-md", fresh}, nil, &stdout, stderr)
	if status != undone || !strings.Contains(stdout.String(), "because the run was stopped") || !strings.Contains(stdout.String(), "0 known failing") {
		t.Errorf("status %d\n%s", status, &stdout)
	}
	if !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("it says %s", stderr)
	}
	if text, err := os.ReadFile(kept); string(text) != "of a whole run" {
		t.Errorf("the report of a whole run is now %q, %v", text, err)
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("an interrupted run leaves an empty report")
	}
	for _, name := range []string{kept, fresh} {
		if text, err := os.ReadFile(name + ".partial"); err != nil || !strings.Contains(string(text), "order/per-publisher") {
			t.Errorf("no partial report: %v", err)
		}
	}
}
