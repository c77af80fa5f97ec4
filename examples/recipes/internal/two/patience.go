package two

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// CheckPatience checks that a handler waits for the broker for a limited time only, when a client connects and when it
// joins. A client that leaves meanwhile is not noticed by everybody, and it comes again: handlers would pile up.
func CheckPatience(t *testing.T, handler func(*hubkit.Hub, func(ward string) []byte) http.Handler) {
	t.Helper()
	for _, kind := range []backplane.Kind{backplane.KindUser, backplane.KindGroup} {
		broker := &absentBroker{lacks: kind, asked: make(chan bool, 1)}
		hub, err := hubkit.New(broker, hubkit.Options{Name: "ward"})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(handler(hub, func(string) []byte { return nil }))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"?ward=4B&user=u", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{ // what makes it a WebSocket's, where the handler wants one
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13",
			"Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			request.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if up, is := answer.Body.(io.Writer); is { // a WebSocket: the client has no token, an empty masked message
			if _, err := up.Write([]byte{0x81, 0x80, 0, 0, 0, 0}); err != nil {
				t.Fatal(err)
			}
		}
		if limited := <-broker.asked; !limited {
			t.Errorf("the handler waits without limit for the broker to take the subscription of a %v", kind)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		if err := hub.Close(t.Context()); err != nil {
			t.Error(err)
		}
		server.Close()
	}
}

// absentBroker is a backplane that cannot subscribe addresses of one kind, and tells whether it was asked with a deadline.
type absentBroker struct {
	lacks backplane.Kind
	asked chan bool
}

func (b *absentBroker) Subscribe(ctx context.Context, to backplane.Address, _ backplane.Handler) (backplane.Subscription, error) {
	if to.Kind() != b.lacks {
		return subscription{}, nil
	}
	_, limited := ctx.Deadline()
	b.asked <- limited
	return nil, backplane.ErrUnavailable
}

func (b *absentBroker) Publish(context.Context, backplane.Address, []byte) error { return nil }

func (b *absentBroker) Close(context.Context) error { return nil }

type subscription struct{}

func (subscription) Close(context.Context) error { return nil }
