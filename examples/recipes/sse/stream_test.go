package sse

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gobackplane/backplane/hubkit"
)

// Who was thrown out is told not to come again.
func TestRefusedClientIsToldSo(t *testing.T) {
	for reason, want := range map[hubkit.ReasonCode]string{
		hubkit.ReasonRefused:   "data: x\n\nevent: bye\ndata:\n\n",
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
