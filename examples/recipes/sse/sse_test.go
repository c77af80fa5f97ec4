package sse_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/examples/recipes/internal/two"
	"github.com/gobackplane/backplane/examples/recipes/sse"
	"github.com/gobackplane/backplane/hubkit"
)

// request requests the stream and returns a scanner of its lines.
func request(ctx context.Context, t *testing.T, url, token string) *bufio.Scanner {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Last-Event-ID", token)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
	})
	if got := answer.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	return bufio.NewScanner(answer.Body)
}

// open requests the stream and returns a function that checks its next lines.
func open(ctx context.Context, t *testing.T, in *two.Instances) (reads func(lines ...string)) {
	t.Helper()
	lines := request(ctx, t, in.URL, "")
	return func(want ...string) {
		t.Helper()
		for _, w := range want {
			if !lines.Scan() || lines.Text() != w {
				t.Fatalf("read %q, %v, want %q", lines.Text(), lines.Err(), w)
			}
		}
		if len(want) == 0 && lines.Scan() {
			t.Fatalf("read %q, want the end", lines.Text())
		}
	}
}

func TestRecipe(t *testing.T) {
	in := two.New(t, sse.Handler)
	reads := open(t.Context(), t, in)
	reads(`data: "ward 4B"`, "")
	in.Send("bell\nin bed 3")
	reads("data: bell", "data: in bed 3", "")
	in.Outage()
	reads("event: refresh", "data:", "")
	in.Send("bell 4")
	reads("data: bell 4", "")
	if err := in.Near.Close(t.Context()); err != nil {
		t.Error(err)
	}
	reads()
}

// find reads until a line with a prefix and returns the rest of it.
func find(t *testing.T, lines *bufio.Scanner, prefix string) string {
	t.Helper()
	for lines.Scan() {
		if rest, is := strings.CutPrefix(lines.Text(), prefix); is {
			return rest
		}
	}
	t.Fatalf("the stream ended without %q: %v", prefix, lines.Err())
	return ""
}

// A client comes back on the far instance by the token that it was given on the near one.
func TestClientComesBack(t *testing.T) {
	in := two.Resuming(t, sse.Handler)
	old := request(t.Context(), t, in.URL, "")
	again := request(t.Context(), t, in.FarURL, find(t, old, "id: "))
	if first := find(t, again, ""); first != "event: refresh" {
		t.Errorf("who came back is told %q first, want a refresh", first)
	}
	in.CheckResumes(1, 0)
	find(t, old, "event: bye")
}

func TestTokenIsNotAccepted(t *testing.T) {
	in := two.Resuming(t, sse.Handler)
	find(t, request(t.Context(), t, in.FarURL, "anything"), "event: new")
	in.CheckResumes(0, 1)
}

func TestDrainingSendsElsewhere(t *testing.T) {
	two.CheckDraining(t, sse.Handler)
}

// When the client leaves, nothing stays.
func TestClientLeaves(t *testing.T) {
	in := two.New(t, sse.Handler)
	ctx, leave := context.WithCancel(t.Context())
	open(ctx, t, in)(`data: "ward 4B"`, "")
	leave()
	for in.Near.Stats().Connections+in.Near.Stats().Groups > 0 {
		if err := in.Far.Send(t.Context(), hubkit.ToAll(), []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
}

// A client that does not read is given up, and Close ends the write it is stuck in.
func TestClientIsStuck(t *testing.T) {
	in := two.New(t, sse.Handler)
	open(t.Context(), t, in)
	in.Flood()
}

func TestNobodyWaitsForEver(t *testing.T) {
	two.CheckPatience(t, sse.Handler)
}
