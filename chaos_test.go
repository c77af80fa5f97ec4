package backplane_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// Everything at once: publishers with short patience, subscriptions that come and go, questions, nodes that open and close,
// and faults all the time. Nothing locks up, nothing is heard twice or out of order, and when the faults end everything is
// well and nothing is left. (That what is missing is told is the business of the lying transport's tests.)
func TestChaos(t *testing.T) {
	for range 3 {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &chaos{t: t, seed: seed, broker: inmem.NewBroker(), end: time.Now().Add(3 * time.Minute)}
				c.open()
				for i, n := range c.nodes {
					for g := range chaosGroups {
						c.wg.Go(func() { c.publish(n, g, c.random(100*i+g)) })
					}
					c.wg.Go(func() { c.visit(n, c.random(1000+i)) })
				}
				c.wg.Go(func() { c.guests(c.random(5000)) })
				c.harm(c.random(6000))
				c.wg.Wait()
				time.Sleep(2 * time.Minute)
				c.check()
			})
		})
	}
}

const (
	chaosNodes  = 4
	chaosGroups = 6
	chaosLast   = 1<<31 - 1 // the number of the message that everybody must hear
)

// chaos is one run, in a bubble.
type chaos struct {
	t      *testing.T
	seed   uint64
	broker *inmem.Broker
	nodes  []*backplane.Node
	judges []*judge
	end    time.Time
	wg     sync.WaitGroup
}

func (c *chaos) random(stream int) *rand.Rand { return rand.New(rand.NewPCG(c.seed, uint64(stream))) }

func (c *chaos) goesOn() bool { return time.Now().Before(c.end) }

// pause lets a random time of the bubble pass, of up to d.
func (c *chaos) pause(r *rand.Rand, d time.Duration) { <-time.After(time.Duration(r.Int64N(int64(d)))) }

func (c *chaos) open() {
	for i := range chaosNodes {
		n := openOnly(c.t, c.broker.Opener(), backplane.Options{WaitWhenDown: i%2 == 0, QueueMessages: 50, MaxCounters: 64})
		n.Answer("echo", echo)
		c.nodes = append(c.nodes, n)
		for g := range chaosGroups {
			j := &judge{t: c.t, name: fmt.Sprintf("group %d at node %d", g, i), last: map[backplane.NodeID]uint64{}}
			_, err := n.Subscribe(c.t.Context(), backplane.Group(strconv.Itoa(g)), j.hear)
			wantIs(c.t, "subscribe", err)
			c.judges = append(c.judges, j)
		}
	}
}

// publish publishes numbered messages to one group, the only ones of its node.
func (c *chaos) publish(n *backplane.Node, group int, r *rand.Rand) {
	for k := uint64(1); c.goesOn(); k++ {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Duration(r.Int64N(int64(2*time.Second))))
		err := n.Publish(ctx, backplane.Group(strconv.Itoa(group)), binary.BigEndian.AppendUint64(nil, k))
		cancel()
		if err != nil && !errors.Is(err, backplane.ErrUncertain) && !errors.Is(err, backplane.ErrUnavailable) {
			c.t.Errorf("publish: %v", err)
		}
		c.pause(r, 4*time.Second)
	}
}

// visit subscribes for a moment, and asks.
func (c *chaos) visit(n *backplane.Node, r *rand.Rand) {
	for c.goesOn() {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Duration(r.Int64N(int64(3*time.Second))))
		if s, err := n.Subscribe(ctx, backplane.Group(strconv.Itoa(r.IntN(2*chaosGroups))), ignore); err == nil {
			c.pause(r, time.Second)
			wantIs(c.t, "close of a subscription", s.Close(c.t.Context()))
		}
		if _, err := n.AskAll(ctx, "echo", []byte("?")); err != nil && !errors.Is(err, backplane.ErrUnavailable) {
			c.t.Errorf("ask: %v", err)
		}
		cancel()
		c.pause(r, time.Second/2)
	}
}

// guests opens nodes that publish once and close.
func (c *chaos) guests(r *rand.Rand) {
	for c.goesOn() {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		if n, err := backplane.Open(ctx, c.broker.Opener(), backplane.Options{}); err == nil {
			_ = n.Publish(ctx, backplane.Group("0"), binary.BigEndian.AppendUint64(nil, 1)) // it may fail, but not hang
			c.pause(r, 4*time.Second)
			if err := n.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				c.t.Errorf("close of a guest: %v", err)
			}
		}
		cancel()
		c.pause(r, 3*time.Second)
	}
}

// harm does one bad thing after the other, and heals everything at the end.
func (c *chaos) harm(r *rand.Rand) {
	for c.goesOn() {
		id := c.nodes[r.IntN(len(c.nodes))].ID()
		switch r.IntN(12) {
		case 0:
			c.broker.Cut(id)
		case 1:
			c.broker.Kick(id)
		case 2:
			c.broker.Hang(id)
		case 3:
			c.broker.Deafen(id)
		case 4:
			c.broker.Mute(id)
		case 5:
			c.broker.Drop(id, r.IntN(10), nil)
		case 6:
			c.broker.Delay(id, time.Duration(r.Int64N(int64(300*time.Millisecond))))
		case 7:
			c.broker.Stop()
			c.pause(r, 3*time.Second)
			c.broker.Start()
		default:
			c.broker.Heal(id)
		}
		c.pause(r, 2*time.Second)
	}
	for _, n := range c.nodes {
		c.broker.Heal(n.ID())
	}
}

func (c *chaos) check() {
	synctest.Wait()
	for i, n := range c.nodes {
		if h, s := n.Health(), n.Stats(); h.State != backplane.Up || s.Members != chaosNodes || s.Subscriptions != chaosGroups ||
			s.ChannelsWanted != s.ChannelsConfirmed || s.PublishQueueBytes != 0 || s.ReceiveQueueBytes != 0 || s.Counters > 8 {
			c.t.Errorf("node %d at the end: %+v %+v", i, h, s)
		}
	}
	for g := range chaosGroups {
		publish(c.t, c.nodes[0], backplane.Group(strconv.Itoa(g)), string(binary.BigEndian.AppendUint64(nil, chaosLast)))
	}
	synctest.Wait()
	for _, j := range c.judges {
		if !j.heardLast {
			c.t.Errorf("%s did not hear the last message", j.name)
		}
	}
	for _, n := range c.nodes {
		wantIs(c.t, "close", n.Close(c.t.Context()))
	}
}

// judge hears one subscription: each message of a publisher once, and in order.
type judge struct {
	t         *testing.T
	name      string
	last      map[backplane.NodeID]uint64
	heardLast bool
}

func (j *judge) hear(_ context.Context, e backplane.Event) {
	m, ok := e.(*backplane.Message)
	if !ok {
		return
	}
	k := binary.BigEndian.Uint64(m.Payload)
	if k <= j.last[m.Publisher] {
		j.t.Errorf("%s: %d after %d of %v", j.name, k, j.last[m.Publisher], m.Publisher)
	}
	j.last[m.Publisher] = k
	j.heardLast = j.heardLast || k == chaosLast
}
