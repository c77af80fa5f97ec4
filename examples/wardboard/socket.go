package main

import (
	"context"

	"github.com/coder/websocket"
	"github.com/gobackplane/backplane/hubkit"
)

// socket is a client's WebSocket as the hub sees it.
type socket struct{ ws *websocket.Conn }

// Write writes one text message for each delivery. The hub calls it on one goroutine at a time, with a deadline in ctx;
// a write that misses it closes the WebSocket and returns an error.
func (s socket) Write(ctx context.Context, batch []hubkit.Delivery) error {
	for _, d := range batch {
		if d.Lost() {
			// The one line that a client needs in order to be right after an outage: it fetches the state of its ward anew.
			if err := s.ws.Write(ctx, websocket.MessageText, event{Type: typeMissed}.encode()); err != nil {
				return err
			}
		}
		if d.Resume != "" {
			if err := s.ws.Write(ctx, websocket.MessageText, event{Type: typeResume, Token: d.Resume}.encode()); err != nil {
				return err
			}
		}
		if d.Payload == nil {
			continue
		}
		if err := s.ws.Write(ctx, websocket.MessageText, d.Payload); err != nil {
			return err
		}
	}
	return nil
}

// Close may come during a Write.
func (s socket) Close(reason hubkit.Reason) error {
	switch reason.Code {
	case hubkit.ReasonSlow, hubkit.ReasonFailed:
		// A client that does not read would not answer a close frame either.
		return s.ws.CloseNow()
	default:
		return s.ws.Close(websocket.StatusCode(reason.CloseCode()), reason.Text)
	}
}
