package inmem

import (
	"fmt"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// The causes that faults give to nodes.
var (
	errCut     = fmt.Errorf("%w: the node is cut off", transport.ErrUnavailable)
	errGone    = fmt.Errorf("%w: the connection ended before the answer came", transport.ErrUnavailable)
	errKicked  = fmt.Errorf("%w: the broker closed the connection", transport.ErrUnavailable)
	errOverrun = fmt.Errorf("%w: the broker closed the connection: too much waits for this node", transport.ErrUnavailable)
	errStopped = fmt.Errorf("%w: the broker is stopped", transport.ErrUnavailable)
)

// faults is what tests did to one node. It outlives connections.
type faults struct {
	cut, deaf, mute bool
	delay           time.Duration
	drop            int // frames still to be dropped
	match           func(channel string, frame []byte) bool
}

// left returns how much of the delay is left for what began at a time.
func (f *faults) left(begun time.Time) time.Duration {
	if f.delay == 0 {
		return 0
	}
	return f.delay - time.Since(begun)
}

// drops reports whether a frame is to be dropped, and counts it.
func (f *faults) drops(channel string, frame []byte) bool {
	if f.drop == 0 || f.match != nil && !f.match(channel, frame) {
		return false
	}
	f.drop--
	return true
}

// Cut takes a node off the network: its connection is reset, the node is told (its link is down), and connecting again
// is refused until [Broker.Heal]. What others send meanwhile is lost to it.
func (b *Broker) Cut(node transport.NodeID) {
	b.on(node, func(c *client) {
		c.faults.cut = true
		c.fail(errCut)
		c.wake()
	})
}

// Kick makes the broker close a node's connection, once: the link is down, and connecting again works. A deaf node
// learns of it when it is healed.
func (b *Broker) Kick(node transport.NodeID) {
	b.on(node, func(c *client) { c.hangUp(errKicked) })
}

// Hang makes a node's connection half-open until [Broker.Heal]: nothing gets out or in, and nothing closes. A publish
// blocks until its context ends or the node gives the connection up, is then uncertain, and was not taken. Connecting
// blocks as well. It is Deafen and Mute together.
func (b *Broker) Hang(node transport.NodeID) {
	b.on(node, func(c *client) { c.faults.deaf, c.faults.mute = true, true })
}

// Deafen keeps everything from a node that the broker sends to it, until [Broker.Heal]: frames wait in the broker, and
// answers too. So a publish is taken and heard by others, and then blocks as in Hang and is uncertain.
func (b *Broker) Deafen(node transport.NodeID) {
	b.on(node, func(c *client) { c.faults.deaf = true })
}

// Mute keeps everything from the broker that a node sends, until [Broker.Heal]. The node still hears the others; what
// it publishes blocks as in Hang, is uncertain, and was not taken.
func (b *Broker) Mute(node transport.NodeID) {
	b.on(node, func(c *client) { c.faults.mute = true })
}

// Delay makes everything that the broker sends to a node, frames and answers, arrive later by d, in order. With d of 0
// or less the fault ends, and what waits is handed over before Delay returns. While frames wait, the node's transport
// has one goroutine.
func (b *Broker) Delay(node transport.NodeID, d time.Duration) {
	b.on(node, func(c *client) {
		c.faults.delay = max(d, 0)
		if c.faults.delay == 0 && !c.faults.deaf {
			c.handOverAll()
		}
		c.wake()
	})
}

// Drop loses the next k frames that the broker would send to a node and that match accepts, silently: no link event
// tells. A nil match accepts every frame, the node's own probes and the others' heartbeats included, so a test that
// runs in real time should look for a payload in the frame:
//
//	broker.Drop(id, 1, func(_ string, frame []byte) bool { return bytes.Contains(frame, []byte("alert")) })
//
// A frame may carry several messages. match is called while the broker is locked: it must not call the broker, a node
// or anything that waits for them, and must not change the frame. A second Drop replaces the first; k of 0 ends it.
func (b *Broker) Drop(node transport.NodeID, k int, match func(channel string, frame []byte) bool) {
	b.on(node, func(c *client) { c.faults.drop, c.faults.match = max(k, 0), match })
}

// Heal ends all faults of a node. Frames that were held back are handed over, in order, before Heal returns; then, if
// the broker closed the connection meanwhile, the node is told that its link is down; then blocked calls go on.
func (b *Broker) Heal(node transport.NodeID) {
	b.on(node, func(c *client) {
		c.faults = faults{}
		c.handOverAll()
		if c.conn != nil && c.conn.fate != nil {
			c.fail(c.conn.fate)
		}
		c.wake()
	})
}

// on does something to a node, with the broker locked.
func (b *Broker) on(node transport.NodeID, do func(*client)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.clients[node]; c != nil {
		do(c)
	}
}

// Stop ends the broker as a killed process would: every connection is closed and the link of every node is down when
// Stop returns (a deaf node's when it is healed), what is subscribed or stored is forgotten, and connecting is refused until
// [Broker.Start].
func (b *Broker) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	b.forgetAll()
	for _, c := range b.clients {
		c.hangUp(errStopped)
	}
}

// Start starts a stopped broker with an empty memory. Nodes that connect find it; nothing else happens.
func (b *Broker) Start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = false
}

// Op is what a node asks of the broker.
type Op string

// The operations that [Broker.Deny] can refuse.
const (
	OpConnect   Op = "connect" // as a wrong password does
	OpSubscribe Op = "subscribe"
	OpPublish   Op = "publish"
	OpStore     Op = "store" // any of the store's, reading ones too
)

// Request is one operation of a node, for [Broker.Deny].
type Request struct {
	Node    transport.NodeID
	Op      Op
	Channel string // "" for OpConnect; it begins with the namespace and the delimiter; for OpStore the key, with ':' between
}

// Deny refuses every request from now on for which refuse returns true, as an access list does: with an error wrapping
// [transport.ErrDenied]. It replaces the rule before; nil lifts it. What is subscribed already stays: [Broker.Kick] makes
// a node ask again. refuse is called while the broker is locked: it must not call the broker, a node or anything that
// waits for them.
func (b *Broker) Deny(refuse func(Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deny = refuse
}

// denies asks the rule. The caller holds mu.
func (b *Broker) denies(c *client, op Op, channel string) bool {
	return b.deny != nil && b.deny(Request{Node: c.id, Op: op, Channel: channel})
}
