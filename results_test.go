package backplane_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// A transport that gives one result for a whole batch, as client libraries' pipelines do, is not believed.
func TestOneResultForABatchIsUncertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, lied := true, false
		gate := make(chan struct{})
		opener, _ := tapped(inmem.NewBroker(), func(tp *tap) {
			tp.publish = func(_ context.Context, frames []transport.Frame, next func() []error) []error {
				if frames[0].Channel == wardChannel && first {
					first = false
					<-gate
				}
				errs := next()
				if len(frames) > 1 && !lied {
					lied = true
					return []error{backplane.ErrUnavailable} // of the first one, or of all?
				}
				return errs
			}
		})
		n := open(t, opener, backplane.Options{})
		b, _ := listen(t, n, backplane.Group("b"))
		results := make(chan error, 3)
		send := func(to backplane.Address) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			results <- n.Publish(ctx, to, []byte("x"))
		}
		go send(ward)
		synctest.Wait()
		go send(backplane.Group("a")) // these two wait together while the first one is under way
		go send(backplane.Group("b"))
		synctest.Wait()
		close(gate)
		for range 3 {
			if err := <-results; err != nil {
				t.Errorf("%v, although it was sent again", err)
			}
		}
		if !lied {
			t.Error("there was no batch")
		}
		expect(t, "b", b.heard(), "x")
	})
}
