package inmem

import (
	"time"

	"github.com/gobackplane/backplane/transport"
)

// backlog holds frames that the broker has taken and the node has not got, in order. The zero value is empty.
type backlog struct {
	frames []heldFrame
	bytes  int
}

type heldFrame struct {
	channel string
	data    []byte
	due     time.Time // not before; nor before the frame in front of it
}

// overhead is what a held frame costs beside its data, roughly.
const overhead = 64

func (f *heldFrame) cost() int { return len(f.data) + overhead }

func (q *backlog) empty() bool { return len(q.frames) == 0 }

func (q *backlog) push(f heldFrame) {
	q.frames = append(q.frames, f)
	q.bytes += f.cost()
}

func (q *backlog) pop() heldFrame {
	f := q.frames[0]
	q.frames[0] = heldFrame{}
	q.frames = q.frames[1:]
	q.bytes -= f.cost()
	return f
}

// hold keeps a frame for later and returns false if there is no room. The caller holds broker.mu.
func (c *client) hold(k *conn, channel string, data []byte) bool {
	f := heldFrame{channel: channel, data: data, due: time.Now().Add(c.faults.delay)}
	if k.backlog.bytes+f.cost() > c.broker.options.Backlog {
		return false
	}
	k.backlog.push(f)
	if !k.late && !c.faults.deaf { // what waits for a deaf node is handed over by Heal
		k.late = true
		c.late.Go(func() { c.handOverInTime(k) })
	}
	return true
}

// handOverInTime is the goroutine of a backlog: it lives as long as frames wait, and hands each over when it is due and
// the node is not deaf.
func (c *client) handOverInTime(k *conn) {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	for c.conn == k && !k.backlog.empty() {
		left := time.Duration(0)
		if !c.faults.deaf {
			if left = time.Until(k.backlog.frames[0].due); left <= 0 {
				c.handOver(k)
				continue
			}
		}
		c.wait(nil, left)
	}
	k.late = false
}

// handOver gives the first frame of the backlog to the node. The caller holds broker.mu.
func (c *client) handOver(k *conn) {
	f := k.backlog.pop()
	c.sink.Frame(transport.OnlyLink, f.channel, f.data)
}

// handOverAll empties the backlog. The caller holds broker.mu.
func (c *client) handOverAll() {
	for k := c.conn; k != nil && !k.backlog.empty(); {
		c.handOver(k)
	}
}
