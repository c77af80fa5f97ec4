package gorillaws_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/examples/recipes/gorillaws"
	"github.com/gobackplane/backplane/examples/recipes/internal/two"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gorilla/websocket"
)

// dial is a client: it presents its token, "" for none.
func dial(t *testing.T, url, token string) *websocket.Conn {
	t.Helper()
	ws, answer, err := websocket.DefaultDialer.DialContext(t.Context(), strings.Replace(url, "http", "ws", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte(token)); err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestRecipe(t *testing.T) {
	in := two.New(t, gorillaws.Handler)
	ws := dial(t, in.URL, "")
	reads := func(want string, kind int) {
		t.Helper()
		got, message, err := ws.ReadMessage()
		if err != nil || got != kind || string(message) != want {
			t.Fatalf("read %v %q, %v, want %v %q", got, message, err, kind, want)
		}
	}
	reads(`"ward 4B"`, websocket.BinaryMessage)
	in.Send("bell 3")
	reads("bell 3", websocket.BinaryMessage)
	in.Outage()
	reads("refresh", websocket.TextMessage)
	in.Send("bell 4")
	reads("bell 4", websocket.BinaryMessage)
	if err := in.Near.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("after the hub was closed: %v", err)
	}
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
}

// A client comes back on the far instance by the token that it was given on the near one.
func TestClientComesBack(t *testing.T) {
	in := two.Resuming(t, gorillaws.Handler)
	ws := dial(t, in.URL, "")
	var token string
	for is := false; !is; { // the snapshot comes too
		token, is = strings.CutPrefix(notice(t, ws), "resume ")
	}
	again := dial(t, in.FarURL, token)
	if first := notice(t, again); first != "refresh" {
		t.Errorf("who came back is told %q first, want refresh", first)
	}
	in.CheckResumes(1, 0)
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			if !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
				t.Errorf("the old WebSocket ended with %v", err)
			}
			break
		}
	}
	if err := errors.Join(ws.Close(), again.Close()); err != nil {
		t.Error(err)
	}
}

func TestTokenIsNotAccepted(t *testing.T) {
	in := two.Resuming(t, gorillaws.Handler)
	ws := dial(t, in.FarURL, "anything")
	if first := notice(t, ws); first != "new" {
		t.Errorf("whose token is not accepted is told %q first, want new", first)
	}
	if next := notice(t, ws); next == "refresh" {
		t.Errorf("a new client is told %q", next)
	}
	in.CheckResumes(0, 1)
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
}

// notice reads a message and returns its text, "" for a payload.
func notice(t *testing.T, ws *websocket.Conn) string {
	t.Helper()
	kind, message, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	if kind != websocket.TextMessage {
		return ""
	}
	return string(message)
}

func TestDrainingSendsElsewhere(t *testing.T) {
	two.CheckDraining(t, gorillaws.Handler)
}

// When the client leaves, nothing stays.
func TestClientLeaves(t *testing.T) {
	in := two.New(t, gorillaws.Handler)
	ws := dial(t, in.URL, "")
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
	for in.Near.Stats().Connections+in.Near.Stats().Groups > 0 {
		if err := in.Far.Send(t.Context(), hubkit.ToAll(), []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
}

// A client that does not read is given up, and Close ends the write it is stuck in.
func TestClientIsStuck(t *testing.T) {
	in := two.New(t, gorillaws.Handler)
	ws := dial(t, in.URL, "")
	in.Flood()
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
}

func TestNobodyWaitsForEver(t *testing.T) {
	two.CheckPatience(t, gorillaws.Handler)
}

// A client cannot make the server read as much as it likes into memory.
func TestLongMessageIsRefused(t *testing.T) {
	in := two.New(t, gorillaws.Handler)
	ws := dial(t, in.URL, "")
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteMessage(websocket.BinaryMessage, make([]byte, 8<<10)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
		t.Errorf("after a long message: %v", err)
	}
	if err := ws.Close(); err != nil {
		t.Error(err)
	}
}
