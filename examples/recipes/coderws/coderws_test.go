package coderws_test

import (
	"encoding/json"
	"testing"

	"github.com/coder/websocket"
	"github.com/gobackplane/backplane/examples/recipes/coderws"
	"github.com/gobackplane/backplane/examples/recipes/internal/two"
	"github.com/gobackplane/backplane/hubkit"
)

// dial is a client: it presents its token, "" for none.
func dial(t *testing.T, url, token string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(t.Context(), websocket.MessageText, []byte(token)); err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestRecipe(t *testing.T) {
	in := two.New(t, coderws.Handler)
	ws := dial(t, in.URL, "")
	reads := func(want string) {
		t.Helper()
		kind, message, err := ws.Read(t.Context())
		if err != nil || kind != websocket.MessageText || string(message) != want {
			t.Fatalf("read %v %q, %v, want %q", kind, message, err, want)
		}
	}
	reads(`["ward 4B"]`)
	in.Send(`{"bell":3}`)
	reads(`[{"bell":3}]`)
	in.Outage()
	reads(`[{"type":"refresh"}]`)
	in.Send(`{"bell":4}`)
	reads(`[{"bell":4}]`)
	closed := make(chan error, 1)
	go func() { closed <- in.Near.Close(t.Context()) }()
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("after the hub was closed: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// A client comes back on the far instance by the token that it was given on the near one.
func TestClientComesBack(t *testing.T) {
	in := two.Resuming(t, coderws.Handler)
	ws := dial(t, in.URL, "")
	var token string
	for token == "" {
		for _, n := range read(t, ws) { // the snapshot is among them
			if n.Type == "resume" {
				token = n.Token
			}
		}
	}
	again := dial(t, in.FarURL, token)
	if first := read(t, again)[0]; first.Type != "refresh" {
		t.Errorf("who came back is told %+v first, want a refresh", first)
	}
	in.CheckResumes(1, 0)
	for {
		if _, _, err := ws.Read(t.Context()); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("the old WebSocket ended with %v", err)
			}
			break
		}
	}
	if err := again.CloseNow(); err != nil {
		t.Error(err)
	}
}

func TestTokenIsNotAccepted(t *testing.T) {
	in := two.Resuming(t, coderws.Handler)
	ws := dial(t, in.FarURL, "anything")
	if first := read(t, ws)[0]; first.Type != "new" {
		t.Errorf("whose token is not accepted is told %+v first, want new", first)
	}
	if next := read(t, ws)[0]; next.Type == "refresh" {
		t.Errorf("a new client is told %+v", next)
	}
	in.CheckResumes(0, 1)
	if err := ws.CloseNow(); err != nil {
		t.Error(err)
	}
}

type notice struct{ Type, Token string }

// read reads a message; what is no notice in it is the zero one.
func read(t *testing.T, ws *websocket.Conn) []notice {
	t.Helper()
	_, message, err := ws.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var batch []json.RawMessage
	if err := json.Unmarshal(message, &batch); err != nil || len(batch) == 0 {
		t.Fatalf("read %q, %v", message, err)
	}
	notices := make([]notice, len(batch))
	for i, m := range batch {
		if m[0] == '{' {
			if err := json.Unmarshal(m, &notices[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return notices
}

func TestDrainingSendsElsewhere(t *testing.T) {
	two.CheckDraining(t, coderws.Handler)
}

// When the client leaves, nothing stays.
func TestClientLeaves(t *testing.T) {
	in := two.New(t, coderws.Handler)
	ws := dial(t, in.URL, "")
	if _, _, err := ws.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	for in.Near.Stats().Connections+in.Near.Stats().Groups > 0 {
		if err := in.Far.Send(t.Context(), hubkit.ToAll(), []byte(`1`)); err != nil {
			t.Fatal(err)
		}
	}
}

// A client that does not read is given up, and Close ends the write it is stuck in.
func TestClientIsStuck(t *testing.T) {
	in := two.New(t, coderws.Handler)
	ws := dial(t, in.URL, "")
	in.Flood()
	if err := ws.CloseNow(); err != nil {
		t.Error(err)
	}
}

func TestNobodyWaitsForEver(t *testing.T) {
	two.CheckPatience(t, coderws.Handler)
}
