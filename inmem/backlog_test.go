package inmem_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inmem.NewBroker()
		x, y := connected(t, b, "x", "one"), connected(t, b, "y", "one")
		b.Delay("x", time.Second)
		y.mustPublish(t, "one", "1")
		time.Sleep(time.Second / 2)
		y.mustPublish(t, "one", "2")
		b.Delay("x", time.Second/4) // must not let 3 overtake 2
		y.mustPublish(t, "one", "3")
		time.Sleep(time.Second/2 - time.Nanosecond)
		x.hears(t)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		x.hears(t, "one=1")
		time.Sleep(time.Second / 2)
		synctest.Wait()
		x.hears(t, "one=2", "one=3")

		begun := time.Now()
		x.mustPublish(t, "one", "4")
		if took := time.Since(begun); took != time.Second/4 {
			t.Errorf("a delayed publish took %v", took)
		}
		synctest.Wait()
		x.hears(t, "one=4")
		y.hears(t, "one=1", "one=2", "one=3", "one=4")

		// The end of the delay hands over what waits; nothing can overtake it.
		y.mustPublish(t, "one", "5")
		b.Delay("x", 0)
		y.mustPublish(t, "one", "6")
		x.hears(t, "one=5", "one=6")

		// It also ends the wait for an answer.
		b.Delay("x", time.Hour)
		publish := within(func() []error { return x.Publish(t.Context(), 0, x.frames("two", "to nobody")) })
		blocked(t, "publish", publish)
		begun = time.Now()
		b.Delay("x", 0)
		wantErrs(t, "publish", <-publish)
		if took := time.Since(begun); took != 0 {
			t.Errorf("the publish took another %v", took)
		}

		// Deaf in the middle: nothing until healed, then everything in order.
		b.Delay("x", time.Second)
		y.mustPublish(t, "one", "7")
		b.Deafen("x")
		y.mustPublish(t, "one", "8")
		b.Delay("x", 0)
		time.Sleep(time.Minute)
		x.hears(t)
		b.Heal("x")
		y.mustPublish(t, "one", "9")
		x.hears(t, "one=7", "one=8", "one=9")

		// What is in flight dies with the connection.
		b.Delay("x", time.Second)
		y.mustPublish(t, "one", "10")
		b.Kick("x")
		wantErr(t, "connect", x.Connect(t.Context(), 0), nil)
		wantErrs(t, "subscribe", x.Subscribe(t.Context(), 0, []string{"one"}))
		y.mustPublish(t, "one", "11")
		time.Sleep(time.Minute)
		x.hears(t, "down", "one=11")

		// Close frees the goroutine that would hand over 12: the bubble would not end with it.
		y.mustPublish(t, "one", "12")
		wantErr(t, "close", x.Close(), nil)
		x.hears(t)
	})
}

func TestBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inmem.NewBrokerWith(inmem.Options{Backlog: 1000})
		x, y := connected(t, b, "x", "one"), connected(t, b, "y", "one")
		kilo := strings.Repeat("k", 1000)
		y.mustPublish(t, "one", kilo) // no bound where nothing is held back
		x.hears(t, "one="+kilo)
		y.take()

		b.Delay("x", time.Second)
		for range 3 { // what is handed over makes room
			y.mustPublish(t, "one", kilo[:900])
			time.Sleep(time.Second)
			synctest.Wait()
			x.hears(t, "one="+kilo[:900])
		}
		y.take()
		y.mustPublish(t, "one", "small")
		y.mustPublish(t, "one", kilo)
		x.hears(t, "down")
		wantErr(t, "cause", x.cause, transport.ErrUnavailable)
		y.hears(t, "one=small", "one="+kilo)
		b.Heal("x")

		wantErr(t, "connect", x.Connect(t.Context(), 0), nil)
		wantErrs(t, "subscribe", x.Subscribe(t.Context(), 0, []string{"one"}))
		b.Deafen("x")
		y.mustPublish(t, "one", kilo)
		y.mustPublish(t, "one", "small")
		x.hears(t)
		b.Heal("x")
		x.hears(t, "down")
	})
}
