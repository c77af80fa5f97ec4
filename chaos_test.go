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
// and faults all the time. Nothing locks up, nothing is heard twice or out of order, and when the
// faults end everything is well and nothing is left.
func TestChaos(t *testing.T) {
	for range 3 {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

const (
	chaosNodes  = 4
	chaosGroups = 6
	chaosTime   = 3 * time.Minute
)

func chaos(t *testing.T, seed uint64) {
	t.Helper()
	random := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
	broker := inmem.NewBroker()
	var nodes []*backplane.Node
	for i := range chaosNodes {
		n := openOnly(t, broker.Opener(), backplane.Options{WaitWhenDown: i%2 == 0, QueueMessages: 50, MaxCounters: 64})
		n.Answer("echo", echo)
		nodes = append(nodes, n)
	}
	judges := make([]*judge, 0, chaosNodes*chaosGroups)
	for i, n := range nodes {
		for g := range chaosGroups {
			j := &judge{t: t, name: fmt.Sprintf("group %d at node %d", g, i), last: map[backplane.NodeID]uint64{}}
			_, err := n.Subscribe(t.Context(), backplane.Group(strconv.Itoa(g)), j.hear)
			wantIs(t, "subscribe", err)
			judges = append(judges, j)
		}
	}
	end := time.Now().Add(chaosTime)
	var wg sync.WaitGroup
	for i, n := range nodes {
		for g := range chaosGroups { // each publisher numbers its messages to each group
			r := random(uint64(100*i + g))
			wg.Go(func() {
				for k := uint64(1); time.Now().Before(end); k++ {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(2000))*time.Millisecond)
					err := n.Publish(ctx, backplane.Group(strconv.Itoa(g)), binary.BigEndian.AppendUint64(nil, k))
					cancel()
					if err != nil && !errors.Is(err, backplane.ErrUncertain) && !errors.Is(err, backplane.ErrUnavailable) {
						t.Errorf("publish: %v", err)
					}
					time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
				}
			})
		}
		r := random(uint64(1000 + i))
		wg.Go(func() { // comes and goes
			for time.Now().Before(end) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(3000))*time.Millisecond)
				if s, err := n.Subscribe(ctx, backplane.Group(strconv.Itoa(r.IntN(2*chaosGroups))), ignore); err == nil {
					time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
					wantIs(t, "close of a subscription", s.Close(t.Context()))
				}
				if _, err := n.AskAll(ctx, "echo", []byte("?")); err != nil && !errors.Is(err, backplane.ErrUnavailable) {
					t.Errorf("ask: %v", err)
				}
				cancel()
				time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
			}
		})
	}
	wg.Go(func() { // guests
		r := random(5000)
		for time.Now().Before(end) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if n, err := backplane.Open(ctx, broker.Opener(), backplane.Options{}); err == nil {
				_ = n.Publish(ctx, backplane.Group("0"), binary.BigEndian.AppendUint64(nil, 1))
				time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
				if err := n.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("close of a guest: %v", err)
				}
			}
			cancel()
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		}
	})
	r := random(6000)
	for time.Now().Before(end) {
		id := nodes[r.IntN(len(nodes))].ID()
		switch r.IntN(12) {
		case 0:
			broker.Cut(id)
		case 1:
			broker.Kick(id)
		case 2:
			broker.Hang(id)
		case 3:
			broker.Deafen(id)
		case 4:
			broker.Mute(id)
		case 5:
			broker.Drop(id, r.IntN(10), nil)
		case 6:
			broker.Delay(id, time.Duration(r.IntN(300))*time.Millisecond)
		case 7:
			broker.Stop()
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			broker.Start()
		default:
			broker.Heal(id)
		}
		time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
	}
	for _, n := range nodes {
		broker.Heal(n.ID())
	}
	wg.Wait()
	time.Sleep(2 * time.Minute)
	for i, n := range nodes {
		if h, s := n.Health(), n.Stats(); h.State != backplane.Up || s.Members != chaosNodes || s.Subscriptions != chaosGroups ||
			s.ChannelsWanted != s.ChannelsConfirmed || s.PublishQueueBytes != 0 || s.ReceiveQueueBytes != 0 || s.Counters > 8 {
			t.Errorf("node %d at the end: %+v %+v", i, h, s)
		}
	}
	for g := range chaosGroups {
		publish(t, nodes[0], backplane.Group(strconv.Itoa(g)), "\x00\x00\x00\x00\x7f\xff\xff\xff")
	}
	synctest.Wait()
	for _, j := range judges {
		if !j.heardLast {
			t.Errorf("%s did not hear the last message", j.name)
		}
	}
	for _, n := range nodes {
		wantIs(t, "close", n.Close(t.Context()))
	}
}

// judge hears one subscription: each message of a publisher once, and in order. That what is missing is told is the business
// of the lying transport's tests.
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
	j.heardLast = j.heardLast || k == 1<<31-1
}
