package nats

import (
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

func testLink(t *testing.T) *link {
	t.Helper()
	return newLink(newBus(&settings{servers: make([]server, 1)}, transport.Config{Namespace: "ward", Timeout: time.Second}), 0)
}

// Requests stand behind one another as long as their refusals would not hold everything up.
func TestBatchesShrinkWithSubscriptions(t *testing.T) {
	t.Parallel()
	l := testLink(t)
	for _, c := range []struct{ subs, batch int }{{0, 2048}, {1900, 2048}, {9_999, 400}, {99_999, 40}, {500_000, 16}} {
		for i := len(l.subs); i < c.subs; i++ {
			l.subs[strconv.Itoa(i)] = nil
		}
		if got := l.batch(); got != c.batch {
			t.Errorf("with %d subscriptions: %d, want %d", c.subs, got, c.batch)
		}
	}
}

// The socket is not read while much waits, and is again when there is room; a large frame is read to its end whatever its
// size.
func TestReadingWaitsForRoom(t *testing.T) {
	t.Parallel()
	l := testLink(t)
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	w := newWire(l, near)
	l.wire.Store(w)
	sent := make(chan int)
	go func() {
		for i := range 4 {
			_, _ = far.Write(make([]byte, readSize))
			sent <- i
		}
		for {
			if _, err := far.Write(make([]byte, readSize)); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 2*readSize)
	read := func() <-chan int {
		c := make(chan int, 1)
		go func() {
			n, _ := w.Read(buf)
			c <- n
		}()
		return c
	}
	waits := func(what string, c <-chan int) {
		t.Helper()
		for w.wakeAt.Load() < 0 {
			if t.Context().Err() != nil || len(c) > 0 {
				t.Fatalf("%s: it was read", what)
			}
		}
	}
	for range inboxMost {
		l.inbox <- &natsgo.Msg{}
	}
	if n := <-read(); n != readSize {
		t.Fatalf("%d bytes were read at once, want %d", n, readSize)
	}
	<-sent
	l.inbox <- &natsgo.Msg{}
	c := read()
	waits("one message too many", c)
	take := func() {
		<-l.inbox
		w.taken()
	}
	for len(l.inbox) > inboxMost/2+1 {
		take()
		if w.wakeAt.Load() < 0 {
			t.Fatalf("reading went on at %d messages", len(l.inbox))
		}
	}
	take()
	if <-c != readSize {
		t.Fatal("nothing was read")
	}
	<-sent
	w.since = waitMost + 1
	c = read()
	waits("too many bytes", c)
	for len(l.inbox) > 0 {
		take()
	}
	if <-c != readSize {
		t.Fatal("nothing was read when the inbox was empty")
	}
	<-sent
	w.since = 10 * waitMost // of a frame that is not complete
	if <-read() != readSize {
		t.Fatal("nothing was read of a large frame")
	}
	<-sent
	for range inboxMost + 1 {
		l.inbox <- &natsgo.Msg{}
	}
	c = read()
	waits("until the end", c)
	l.end(errGivenUp, true)
	if n := <-c; n != 0 {
		t.Errorf("%d bytes were read from a link that has ended", n)
	}
	if _, err := w.Write(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
}

// Whoever does not return when his time is over has the connection closed.
func TestBoundEndsWhatDoesNotReturn(t *testing.T) {
	t.Parallel()
	l := testLink(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, release := l.bound(ctx)
	release()
	cancel()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	bounded, release := l.bound(ctx)
	if deadline, ok := bounded.Deadline(); !ok || time.Until(deadline) > time.Second {
		t.Errorf("bounded until %v", deadline)
	}
	select {
	case <-l.dead:
		t.Error("the link ended although the call had returned")
	default:
	}
	cancel()
	<-l.dead
	release()
	if !errors.Is(l.cause, transport.ErrUnavailable) || l.told {
		t.Errorf("%v, %v", l.cause, l.told)
	}
}

// Requests for one channel are refused one after the other, and no others.
func TestRoundsKnowWhatIsRefused(t *testing.T) {
	t.Parallel()
	names := []string{"ward.a", "ward.b", "ward.a", "ward.c"}
	r := &round{size: len(names), name: func(i int) string { return names[i] }}
	for i, want := range []bool{true, true, false} {
		if got := r.refuse("ward.a", errEnded); got != want {
			t.Errorf("refusal %d: %v", i, got)
		}
	}
	if r.refuse("ward.d", errEnded) {
		t.Error("a channel that was not asked for")
	}
	for i, err := range r.errs {
		if (err != nil) != (names[i] == "ward.a") {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

// What may have been taken does not look as if it had not.
func TestUncertainIsNothingElse(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{unavailable(context.Canceled, "x"), denied(context.Canceled, "x"), context.Canceled} {
		err := uncertain(cause)
		if !errors.Is(err, transport.ErrUncertain) || !errors.Is(err, context.Canceled) ||
			errors.Is(err, transport.ErrUnavailable) || errors.Is(err, transport.ErrDenied) {
			t.Errorf("%v", err)
		}
	}
}

// A subscription that is refused when its call has returned already counts as confirmed somewhere: the link ends.
func TestLateRefusalEndsTheLink(t *testing.T) {
	t.Parallel()
	l := testLink(t)
	r := &round{verb: subscribing}
	l.begin(r)
	l.begin(&round{verb: publishing})
	l.notice(nil, nil, natsgo.ErrMaxSubscriptionsExceeded)
	select {
	case <-l.dead:
		t.Fatal("the link ended although a call waits")
	default:
	}
	if l.finish(r); !r.full {
		t.Error("the call does not know")
	}
	l.notice(nil, nil, natsgo.ErrMaxSubscriptionsExceeded)
	<-l.dead
	if !errors.Is(l.cause, transport.ErrDenied) {
		t.Error(l.cause)
	}
}

// As long as refusals come it is not quiet.
func TestQuietWaitsForTheLastRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := testLink(t)
		began := time.Now()
		go func() {
			for range 20 {
				time.Sleep(grace / 2)
				l.notice(nil, nil, natsgo.ErrBadHeaderMsg)
			}
		}()
		l.quiet(t.Context())
		if took := time.Since(began); took != 11*grace {
			t.Errorf("it was quiet after %v", took)
		}
	})
}
