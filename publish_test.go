package backplane_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

func TestPublishFailsAtOnceWhenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		broker.Cut(a.ID())
		time.Sleep(time.Second) // an attempt to connect has failed
		began := time.Now()
		wantIs(t, "publish", a.Publish(t.Context(), ward, []byte("1")), backplane.ErrUnavailable)
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %v", d)
		}
		if err := a.Publish(t.Context(), ward, []byte("2")); errors.Is(err, backplane.ErrUncertain) {
			t.Errorf("definite and uncertain at once: %v", err)
		}
		broker.Heal(a.ID())
		time.Sleep(5 * time.Second)
		publish(t, a, ward, "3")
		expect(t, "after", atB.heard(), "3") // what failed was not sent, and is no gap
	})
}

func TestPublishWaitsWhenDownIfAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{WaitWhenDown: true}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		synctest.Wait()
		broker.Cut(a.ID())
		time.Sleep(time.Minute)
		err := a.Publish(within(t, time.Minute), ward, []byte("given up"))
		wantIs(t, "publish whose context ends", err, backplane.ErrUnavailable, context.DeadlineExceeded)
		var waiting []<-chan error
		for i := range 3 {
			waiting = append(waiting, async(func() error { return a.Publish(t.Context(), ward, []byte(strconv.Itoa(i))) }))
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		for _, w := range waiting {
			pending(t, "a publish without a link", w)
		}
		broker.Heal(a.ID())
		for _, w := range waiting {
			wantIs(t, "publish", <-w)
		}
		heard := atB.heard()
		if len(heard) == 0 || heard[0] != "gap:member:0" { // b had declared a dead
			t.Errorf("a member that is back was not announced before its messages: %q", heard)
		}
		heard = slices.DeleteFunc(heard, func(s string) bool { return s == "gap:member:0" })
		expect(t, "healed", heard, "0", "1", "2")
	})
}

// While a message waits, it can be taken back: then its fate is definite and nobody hears it. Once it is under way the
// end of the context leaves it open.
func TestContextOfAPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		publish(t, a, ward, "1")
		broker.Delay(a.ID(), 2*time.Second)
		underWay := async(func() error { return a.Publish(within(t, time.Second), ward, []byte("2")) })
		synctest.Wait()
		queued := async(func() error { return a.Publish(within(t, time.Second), ward, []byte("3")) })
		err := <-queued
		wantIs(t, "queued", err, backplane.ErrUnavailable, context.DeadlineExceeded)
		if errors.Is(err, backplane.ErrUncertain) {
			t.Errorf("queued: %v", err)
		}
		wantIs(t, "under way", <-underWay, backplane.ErrUncertain, context.DeadlineExceeded)
		time.Sleep(3 * time.Second)
		publish(t, a, ward, "4")
		expect(t, "b", atB.heard(), "1", "2", "4")
	})
}

// A message that was taken back stands nowhere any more: what is published next is sent once, and in its place.
func TestTakenBackIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		broker.Delay(a.ID(), time.Second)
		var done []<-chan error
		send := func(payload string, d time.Duration) {
			done = append(done, async(func() error { return a.Publish(within(t, d), ward, []byte(payload)) }))
			synctest.Wait()
		}
		send("under way", time.Minute)
		for i := range 9 {
			d := time.Minute
			if i%3 == 0 {
				d = 100 * time.Millisecond
			}
			send(strconv.Itoa(i), d)
		}
		time.Sleep(500 * time.Millisecond)
		send("new 1", time.Minute)
		send("new 2", time.Minute)
		for _, d := range done {
			if err := <-d; err != nil && !errors.Is(err, backplane.ErrUnavailable) {
				t.Error(err)
			}
		}
		expect(t, "b", atB.heard(), "under way", "1", "2", "4", "5", "7", "8", "new 1", "new 2")
	})
}

