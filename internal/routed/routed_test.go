package routed_test

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/internal/routed"
	"github.com/gobackplane/backplane/transport"
)

// peer is a transport with a sink that writes down what it is told.
type peer struct {
	transport.Transport

	t  *testing.T
	id transport.NodeID

	mu    sync.Mutex
	heard []string          // "channel=data" for frames, "down" for Down
	on    func(data string) // called with each frame; nil does nothing
}

// joined connects a peer to a server, which the test closes at its end, and subscribes it to channels.
func joined(t *testing.T, c *routed.Cluster, id transport.NodeID, at int, channels ...string) *peer {
	t.Helper()
	tr, err := c.Opener(at)(transport.Config{Node: id})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{Transport: tr, t: t, id: id}
	tr.Start(p)
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	p.connect()
	p.subscribe(channels...)
	return p
}

func (p *peer) connect() {
	p.t.Helper()
	if err := p.Connect(p.t.Context(), transport.OnlyLink); err != nil {
		p.t.Fatalf("connect %s: %v", p.id, err)
	}
}

func (p *peer) subscribe(channels ...string) {
	p.t.Helper()
	if errs := p.Subscribe(p.t.Context(), transport.OnlyLink, channels); errs != nil {
		p.t.Fatalf("subscribe %s: %v", p.id, errs)
	}
}

func (p *peer) publish(channel string, data ...string) {
	p.t.Helper()
	var frames []transport.Frame
	for _, d := range data {
		frames = append(frames, transport.Frame{Channel: channel, Data: []byte(d)})
	}
	if errs := p.Publish(p.t.Context(), transport.OnlyLink, frames); errs != nil {
		p.t.Fatalf("publish %s: %v", p.id, errs)
	}
}

func (p *peer) Frame(_ transport.Link, channel string, data []byte) {
	p.mu.Lock()
	p.heard = append(p.heard, channel+"="+string(data))
	on := p.on
	p.mu.Unlock()
	if on != nil {
		on(string(data))
	}
}

func (p *peer) Gap(transport.Link, []string, bool, error) { panic("routed reports no gaps") }

func (p *peer) Down(transport.Link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, "down")
}

// hears fails the test unless exactly this was heard since the last look.
func (p *peer) hears(want ...string) {
	p.t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.heard, want) {
		p.t.Errorf("%s heard %q, want %q", p.id, p.heard, want)
	}
	p.heard = nil
}

// pass lets time pass, in a bubble, and what is due then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

const step = time.Millisecond // the latency of most tests here

func three() *routed.Cluster { return routed.New(routed.Options{Servers: 3, Latency: step}) }

// What this package is for: a confirmed subscription is not known to the other servers yet, and nobody is told of what that
// loses.
func TestPublishRightAfterSubscribeElsewhereIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three()
		a, b, neighbour := joined(t, c, "a", 0), joined(t, c, "b", 1), joined(t, c, "neighbour", 0)
		a.subscribe("one")
		b.publish("one", "lost")
		neighbour.publish("one", "same server")
		a.hears("one=same server")
		pass(step - 1)
		b.publish("one", "lost as well")
		pass(1)
		b.publish("one", "heard")
		a.hears()
		pass(step)
		a.hears("one=heard")
		if missed := c.Missed(); !maps.Equal(missed, map[string]int{"one": 2}) {
			t.Errorf("missed %v, want 2 of one", missed)
		}
		if heard := c.Heard("a"); !maps.Equal(heard, map[string]int{"one": 2}) {
			t.Errorf("heard %v, want 2 of one", heard)
		}
	})
}

// What closes the window: a question behind the subscription, and its answer. It does so for the answerer's server alone.
func TestAnswerClosesTheWindow(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := routed.New(routed.Options{Servers: 3, Latency: step, Jitter: 10 * step, Seed: seed})
				c.SetLatency(0, 2, time.Second)
				a, b, late := joined(t, c, "a", 0, "answers"), joined(t, c, "b", 1, "questions"), joined(t, c, "late", 2, "questions")
				pass(2 * time.Second)
				questions, answers := make(chan string, 2), make(chan string, 2)
				b.on = func(data string) { questions <- data }
				a.on = func(data string) {
					if data != "said" {
						answers <- data
					}
				}
				for i := range 20 {
					channel := strconv.Itoa(i)
					a.subscribe(channel)
					a.publish("questions", "?")
					b.publish("answers", <-questions)
					<-answers
					b.publish(channel, "said")
					late.publish(channel, "said")
				}
				pass(2 * time.Second)
				heard, missed := c.Heard("a"), c.Missed()
				for i := range 20 {
					channel := strconv.Itoa(i)
					if heard[channel] != 1 || missed[channel] != 1 {
						t.Errorf("%s: heard %d and missed %d, want that of b and not that of the third server", channel, heard[channel], missed[channel])
					}
				}
			})
		})
	}
}

func TestRouteKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := routed.New(routed.Options{Servers: 2, Latency: step, Jitter: 100 * step, Seed: 1})
		a, b := joined(t, c, "a", 0, "one", "two"), joined(t, c, "b", 1)
		pass(time.Second)
		var want []string
		for i := range 100 {
			channel := []string{"one", "two"}[i%2]
			b.publish(channel, strconv.Itoa(i))
			want = append(want, channel+"="+strconv.Itoa(i))
			if i == 50 {
				pass(20 * step) // some arrive meanwhile
			}
		}
		pass(time.Minute)
		a.hears(want...)
	})
}

// A server sends over a route only what its other side has asked for, and nothing that came over a route itself.
func TestOneHopAndOnlyWhatIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three()
		a, b, bb := joined(t, c, "a", 0, "one"), joined(t, c, "b", 1, "one", "two"), joined(t, c, "bb", 1, "one")
		other := joined(t, c, "other", 2)
		pass(step)
		a.publish("one", "x")
		a.publish("two", "y")
		pass(time.Second)
		a.hears("one=x")
		b.hears("one=x", "two=y")
		bb.hears("one=x")
		other.hears()

		// The server goes on asking until the last one has left it.
		for _, p := range []*peer{b, bb} {
			if errs := p.Unsubscribe(t.Context(), transport.OnlyLink, []string{"one"}); errs != nil {
				t.Fatal(errs)
			}
			pass(step)
			a.publish("one", "z")
			pass(step)
		}
		a.hears("one=z", "one=z")
		b.hears()
		bb.hears("one=z")

		// Who leaves with the connection takes the subscriptions along.
		b.Disconnect(transport.OnlyLink)
		b.connect()
		a.publish("two", "on its way to nobody")
		pass(time.Second)
		b.hears()
	})
}

func TestCutRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three()
		a, b, other := joined(t, c, "a", 0, "one"), joined(t, c, "b", 1, "one"), joined(t, c, "other", 2, "one")
		pass(step)
		a.publish("one", "1")
		pass(step / 2)
		c.Cut(1, 0)
		b.publish("one", "2")
		b.subscribe("two")
		pass(time.Second)
		a.hears("one=1")
		b.hears("one=2") // and 1 was under way
		other.hears("one=1", "one=2")
		if missed := c.Missed(); !maps.Equal(missed, map[string]int{"one": 2}) {
			t.Errorf("missed %v, want 2 of one", missed)
		}

		c.Heal(0, 1)
		a.publish("one", "3") // nothing was announced yet
		pass(step)
		a.publish("one", "4")
		a.publish("two", "5") // subscribed during the cut
		pass(step)
		a.hears("one=3", "one=4")
		b.hears("one=4", "two=5")
	})
}

// Behind a cut the announcements come one after another, in an order that the seed draws.
func TestHealedRouteLearnsStepByStep(t *testing.T) {
	orders := map[string]bool{}
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			c := routed.New(routed.Options{Servers: 2, Latency: step, Jitter: 100 * step, Seed: seed})
			channels := []string{"1", "2", "3", "4"}
			a, b := joined(t, c, "a", 0, channels...), joined(t, c, "b", 1)
			c.Cut(0, 1)
			c.Heal(0, 1)
			for range 1000 {
				for _, channel := range channels {
					b.publish(channel, "")
				}
				pass(step)
			}
			pass(time.Second)
			var order []string // the first that was heard of each
			a.mu.Lock()
			for _, h := range a.heard {
				if !slices.Contains(order, h) {
					order = append(order, h)
				}
			}
			a.mu.Unlock()
			orders[strings.Join(order, "")] = true
			missed := c.Missed()
			if len(order) != 4 || missed["1"] == missed["2"] && missed["2"] == missed["3"] && missed["3"] == missed["4"] {
				t.Errorf("heard %q, missed %v: all were known at the same time", order, missed)
			}
		})
	}
	if len(orders) < 10 {
		t.Errorf("only %d orders in 20 seeds", len(orders))
	}
}

func TestFrozenRouteDeliversLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three()
		a, b := joined(t, c, "a", 0, "one"), joined(t, c, "b", 1)
		pass(step)
		b.publish("one", "1")
		c.Freeze(0, 1)
		b.publish("one", "2")
		a.subscribe("two")
		pass(time.Hour)
		b.publish("two", "not known")
		a.hears()
		c.Heal(0, 1)
		a.hears("one=1", "one=2")
		b.publish("two", "known")
		pass(step)
		a.hears("two=known")
		if missed := c.Missed(); !maps.Equal(missed, map[string]int{"two": 1}) {
			t.Errorf("missed %v, want 1 of two", missed)
		}
	})
}

func TestStoppedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three()
		a, b := joined(t, c, "a", 0, "one"), joined(t, c, "b", 1, "one")
		pass(step)
		b.publish("one", "under way")
		c.Stop(0)
		a.hears("down")
		if err := a.Connect(t.Context(), transport.OnlyLink); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("connect: %v, want ErrUnavailable", err)
		}
		pass(step)
		b.publish("one", "while it is gone")
		c.Start(0)
		a.connect()
		a.publish("one", "before it knows the others")
		a.subscribe("one")
		pass(step)
		a.publish("one", "behind that")
		b.publish("one", "back")
		pass(step)
		a.hears("one=behind that", "one=back")
		b.hears("one=under way", "one=while it is gone", "one=back", "one=behind that")
	})
}

func TestFaultsOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three()
		a, b := joined(t, c, "a", 0, "one"), joined(t, c, "b", 1, "one")
		pass(step)

		c.Hang("a")
		done := make(chan []error)
		go func() {
			done <- a.Publish(t.Context(), transport.OnlyLink, []transport.Frame{{Channel: "one", Data: []byte("late")}})
		}()
		b.publish("one", "1")
		pass(time.Hour)
		a.hears()
		b.hears("one=1")
		c.HealNode("a")
		if errs := <-done; errs != nil {
			t.Error(errs)
		}
		a.hears("one=1", "one=late")
		pass(step)
		b.hears("one=late")

		// A connection given up unblocks what waits for it, whose fate is unknown.
		c.Deafen("a")
		go func() {
			done <- a.Publish(t.Context(), transport.OnlyLink, []transport.Frame{{Channel: "one", Data: []byte("taken")}})
		}()
		synctest.Wait()
		a.Disconnect(transport.OnlyLink)
		if errs := <-done; len(errs) != 1 || !errors.Is(errs[0], transport.ErrUncertain) || errors.Is(errs[0], transport.ErrUnavailable) {
			t.Errorf("published: %v, want ErrUncertain", errs)
		}
		c.HealNode("a")
		a.connect()
		a.subscribe("one")
		a.hears()
		pass(step)
		b.hears("one=taken")

		c.Lose("a")
		b.publish("one", "2")
		pass(step)
		c.HealNode("a")
		a.hears()

		c.CutNode("a")
		a.hears("down")
		if err := a.Connect(t.Context(), transport.OnlyLink); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("connect: %v, want ErrUnavailable", err)
		}
		c.HealNode("a")
		a.connect()
		c.Kick("a")
		a.hears("down")
		a.connect()

		c.Hang("a") // so it learns later that it was closed
		c.Move("a", 1)
		a.hears()
		c.HealNode("a")
		a.hears("down")
		a.connect()
		a.subscribe("two")
		b.publish("two", "at once")
		a.hears("two=at once")
	})
}

func TestClustered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for servers, want := range map[int]bool{1: false, 2: true} {
			p := joined(t, routed.New(routed.Options{Servers: servers}), "a", 0)
			if tr, ok := p.Transport.(transport.Clustered); !ok || tr.Clustered(transport.OnlyLink) != want {
				t.Errorf("%d servers: Clustered is not %v", servers, want)
			}
		}
	})
}

// Nothing runs once all is quiet, and no call comes after Close, whatever is under way; outside a bubble, as timers of the
// real clock are what could be left behind.
func TestNothingIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	for seed := range uint64(20) {
		c := routed.New(routed.Options{Servers: 3, Latency: time.Millisecond, Jitter: time.Millisecond, Seed: seed})
		a, b := joined(t, c, "a", 0, "one"), joined(t, c, "b", 1)
		var heard atomic.Int64
		a.on = func(string) { heard.Add(1) }
		for heard.Load() == 0 {
			b.publish("one", "x")
			<-time.After(100 * time.Microsecond)
		}
		b.publish("one", "x")
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		n := heard.Load()
		if errs := a.Subscribe(t.Context(), transport.OnlyLink, []string{"two"}); len(errs) != 1 || !errors.Is(errs[0], transport.ErrClosed) {
			t.Errorf("subscribe: %v, want ErrClosed", errs)
		}
		<-time.After(3 * time.Millisecond)
		if err := b.Close(); err != nil || n != heard.Load() {
			t.Errorf("close: %v; %d frames after Close", err, heard.Load()-n)
		}
	}
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		<-time.After(time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
