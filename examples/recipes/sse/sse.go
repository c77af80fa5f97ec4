// Package sse is the recipe for hubkit over server-sent events, with the standard library alone. Copy it; it is short on
// purpose.
//
// Each payload is an event of type message. Where messages are missing, an event of type refresh comes in their place,
// and the client fetches its state anew. A browser's EventSource connects again by itself when the server ends the
// response; a client that must not come again gets an event of type bye first, upon which it calls close().
//
// With hubkit.Options.Resume an event of type resume has a resume token as its id. An EventSource that connects again presents
// it by itself, in the header Last-Event-ID, to any instance; other clients keep the newest one and set that header. It is a
// credential, which a URL is no place for: URLs are logged. Where it is not accepted, an event of type new comes, and the client is a
// new one.
package sse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane/hubkit"
)

const (
	byeTimeout   = time.Second
	joinTimeout  = 10 * time.Second // how long a client waits for the broker; then it comes again, to any instance
	pingInterval = 30 * time.Second
)

var errEnded = errors.New("the stream has ended")

// lines makes every kind of line break that the format knows a line of the same event: a payload that could end its line
// could make up fields and events.
var lines = strings.NewReplacer("\r\n", "\ndata: ", "\r", "\ndata: ", "\n", "\ndata: ") //nolint:gochecknoglobals // a constant

// stream is a response that does not end, as the hub sees it.
type stream struct {
	mu    sync.Mutex // a ResponseWriter takes one writer at a time: the hub, the handler's pings, or Close
	w     http.ResponseWriter
	rc    *http.ResponseController
	ended chan struct{} // closed by Close
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx
	return &stream{w: w, rc: http.NewResponseController(w), ended: make(chan struct{})}
}

// Write sends a batch in one flush.
func (s *stream) Write(ctx context.Context, batch []hubkit.Delivery) error {
	deadline, _ := ctx.Deadline()
	var b bytes.Buffer
	for _, d := range batch {
		if d.Lost() {
			b.WriteString("event: refresh\ndata:\n\n")
		}
		if d.Resume != "" {
			b.WriteString("event: resume\nid: " + d.Resume + "\ndata:\n\n") // base64, which ends no line
		}
		if d.Payload != nil {
			b.WriteString("data: ")
			_, _ = lines.WriteString(&b, string(d.Payload)) // a buffer takes everything
			b.WriteString("\n\n")
		}
	}
	return s.write(b.Bytes(), deadline)
}

func (s *stream) write(b []byte, deadline time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.rc.SetWriteDeadline(deadline); err != nil {
		return err
	}
	select {
	case <-s.ended: // looked at after the deadline was set: Close does it the other way round
		return errEnded
	default:
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.rc.Flush()
}

// Close comes maybe during a Write, which a deadline in the past ends.
func (s *stream) Close(reason hubkit.Reason) error {
	close(s.ended)
	if err := s.rc.SetWriteDeadline(time.Now()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.rc.SetWriteDeadline(time.Now().Add(byeTimeout)); err != nil || !final(reason) {
		return err
	}
	if _, err := s.w.Write([]byte("event: bye\ndata:\n\n")); err != nil {
		return err
	}
	return s.rc.Flush()
}

// final reports whether the client must not come again, which an EventSource does by itself.
func final(reason hubkit.Reason) bool {
	return reason.Code == hubkit.ReasonRefused || reason.Code == hubkit.ReasonReplaced
}

// Handler connects each client that comes to the hub and to the ward it asks for. What snapshot says of the ward is
// taken after the join, so that nothing is missing between it and what follows.
func Handler(hub *hubkit.Hub, snapshot func(ward string) []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := newStream(w)
		ctx, cancel := context.WithTimeout(r.Context(), joinTimeout)
		defer cancel()
		// A server of yours takes the user from its session, and asks whether the user may see the ward.
		o := hubkit.ConnectOptions{User: r.FormValue("user"), Resume: r.Header.Get("Last-Event-ID")}
		c, err := hub.Connect(ctx, s, o)
		isNew := errors.Is(err, hubkit.ErrResume)
		if isNew {
			o.Resume = ""
			c, err = hub.Connect(ctx, s, o)
		}
		if err != nil {
			http.Error(w, fmt.Sprintf("no backplane: %v", err), http.StatusServiceUnavailable)
			return
		}
		defer func() {
			c.Disconnect(hubkit.Reason{})
			<-c.Done() // w must not be touched after the handler has returned
		}()
		if isNew { // only now: where no connection is made, the answer is the error
			if err := s.write([]byte("event: new\ndata:\n\n"), time.Now().Add(joinTimeout)); err != nil {
				return
			}
		}
		if err := c.Join(ctx, r.FormValue("ward")); err != nil {
			return // the client comes again
		}
		if err := c.Send(snapshot(r.FormValue("ward"))); err != nil {
			return
		}
		tick := time.NewTicker(pingInterval)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-s.ended:
				return
			case <-tick.C:
			}
			if err := s.write([]byte(": ping\n\n"), time.Now().Add(pingInterval)); err != nil {
				return
			}
		}
	})
}