// Between the failure of a link and its next attempt to connect publishes wait: the attempt most often succeeds.
func TestPublishWhileTheLinkIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{QueueMessages: 10_000})
		atB, _ := listen(t, b, ward)
		var want []string
		for i := range 300 {
			time.Sleep(3 * time.Second) // else the back-off comes in between
			want = append(want, strconv.Itoa(i))
			kicked := async(func() error { broker.Kick(a.ID()); return nil })
			publish(t, a, ward, want[i])
			wantIs(t, "kick", <-kicked)
		}
		expect(t, "b", atB.heard(), want...)
	})
}

// Whatever the transport says to a frame, the message is heard once, nothing overtakes it, and there is no gap.
func TestUnknownOutcomesAreRetriedAndHeardOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var calls atomic.Int64
		opener, _ := tapped(broker, func(tp *tap) {
			tp.publish = func(_ context.Context, frames []transport.Frame, next func() []error) []error {
				if !holds(frames, wardChannel) {
					return next()
				}
				switch calls.Add(1) % 4 {
				case 1: // taken, but the answer was lost
					next()
					return all(len(frames), transport.ErrUncertain)
				case 2: // lost on the way
					return all(len(frames), errors.New("some error that says nothing"))
				case 3: // the attempt before may have been heard, so this is not definite either
					return all(len(frames), transport.ErrUnavailable)
				default:
					return next()
				}
			}
		})
		a, b := open(t, opener, backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atA, _ := listen(t, a, ward)
		atB, _ := listen(t, b, ward)
		var want []string
		for i := range 20 {
			want = append(want, strconv.Itoa(i))
			publish(t, a, ward, want[i])
		}
		expect(t, "a", atA.heard(), want...)
		expect(t, "b", atB.heard(), want...)
		if s := b.Stats(); s.RepeatsDropped != 20 || s.Gaps != 0 {
			t.Errorf("repeats dropped: %d, want 20; gaps: %d", s.RepeatsDropped, s.Gaps)
		}
	})
}

// A refused message gives its number back, so that it is no gap.
func TestRefusedPublishIsNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var refusal atomic.Value // of refusing
		type refusing struct{ err error }
		refusal.Store(refusing{})
		opener, _ := tapped(broker, func(tp *tap) {
			tp.publish = func(_ context.Context, frames []transport.Frame, next func() []error) []error {
				if r, _ := refusal.Load().(refusing); r.err != nil && holds(frames, wardChannel) {
					return all(len(frames), r.err)
				}
				return next()
			}
		})
		a, b := open(t, opener, backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		for _, refuse := range []error{transport.ErrDenied, transport.ErrTooLarge, transport.ErrUnavailable} {
			refusal.Store(refusing{refuse})
			err := a.Publish(t.Context(), ward, []byte("refused"))
			wantIs(t, "publish", err, refuse)
			if errors.Is(err, backplane.ErrUncertain) {
				t.Errorf("refused, yet uncertain: %v", err)
			}
		}
		refusal.Store(refusing{})
		publish(t, a, ward, "1")
		refusal.Store(refusing{transport.ErrDenied})
		wantIs(t, "batch", a.PublishBatch(t.Context(), []backplane.Outgoing{{To: ward}, {To: ward}}), backplane.ErrDenied)
		refusal.Store(refusing{})
		publish(t, a, ward, "2")
		expect(t, "b", atB.heard(), "1", "2")
		time.Sleep(time.Minute)
		expect(t, "after the marks", atB.heard())
		if s := b.Stats(); s.RepeatsDropped != 0 {
			t.Errorf("%d repeats", s.RepeatsDropped)
		}
	})
}

// What cannot come right by trying again is not tried for ever, even where an earlier attempt may have been heard.
func TestRefusalAfterAnUnknownOutcomeEnds(t *testing.T) {
	for _, refusal := range []error{transport.ErrDenied, transport.ErrTooLarge} {
		synctest.Test(t, func(t *testing.T) {
			broker := inmem.NewBroker()
			calls := 0
			opener, _ := tapped(broker, func(tp *tap) {
				tp.publish = func(_ context.Context, frames []transport.Frame, next func() []error) []error {
					if !holds(frames, wardChannel) {
						return next()
					}
					if calls++; calls == 1 {
						return all(len(frames), transport.ErrUncertain)
					}
					return all(len(frames), refusal)
				}
			})
			a := open(t, opener, backplane.Options{})
			err := a.Publish(within(t, time.Minute), ward, nil)
			wantIs(t, "publish", err, backplane.ErrUncertain)
			if errors.Is(err, refusal) {
				t.Errorf("definite and uncertain at once: %v", err)
			}
			if calls != 2 {
				t.Errorf("%d attempts", calls)
			}
		})
	}
}

