package conformance

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const noBroker = "the broker cannot be stopped and started: there is no Broker option"

// needRestart ends the property if the broker cannot be restarted.
func (w *world) needRestart() {
	if w.suite.restart.stop == nil || w.suite.restart.start == nil {
		w.notExercised(noBroker)
	}
}

// stopBroker stops the broker; the function it returns starts it again, if nobody has before the property is over.
func (w *world) stopBroker() (start func()) {
	start = sync.OnceFunc(func() {
		w.brokerDoes("start", w.suite.restart.start)
		w.rec.mark(markStart, -1, -1)
	})
	w.onEnd(start)
	w.rec.mark(markStop, -1, -1)
	w.brokerDoes("stop", w.suite.restart.stop)
	w.check()
	return start
}

// restartBroker stops the broker, does something meanwhile, and starts it.
func (w *world) restartBroker(meanwhile func()) {
	start := w.stopBroker()
	meanwhile()
	start()
}

func (w *world) brokerDoes(what string, do brokerFunc) {
	defer w.while(what + " of the broker")()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), w.suite.patience) // also after a failure
	defer cancel()
	if err := do(ctx, w.name); err != nil {
		w.fail(fmt.Errorf("the broker did not %s: %w", what, err), false)
	}
}

// clock is an instance's time of day.
type clock struct {
	asked  atomic.Bool // the instance uses it
	skewed atomic.Bool
	ahead  atomic.Int64 // by how much it is wrong
}

func (c *clock) now() time.Time {
	c.asked.Store(true)
	if !c.skewed.Load() {
		return time.Now()
	}
	return time.Now().Round(0).Add(time.Duration(c.ahead.Load())) // without the monotonic reading, which no jump changes
}

// skew sets the clock wrong.
func (c *clock) skew(ahead time.Duration) {
	c.ahead.Store(int64(ahead))
	c.skewed.Store(true)
}
