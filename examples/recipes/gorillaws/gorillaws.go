// Package gorillaws is the recipe for hubkit over github.com/gorilla/websocket. Copy it; it is short on purpose.
//
// Each payload is a binary message here, whatever it holds. Where messages are missing, the text message "refresh" comes
// in their place, and the client fetches its state anew.
//
// The first message of a client is its resume token, or empty: ws.onopen = () => ws.send(token). A URL would be logged, and a token is
// a credential. With hubkit.Options.Resume the text message "resume …" holds one, for the client to keep, the newest one only, and to
// come back with on any instance. Where it is not accepted, the text message "new" comes first, and the client is a new one.
package gorillaws

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gobackplane/backplane/hubkit"
	"github.com/gorilla/websocket"
)

const (
	pingInterval = 30 * time.Second
	closeTimeout = time.Second
	joinTimeout  = 10 * time.Second // see Handler
	maxMessage   = 4 << 10          // of a client, in bytes, as hubkit's largest token; the library itself would take any
)

// conn is a client's WebSocket as the hub sees it. The library wants one writer at a time, which the hub is; control
// frames and Close may come from elsewhere.
type conn struct{ ws *websocket.Conn }

// Write sends a batch. After a missed deadline the library refuses all further writes.
func (c conn) Write(ctx context.Context, batch []hubkit.Delivery) error {
	deadline, _ := ctx.Deadline()
	if err := c.ws.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for _, d := range batch {
		if d.Lost() {
			if err := c.ws.WriteMessage(websocket.TextMessage, []byte("refresh")); err != nil {
				return err
			}
		}
		if d.Resume != "" {
			if err := c.ws.WriteMessage(websocket.TextMessage, []byte("resume "+d.Resume)); err != nil {
				return err
			}
		}
		if d.Payload != nil {
			if err := c.ws.WriteMessage(websocket.BinaryMessage, d.Payload); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close comes maybe during a Write, which closing the socket ends.
func (c conn) Close(reason hubkit.Reason) error {
	frame := websocket.FormatCloseMessage(reason.CloseCode(), reason.Text)
	// A client that does not read does not get it; that is no reason to keep the socket.
	_ = c.ws.WriteControl(websocket.CloseMessage, frame, time.Now().Add(closeTimeout))
	return c.ws.Close()
}

// Handler connects each client that comes to the hub and to the ward it asks for. What snapshot says of the ward is
// taken after the join, so that nothing is missing between it and what follows.
func Handler(hub *hubkit.Hub, snapshot func(ward string) []byte) http.Handler {
	upgrader := websocket.Upgrader{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hub.Draining() { // as long as the request is no WebSocket a balancer can take it to another instance
			http.Error(w, "this instance stops", http.StatusServiceUnavailable)
			return
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // Upgrade has answered
		}
		ws.SetReadLimit(maxMessage)
		// Nobody notices that a client leaves while the handler waits for the broker, and one may say nothing: it must not wait for ever.
		ctx, cancel := context.WithTimeout(r.Context(), joinTimeout)
		defer cancel()
		// A server of yours takes the user from its session, and asks whether the user may see the ward.
		c, err := welcome(ctx, hub, ws, hubkit.ConnectOptions{User: r.FormValue("user")})
		if err != nil {
			_ = conn{ws}.Close(hubkit.Reason{Code: hubkit.ReasonGoingAway}) // the client may be gone
			return
		}
		defer c.Disconnect(hubkit.Reason{})
		if err := c.Join(ctx, r.FormValue("ward")); err != nil {
			c.Disconnect(hubkit.Reason{Code: hubkit.ReasonGoingAway, Text: "the ward cannot be joined now"})
			return
		}
		if err := c.Send(snapshot(r.FormValue("ward"))); err != nil {
			return
		}
		read(ws, c.Done())
	})
}

// welcome takes the client's token and connects it. The hub writes nothing before Connect has returned a connection.
func welcome(ctx context.Context, hub *hubkit.Hub, ws *websocket.Conn, o hubkit.ConnectOptions) (*hubkit.Connection, error) {
	deadline, _ := ctx.Deadline()
	if err := errors.Join(ws.SetReadDeadline(deadline), ws.SetWriteDeadline(deadline)); err != nil {
		return nil, err
	}
	_, token, err := ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	o.Resume = string(token)
	c, err := hub.Connect(ctx, conn{ws}, o)
	if !errors.Is(err, hubkit.ErrResume) {
		return c, err
	}
	if err = ws.WriteMessage(websocket.TextMessage, []byte("new")); err != nil {
		return nil, err
	}
	o.Resume = ""
	return hub.Connect(ctx, conn{ws}, o)
}

// read reads until the client left or the hub closed the WebSocket. A client that does not answer pings has left.
func read(ws *websocket.Conn, done <-chan struct{}) {
	alive := func(string) error { return ws.SetReadDeadline(time.Now().Add(2 * pingInterval)) }
	ws.SetPongHandler(alive)
	if alive("") != nil {
		return
	}
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	gone := make(chan struct{})
	go func() {
		for {
			select {
			case <-tick.C:
				if err := ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(closeTimeout)); err != nil {
					return
				}
			case <-gone:
				return
			case <-done:
				return
			}
		}
	}()
	defer close(gone)
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			return
		}
	}
}