// Publishers that nobody can serve wait for their contexts and for nothing else, and everything moves on afterwards.
func TestFullPublishQueueBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{PublishBytes: 4096}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		broker.Delay(a.ID(), 2500*time.Millisecond)
		kilo := bytes.Repeat([]byte("k"), 1000)
		first := async(func() error { return a.Publish(t.Context(), ward, kilo) })
		synctest.Wait()
		var errs []<-chan error
		for range 10 {
			errs = append(errs, async(func() error { return a.Publish(within(t, time.Second), ward, kilo) }))
		}
		synctest.Wait()
		if s := a.Stats(); s.PublishQueueBytes > 4096 {
			t.Errorf("%d bytes wait", s.PublishQueueBytes)
		}
		full := 0
		for _, c := range errs {
			err := <-c
			wantIs(t, "publish", err, backplane.ErrUnavailable, context.DeadlineExceeded)
			if strings.Contains(err.Error(), "queue is full") {
				full++
			}
		}
		if full == 0 {
			t.Error("nobody found the queue full")
		}
		wantIs(t, "first", <-first)
		broker.Heal(a.ID())
		publish(t, a, ward, "after")
		expect(t, "b", atB.heard(), string(kilo), "after")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := a.Stats(); s.PublishQueueBytes != 0 {
			t.Errorf("%d bytes wait at the end", s.PublishQueueBytes)
		}
	})
}

func TestPublishRefusesBeforeAnyIO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		frames := 0
		opener, _ := tapped(broker, func(tp *tap) {
			tp.publish = func(_ context.Context, f []transport.Frame, next func() []error) []error {
				frames += len(f)
				return next()
			}
		})
		a := open(t, opener, backplane.Options{MaxPayload: 100})
		synctest.Wait()
		before := frames
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, c := range []struct {
			what    string
			ctx     context.Context
			to      backplane.Address
			payload []byte
			want    []error
		}{
			{"payload", t.Context(), ward, make([]byte, 101), []error{backplane.ErrTooLarge}},
			{"zero address", t.Context(), backplane.Address{}, nil, []error{backplane.ErrInvalidAddress}},
			{"empty name", t.Context(), backplane.Group(""), nil, []error{backplane.ErrInvalidAddress}},
			{"empty scope", t.Context(), ward.In(""), nil, []error{backplane.ErrInvalidAddress}},
			{"context", ended, ward, nil, []error{backplane.ErrUnavailable, context.Canceled}},
		} {
			err := a.Publish(c.ctx, c.to, c.payload)
			wantIs(t, c.what, err, c.want...)
			if typed, ok := errors.AsType[*backplane.Error](err); !ok || typed.Op != "publish" || typed.Address != c.to {
				t.Errorf("%s: %#v", c.what, err)
			}
			wantIs(t, c.what+" in a batch", a.PublishBatch(c.ctx, []backplane.Outgoing{{To: c.to, Payload: c.payload}}), c.want...)
		}
		publishOnce := func() error { return a.Publish(t.Context(), ward, make([]byte, 100)) }
		if synctest.Wait(); frames != before {
			t.Errorf("%d frames were sent", frames-before)
		}
		wantIs(t, "largest payload", publishOnce())
		wantIs(t, "close", a.Close(t.Context()))
		before = frames
		wantIs(t, "closed", publishOnce(), backplane.ErrClosed)
		wantIs(t, "closed, batch", a.PublishBatch(t.Context(), []backplane.Outgoing{{To: ward}}), backplane.ErrClosed)
		if frames != before {
			t.Error("frames were sent after Close")
		}
		if s := a.Stats(); s.Published != 1 || s.PublishFailed != 12 {
			t.Errorf("published %d, failed %d", s.Published, s.PublishFailed)
		}
	})
}

func TestPublishBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		other, forbidden := backplane.User("u17"), backplane.Group("forbidden")
		atWard, _ := listen(t, b, ward)
		atOther, _ := listen(t, b, other)
		broker.Deny(func(r inmem.Request) bool { return r.Op == inmem.OpPublish && r.Channel == "default:g:forbidden" })
		wantIs(t, "empty batch", a.PublishBatch(t.Context(), nil))
		batch := []backplane.Outgoing{
			{To: ward, Payload: []byte("1")},
			{To: forbidden, Payload: []byte("x")},
			{To: other, Payload: []byte("2")},
			{To: backplane.Group("")},
			{To: ward, Payload: []byte("3")},
			{To: other, Payload: []byte("4")},
		}
		err := a.PublishBatch(t.Context(), batch)
		failed, ok := errors.AsType[*backplane.BatchError](err)
		if !ok || len(failed.Errors) != len(batch) {
			t.Fatalf("PublishBatch: %v", err)
		}
		for i, want := range []error{nil, backplane.ErrDenied, nil, backplane.ErrInvalidAddress, nil, nil} {
			if got := failed.Errors[i]; want == nil && got != nil || !errors.Is(got, want) {
				t.Errorf("message %d: %v, want %v", i, got, want)
			}
		}
		if text := err.Error(); !strings.Contains(text, "2 of 6") {
			t.Errorf("the error reads %q", text)
		}
		expect(t, "ward", atWard.heard(), "1", "3")
		expect(t, "other", atOther.heard(), "2", "4")

		// A batch that is larger than the queue goes in parts, in order.
		var want []string
		batch = batch[:0]
		for i := range 5000 {
			want = append(want, strconv.Itoa(i))
			batch = append(batch, backplane.Outgoing{To: ward, Payload: append(make([]byte, 0, 2000), want[i]...)})
		}
		wantIs(t, "large batch", a.PublishBatch(t.Context(), batch))
		got := atWard.heard()
		if n := len(got); n < 1024 || fmt.Sprint(got[:1024]) != fmt.Sprint(want[:1024]) {
			t.Errorf("heard %d, beginning with %q", n, got[:min(n, 5)])
		}

		// The end of the context splits a batch: what was taken, what may have been, what was not.
		broker.Mute(a.ID())
		errBatch := a.PublishBatch(within(t, time.Second), []backplane.Outgoing{{To: ward}, {To: other}, {To: ward}})
		wantIs(t, "muted", errBatch, backplane.ErrUncertain, context.DeadlineExceeded)
	})
}

// The buffers belong to the caller again when the call has returned, also where the node still tries.
func TestPublishersMayReuseTheirBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		broker.Mute(a.ID())
		buffers := [][]byte{[]byte("same"), []byte("same"), []byte("same")}
		var done []<-chan error
		for _, buf := range buffers {
			done = append(done, async(func() error {
				err := a.Publish(within(t, time.Second), ward, buf)
				copy(buf, "XXXX")
				return err
			}))
			synctest.Wait()
		}
		done = append(done, async(func() error {
			return a.Publish(t.Context(), ward, []byte("last"))
		}))
		for _, d := range done[:3] {
			if err := <-d; err == nil {
				t.Error("published while nothing got out")
			}
		}
		broker.Heal(a.ID())
		wantIs(t, "last", <-done[3])
		time.Sleep(5 * time.Second)
		for _, heard := range atB.heard() {
			if strings.Contains(heard, "X") {
				t.Errorf("heard %q", heard)
			}
		}
	})
}

