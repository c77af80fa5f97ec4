package main

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// withToken returns a nurse who has a token of her ward: what comes after "joined" was made after it.
func withToken(t *testing.T, url string) testClient {
	t.Helper()
	c := dialTest(t, url, "4B")
	c.want(t, typeResume)
	return c
}

// back lets a nurse whose socket is dead connect again with her token.
func (c testClient) back(t *testing.T, url string) event {
	t.Helper()
	_ = c.ws.CloseNow() // it may be dead
	if err := c.dial(bounded(t), url); err != nil {
		t.Fatal(err)
	}
	welcome, err := c.hello(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return welcome
}

func wantBack(t *testing.T, e event, instance string) {
	t.Helper()
	if !e.Resumed || !slices.Equal(e.Wards, []string{"4B"}) || e.Instance != instance {
		t.Errorf("the welcome is %+v, want her back in her ward on %s", e, instance)
	}
}

// A nurse whose socket dies comes back on another instance: in her ward, and told that she may have missed alerts.
func TestComesBackOnAnotherInstance(t *testing.T) {
	b := startBoard(t)
	nurse, other := withToken(t, b.url), dialTest(t, b.url, "4B")
	wantBack(t, nurse.back(t, b.url), "C")
	if nurse.missed != 1 {
		t.Errorf("she was told %d times that alerts may be missing", nurse.missed)
	}
	other.alarm(t, nurse) // she has not joined
	if r := who(t, b.url, "4B"); r.on() != "B C" {
		t.Errorf("the list is %+v", r)
	}
}

// The same, where the instance has died and cannot be asked.
func TestComesBackFromADeadInstance(t *testing.T) {
	s, err := newSeats("inmem:?heartbeat=50ms&memberTimeout=500ms", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m, err := startThreads(t.Context(), s, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	nurse, other := withToken(t, m.urls()[1]), dialTest(t, m.urls()[0], "4B")
	if err := m.kill(1); err != nil {
		t.Fatal(err)
	}
	if _, err := nurse.await(bounded(t), "nothing"); websocket.CloseStatus(err) != -1 {
		t.Errorf("her socket ended with %v", err)
	}
	wantBack(t, nurse.back(t, m.urls()[2]), "C")
	other.alarm(t, nurse)
	if nurse.missed != 1 {
		t.Errorf("she was told %d times that alerts may be missing", nurse.missed)
	}
}

// A token that is not accepted makes its client a new one, in no ward: a forged one, one of a farm with another key, and that of
// a nurse who was thrown out.
func TestTokenThatIsNotAccepted(t *testing.T) {
	b, stranger := startBoard(t), startBoard(t)
	out := withToken(t, b.url)
	if status, said := ask(t, "POST", b.url+"/disconnect?id="+nurseOn(t, who(t, b.url, "4B"), "A").ID, nil); status != 204 {
		t.Fatalf("%d, %q", status, said)
	}
	out.wantClosed(t, websocket.StatusPolicyViolation)
	forged, foreign := withToken(t, b.url), withToken(t, stranger.url)
	forged.token = strings.Repeat("x", maxToken)
	for name, c := range map[string]testClient{"thrown out": out, "forged": forged, "foreign": foreign} {
		if e := c.back(t, b.url); e.Resumed || len(e.Wards) > 0 {
			t.Errorf("%s: the welcome is %+v", name, e)
		}
		c.write(t, websocket.MessageText, `{"type":"join","ward":"4B"}`)
		c.want(t, typeJoined)
	}
}

func TestHelloComesFirst(t *testing.T) {
	b := startBoard(t, "-instances", "1")
	for _, first := range []string{`{"type":"join","ward":"4B"}`, "x", ""} {
		c := testClient{&client{}}
		if err := c.dial(bounded(t), b.url); err != nil {
			t.Fatal(err)
		}
		c.write(t, websocket.MessageText, first)
		c.wantClosed(t, websocket.StatusProtocolError)
	}
	c := dialTest(t, b.url, "4B")
	c.write(t, websocket.MessageText, `{"type":"hello"}`)
	c.wantError(t, "hello is the first message")
}

func TestKeyOfTheEnvironment(t *testing.T) {
	t.Setenv(keyVariable, "short")
	status, _, stderr := runProgram(t, "-check")
	if status != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, keyVariable) || strings.Contains(stderr, "short") {
		t.Errorf("status %d, %q", status, stderr)
	}
	t.Setenv(keyVariable, "of all processes of this farm, 2026-11")
	one, two := startBoard(t), startBoard(t)
	// They share no backplane here, and so no memory of sessions either; that the token is accepted is what the key decides.
	if e := withToken(t, one.url).back(t, two.url); !e.Resumed {
		t.Errorf("the welcome is %+v", e)
	}
}
