package sse

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gobackplane/backplane/hubkit"
)

// Who was thrown out, or came back elsewhere, is told not to come again.
func TestRefusedClientIsToldSo(t *testing.T) {
	for reason, want := range map[hubkit.ReasonCode]string{
		hubkit.ReasonRefused:   "data: x\n\nevent: bye\ndata:\n\n",
		hubkit.ReasonReplaced:  "data: x\n\nevent: bye\ndata:\n\n",
		hubkit.ReasonGoingAway: "data: x\n\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := newStream(w)
			if err := s.Write(r.Context(), []hubkit.Delivery{{Payload: []byte("x")}}); err != nil {
				t.Error(err)
			}
			if err := s.Close(hubkit.Reason{Code: reason}); err != nil {
				t.Error(err)
			}
			if err := s.Write(r.Context(), []hubkit.Delivery{{Payload: []byte("y")}}); err == nil {
				t.Error("a write after Close succeeded")
			}
		}))
		answer, err := http.Get(server.URL) //nolint:noctx // the server is the test's own
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		if err != nil || string(got) != want {
			t.Errorf("%v: read %q, %v, want %q", reason, got, err, want)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		server.Close()
	}
}

// Whatever a payload holds, it is the data of one event.
func TestPayloadMakesUpNothing(t *testing.T) {
	for payload, want := range map[string]string{
		"a\nb":                               "data: a\ndata: b\n\n",
		"a\r\nb":                             "data: a\ndata: b\n\n",
		"a\r\revent: bye\rdata:\r\r":         "data: a\ndata: \ndata: event: bye\ndata: data:\ndata: \ndata: \n\n",
		"a\n\r\r\nb":                         "data: a\ndata: \ndata: \ndata: b\n\n",
		"":                                   "data: \n\n",
		"unchanged: \x00 \xff \u2028 \u0085": "data: unchanged: \x00 \xff \u2028 \u0085\n\n",
	} {
		answer := httptest.NewRecorder()
		s := newStream(deadlines{answer})
		if err := s.Write(t.Context(), []hubkit.Delivery{{Payload: []byte(payload)}}); err != nil {
			t.Fatal(err)
		}
		if got := answer.Body.String(); got != want {
			t.Errorf("%q was written as %q, want %q", payload, got, want)
		}
	}
}

func TestTokenIsGiven(t *testing.T) {
	answer := httptest.NewRecorder()
	s := newStream(deadlines{answer})
	if err := s.Write(t.Context(), []hubkit.Delivery{{Resume: "AQ-_"}}); err != nil {
		t.Fatal(err)
	}
	if got := answer.Body.String(); got != "event: resume\nid: AQ-_\ndata:\n\n" {
		t.Errorf("a token was written as %q", got)
	}
}

// deadlines is a recorder that takes deadlines.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetWriteDeadline(time.Time) error { return nil }
