package coderws_test

import (
	"encoding/json"
	"testing"

	"github.com/coder/websocket"
	"github.com/gobackplane/backplane/examples/recipes/coderws"
	"github.com/gobackplane/backplane/examples/recipes/internal/two"
	"github.com/gobackplane/backplane/hubkit"
)

func TestRecipe(t *testing.T) {
	in := two.New(t, coderws.Handler)
	ws, _, err := websocket.Dial(t.Context(), in.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
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

func TestTokenIsGiven(t *testing.T) {
	in := two.Resuming(t, coderws.Handler)
	ws, _, err := websocket.Dial(t.Context(), in.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, message, err := ws.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var batch []struct{ Type, Token string }
		if json.Unmarshal(message, &batch) == nil && batch[0].Type == "resume" { // else it is the snapshot
			in.ComesBack(batch[0].Token)
			if err := ws.CloseNow(); err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func TestDrainingSendsElsewhere(t *testing.T) {
	two.CheckDraining(t, coderws.Handler)
}

// When the client leaves, nothing stays.
func TestClientLeaves(t *testing.T) {
	in := two.New(t, coderws.Handler)
	ws, _, err := websocket.Dial(t.Context(), in.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
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
	ws, _, err := websocket.Dial(t.Context(), in.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	in.Flood()
	if err := ws.CloseNow(); err != nil {
		t.Error(err)
	}
}

func TestNobodyWaitsForEver(t *testing.T) {
	two.CheckPatience(t, coderws.Handler)
}
