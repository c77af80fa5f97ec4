package integration_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/dial"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

// The job of the example is a process of its own, without clients, beside the instances of a hub.
func TestHandover(t *testing.T) {
	program := filepath.Join(t.TempDir(), "handover")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./handover")
	build.Dir = filepath.Join("..", "examples")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	overEachBroker(t, func(t *testing.T, url string) { testHandover(t, program, url) })
}

func testHandover(t *testing.T, program, broker string) {
	t.Helper()
	url := broker + "?heartbeat=250ms&memberTimeout=2s" // the job waits for a member timeout
	node, err := dial.URL(t.Context(), url, backplane.Options{Namespace: "wardboard"})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	nurse := conntest.New()
	c, err := hub.Connect(t.Context(), nurse, hubkit.ConnectOptions{User: "nurse-17"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Join(t.Context(), "4B"); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), wardboardPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "-backplane", url, "-text", "handover", "-ward", "4B", "-nurse", "nurse-18").CombinedOutput()
	want := "ward 4B: 1 connections on 1 instances\nnurse-18: 0 connections on 0 instances\n"
	if err != nil || string(out) != want {
		t.Errorf("it said %q, want %q; %v", out, want, err)
	}
	if err := nurse.WaitPayload(ctx, "handover"); err != nil {
		t.Error(err)
	}
	if err := hub.Close(ctx); err != nil {
		t.Error(err)
	}
	if s := node.Stats(); s.Members != 1 || s.MembersLost != 0 {
		t.Errorf("the job did not say goodbye: %d members, %d lost", s.Members, s.MembersLost)
	}
	if err := node.Close(ctx); err != nil {
		t.Error(err)
	}
}
