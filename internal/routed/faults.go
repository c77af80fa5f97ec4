package routed

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gobackplane/backplane/transport"
)

// The causes that faults give to nodes.
var (
	errClosed  = fmt.Errorf("%w: the transport was closed", transport.ErrClosed)
	errCut     = fmt.Errorf("%w: the node is cut off", transport.ErrUnavailable)
	errKicked  = fmt.Errorf("%w: the server closed the connection", transport.ErrUnavailable)
	errStopped = fmt.Errorf("%w: the server is stopped", transport.ErrUnavailable)
)

// errGone says nothing of what was asked: it may have been done.
var errGone = errors.New("the connection ended before the answer came")

// faults is what tests did to the connections of one node.
type faults struct{ cut, deaf, mute, lose bool }

// CutNode resets a node's connection, and refuses new ones until [Cluster.HealNode].
func (c *Cluster) CutNode(id transport.NodeID) {
	c.on(id, func(n *node) {
		n.faults.cut = true
		n.faults.deaf = false // it is told
		n.hangUp(errCut)
		n.wake()
	})
}

// Kick closes a node's connection, once.
func (c *Cluster) Kick(id transport.NodeID) { c.on(id, func(n *node) { n.hangUp(errKicked) }) }

// Move closes a node's connection, and makes the node connect to another server from now on.
func (c *Cluster) Move(id transport.NodeID, to int) {
	c.on(id, func(n *node) {
		n.home = c.servers[to]
		n.hangUp(errKicked)
	})
}

// Hang makes a node's connection half-open until [Cluster.HealNode]: nothing gets out or in, and nothing closes. What the
// server has for the node waits in it. A publish blocks, is uncertain when its context ends, and was not taken.
func (c *Cluster) Hang(id transport.NodeID) {
	c.on(id, func(n *node) { n.faults.deaf, n.faults.mute = true, true })
}

// Deafen keeps from a node what its server sends, as Hang does.
func (c *Cluster) Deafen(id transport.NodeID) { c.on(id, func(n *node) { n.faults.deaf = true }) }

// Mute keeps from the server what a node sends, as Hang does.
func (c *Cluster) Mute(id transport.NodeID) { c.on(id, func(n *node) { n.faults.mute = true }) }

// Lose loses what is published from now on for a node, silently, until [Cluster.HealNode].
func (c *Cluster) Lose(id transport.NodeID) { c.on(id, func(n *node) { n.faults.lose = true }) }

// Part cuts the server that a node connects to off from all others, as [Cluster.Cut] does, until heal is called.
func (c *Cluster) Part(id transport.NodeID) (heal func()) {
	at := -1
	c.on(id, func(n *node) { at = slices.Index(c.servers, n.home) })
	if at < 0 {
		panic("routed: no such node")
	}
	each := func(do func(a, b int)) {
		for other := range c.servers {
			if other != at {
				do(at, other)
			}
		}
	}
	each(c.Cut)
	return func() { each(c.Heal) }
}

// HealNode ends all faults of a node. What waited is handed over, in order, before it returns; then the node is told that its
// connection is closed, if it is; then blocked calls go on.
func (c *Cluster) HealNode(id transport.NodeID) {
	c.on(id, func(n *node) {
		n.faults = faults{}
		if k := n.conn; k != nil {
			held := k.held
			k.held = nil
			for _, it := range held {
				n.receive(it.channel, it.data)
			}
			if k.fate != nil {
				n.leave()
				n.sink.Down(transport.OnlyLink, k.fate)
			}
		}
		n.wake()
	})
}

// on does something to a node that is not closed.
func (c *Cluster) on(id transport.NodeID, do func(*node)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[id]; n != nil {
		do(n)
	}
}
