package gorillaws_test

import (
	"strings"
	"testing"

	"github.com/gobackplane/backplane/examples/recipes/gorillaws"
	"github.com/gobackplane/backplane/examples/recipes/internal/two"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gorilla/websocket"
)

func dial(t *testing.T, in *two.Instances) *websocket.Conn {
	t.Helper()
	ws, answer, err := websocket.DefaultDialer.DialContext(t.Context(), strings.Replace(in.URL, "http", "ws", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	return ws
}

func TestRecipe(t *testing.T) {
	in := two.New(t, gorillaws.Handler)
	ws := dial(t, in)
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

func TestTokenIsGiven(t *testing.T) {
	in := two.Resuming(t, gorillaws.Handler)
	ws := dial(t, in)
	for {
		kind, message, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if token, is := strings.CutPrefix(string(message), "resume "); is && kind == websocket.TextMessage {
			in.ComesBack(token)
			return
		}
	}
}

func TestDrainingSendsElsewhere(t *testing.T) {
	two.CheckDraining(t, gorillaws.Handler)
}

// When the client leaves, nothing stays.
func TestClientLeaves(t *testing.T) {
	in := two.New(t, gorillaws.Handler)
	ws := dial(t, in)
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
	ws := dial(t, in)
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
	ws := dial(t, in)
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
