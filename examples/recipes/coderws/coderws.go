// Package coderws is the recipe for hubkit over github.com/coder/websocket. Copy it; it is short on purpose.
//
// Payloads are JSON here, and each WebSocket message is an array of all that waits, so that a burst costs one write to the
// socket: the client does for (const m of JSON.parse(e.data)). Where messages are missing, the array holds
// {"type":"refresh"}, and the client fetches its state anew.
//
// The first message of a client is its resume token, or empty: ws.onopen = () => ws.send(token). A URL would be logged, and a token is
// a credential. With hubkit.Options.Resume the array holds {"type":"resume","token":"…"}, for the client to keep, the newest one only,
// and to come back with on any instance. Where it is not accepted, {"type":"new"} comes first, and the client is a new one.
package coderws

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/gobackplane/backplane/hubkit"
)

const (
	pingInterval = 30 * time.Second
	joinTimeout  = 10 * time.Second // see Handler
)

// conn is a client's WebSocket as the hub sees it.
type conn struct{ ws *websocket.Conn }

// Write sends a batch as one message. Where the context ends first, the library closes the WebSocket and returns an error.
func (c conn) Write(ctx context.Context, batch []hubkit.Delivery) error {
	message := []byte{'['}
	add := func(json []byte) {
		if len(message) > 1 {
			message = append(message, ',')
		}
		message = append(message, json...)
	}
	for _, d := range batch {
		if d.Lost() {
			add([]byte(`{"type":"refresh"}`))
		}
		if d.Resume != "" {
			add([]byte(`{"type":"resume","token":"` + d.Resume + `"}`)) // base64, which needs no escapes
		}
		if d.Payload != nil {
			add(d.Payload)
		}
	}
	return c.ws.Write(ctx, websocket.MessageText, append(message, ']'))
}

// Close comes maybe during a Write. A client that reads gets a close frame; one that does not would not read that either.
func (c conn) Close(reason hubkit.Reason) error {
	if reason.Code == hubkit.ReasonSlow || reason.Code == hubkit.ReasonFailed {
		return c.ws.CloseNow()
	}
	return c.ws.Close(websocket.StatusCode(reason.CloseCode()), reason.Text)
}

// Handler connects each client that comes to the hub and to the ward it asks for. What snapshot says of the ward is
// taken after the join, so that nothing is missing between it and what follows.
func Handler(hub *hubkit.Hub, snapshot func(ward string) []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hub.Draining() { // as long as the request is no WebSocket a balancer can take it to another instance
			http.Error(w, "this instance stops", http.StatusServiceUnavailable)
			return
		}
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // Accept has answered
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		// Nobody notices that a client leaves while the handler waits for the broker, and one may say nothing: it must not wait for ever.
		join, cancelJoin := context.WithTimeout(ctx, joinTimeout)
		defer cancelJoin()
		// A server of yours takes the user from its session, and asks whether the user may see the ward.
		c, err := welcome(join, hub, ws, hubkit.ConnectOptions{User: r.FormValue("user")})
		if err != nil {
			_ = ws.Close(websocket.StatusTryAgainLater, "no backplane") // the client may be gone
			return
		}
		defer c.Disconnect(hubkit.Reason{})
		if err := c.Join(join, r.FormValue("ward")); err != nil {
			c.Disconnect(hubkit.Reason{Code: hubkit.ReasonGoingAway, Text: "the ward cannot be joined now"})
			return
		}
		if err := c.Send(snapshot(r.FormValue("ward"))); err != nil {
			return
		}
		go ping(ctx, ws)
		for {
			if _, _, err := ws.Read(ctx); err != nil { // the client left, or the hub closed the WebSocket
				return
			}
		}
	})
}

// welcome takes the client's token and connects it. The hub writes nothing before Connect has returned a connection.
func welcome(ctx context.Context, hub *hubkit.Hub, ws *websocket.Conn, o hubkit.ConnectOptions) (*hubkit.Connection, error) {
	_, token, err := ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	o.Resume = string(token)
	c, err := hub.Connect(ctx, conn{ws}, o)
	if !errors.Is(err, hubkit.ErrResume) {
		return c, err
	}
	if err = ws.Write(ctx, websocket.MessageText, []byte(`[{"type":"new"}]`)); err != nil {
		return nil, err
	}
	o.Resume = ""
	return hub.Connect(ctx, conn{ws}, o)
}

// ping notices clients that vanished without a word. It ends with ctx.
func ping(ctx context.Context, ws *websocket.Conn) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		answer, cancel := context.WithTimeout(ctx, pingInterval)
		err := ws.Ping(answer)
		cancel()
		if err != nil {
			_ = ws.CloseNow() // it ends the Read above, which is all that matters
			return
		}
	}
}
