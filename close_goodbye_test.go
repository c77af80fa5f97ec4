package backplane_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// A handler that does not return keeps Close waiting until its context ends, but the others hear of it at once.
func TestStuckHandlerDoesNotKeepTheGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := openOnly(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		entered, release := make(chan struct{}), make(chan struct{})
		defer close(release)
		_, err := a.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) { close(entered); <-release })
		wantIs(t, "subscribe", err)
		publish(t, b, ward, "1")
		<-entered
		atB, _ := listen(t, b, ward)
		publish(t, a, ward, "2")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		wantIs(t, "close", a.Close(ctx), context.DeadlineExceeded)
		if d := time.Since(began); d != time.Second {
			t.Errorf("Close returned after %v, before the handler", d)
		}
		if k := len(b.Members()); k != 1 {
			t.Errorf("%d members after the goodbye, want 1", k)
		}
		time.Sleep(20 * time.Second)
		expect(t, "a subscription of the other one", atB.heard(), "2")
		if s := b.Stats(); s.MembersLost != 0 {
			t.Errorf("%d members were taken for dead", s.MembersLost)
		}
	})
}