// A table of numbers much smaller than the number of addresses slows publishing down and loses nothing.
func TestManyAddressesWithFewCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{MaxCounters: 16}), open(t, broker.Opener(), backplane.Options{})
		const addresses = 3000
		heard := make(chan string, 2*addresses)
		for i := range addresses {
			_, err := b.Subscribe(t.Context(), backplane.Group(strconv.Itoa(i)), func(_ context.Context, e backplane.Event) {
				switch e := e.(type) {
				case *backplane.Message:
					heard <- string(e.Payload)
				case *backplane.Gap:
					t.Errorf("gap: %+v", e)
				}
			})
			wantIs(t, "subscribe", err)
		}
		var wg sync.WaitGroup
		for part := range 10 {
			wg.Go(func() {
				for i := part; i < addresses; i += 10 {
					wantIs(t, "publish", a.Publish(t.Context(), backplane.Group(strconv.Itoa(i)), []byte(strconv.Itoa(i))))
					if c := a.Stats().Counters; c > 40 {
						t.Errorf("%d counters", c)
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if len(heard) != addresses {
			t.Errorf("heard %d of %d", len(heard), addresses)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for _, n := range []*backplane.Node{a, b} {
			if s := n.Stats(); s.Counters > 8 || s.PublishQueueBytes != 0 {
				t.Errorf("at rest: %d counters, %d bytes in the queue", s.Counters, s.PublishQueueBytes)
			}
		}
	})
}

// Publishing to ever new addresses while the broker is away leaves nothing behind, whether it fails at once or waits.
func TestPublishingInAnOutageKeepsNothing(t *testing.T) {
	for _, wait := range []bool{false, true} {
		t.Run(fmt.Sprintf("WaitWhenDown=%v", wait), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				a := open(t, broker.Opener(), backplane.Options{WaitWhenDown: wait})
				synctest.Wait()
				broker.Cut(a.ID())
				time.Sleep(time.Second)
				for i := range 1000 {
					if err := a.Publish(within(t, time.Millisecond), backplane.Group(strconv.Itoa(i)), make([]byte, 1000)); err == nil {
						t.Fatal("published")
					}
				}
				if s := a.Stats(); s.Counters > 8 || s.PublishQueueBytes != 0 {
					t.Errorf("kept: %d counters, %d bytes", s.Counters, s.PublishQueueBytes)
				}
			})
		})
	}
}

// A broker that refuses tail marks from some moment on must not leave a full table for ever.
func TestDeniedMarksFreeTheirCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a := open(t, broker.Opener(), backplane.Options{MaxCounters: 16})
		for i := range 16 {
			publish(t, a, backplane.Group(strconv.Itoa(i)), "x")
		}
		broker.Deny(func(r inmem.Request) bool {
			return r.Op == inmem.OpPublish && strings.HasPrefix(r.Channel, "default:g:")
		})
		time.Sleep(time.Minute)
		broker.Deny(nil)
		before := a.Stats().FramesSent
		wantIs(t, "publish", a.Publish(within(t, time.Second), ward, nil))
		if sent := a.Stats().FramesSent - before; sent > 4 {
			t.Errorf("%d frames for one publish", sent)
		}
	})
}

// Many publishers, faults, short contexts: every call returns, and each subscriber hears each publisher in order, once.
func TestOrderUnderFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{QueueMessages: 100_000})
		last := map[string]int{}
		sub := func(_ context.Context, e backplane.Event) {
			m, ok := e.(*backplane.Message)
			if !ok {
				return
			}
			var who, k int
			if _, err := fmt.Sscanf(string(m.Payload), "%d/%d", &who, &k); err != nil {
				t.Error(err)
			}
			key := fmt.Sprint(m.Address, who)
			if k <= last[key] {
				t.Errorf("%s: %d after %d", key, k, last[key])
			}
			last[key] = k
		}
		_, err := b.Subscribe(t.Context(), ward, sub)
		wantIs(t, "subscribe", err)
		var wg sync.WaitGroup
		for who := range 8 {
			wg.Go(func() {
				for k := 1; k <= 300; k++ {
					_ = a.Publish(within(t, time.Duration(1+k%40)*time.Millisecond), ward, fmt.Appendf(nil, "%d/%d", who, k))
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		for i := range 20 {
			time.Sleep(100 * time.Millisecond)
			switch i % 4 {
			case 0:
				broker.Delay(a.ID(), 30*time.Millisecond)
			case 1:
				broker.Kick(a.ID())
			case 2:
				broker.Mute(a.ID())
			default:
				broker.Heal(a.ID())
			}
		}
		broker.Heal(a.ID())
		wg.Wait()
		synctest.Wait()
	})
}
