package redis

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// holding makes the server hold back its answers to a call of the store until let is closed, and counts those it holds.
func holding(f *fake) (held chan struct{}, let chan struct{}) {
	held, let = make(chan struct{}, 100), make(chan struct{})
	f.on("PEXPIRE", func(*fakeConn, []string) string {
		held <- struct{}{}
		<-let
		return ":1\r\n"
	})
	return held, let
}

// Calls that follow one another have one connection, calls at the same time have up to eight, and more wait for their turn.
func TestStoreCallsAtTheSameTime(t *testing.T) {
	t.Parallel()
	const calls, pubAndSub = 30, 2
	f := newFake(t)
	n := connect(t, to(f))
	n.timeout = time.Hour
	touch := func(ctx context.Context) error { return n.Expire(ctx, "key", time.Hour) }
	f.says("PEXPIRE", ":1\r\n")
	if got := f.accepted(); got != pubAndSub {
		t.Errorf("%d connections before the store is used", got)
	}
	for range 5 {
		if err := touch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.accepted(); got != pubAndSub+1 {
		t.Errorf("%d connections for calls one after the other, want %d", got, pubAndSub+1)
	}

	held, let := holding(f)
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			if err := touch(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxStoreLines {
		<-held
	}
	ended, cancel := context.WithCancel(t.Context())
	refused := make(chan error, 1)
	go func() { refused <- touch(ended) }() // whoever waits for a turn gives up with its context
	for range 100 {
		runtime.Gosched()
	}
	cancel()
	if err := <-refused; class(t, err) != "unavailable" {
		t.Error(err)
	}
	if got := f.accepted(); got != pubAndSub+maxStoreLines || len(held) != 0 {
		t.Errorf("%d connections, and %d more calls, want %d and none", got, len(held), pubAndSub+maxStoreLines)
	}
	close(let)
	all.Wait()
	if got := f.accepted(); got != pubAndSub+maxStoreLines {
		t.Errorf("%d connections in the end", got)
	}
}

// One connection that breaks fails the call that is on it, and no other.
func TestStoreConnectionsBreakAlone(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	n := connect(t, to(f))
	n.timeout = time.Hour
	held, let := holding(f)
	outcomes := make(chan error, 3)
	for range 3 {
		go func() { outcomes <- n.Expire(t.Context(), "key", time.Hour) }()
		<-held
	}
	f.mu.Lock()
	broken := f.conns[3]
	f.mu.Unlock()
	_ = broken.Close()
	if err := <-outcomes; class(t, err) != "uncertain" {
		t.Error(err)
	}
	close(let)
	for range 2 {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	if err := n.Expire(t.Context(), "key", time.Hour); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// The end of the link ends all calls, those that wait for a turn too.
func TestStoreCallsEndWithTheLink(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	n := connect(t, to(f))
	n.timeout = time.Hour
	held, let := holding(f)
	outcomes := make(chan error, 2*maxStoreLines)
	for range cap(outcomes) {
		go func() { outcomes <- n.Expire(t.Context(), "key", time.Hour) }()
	}
	for range maxStoreLines {
		<-held
	}
	n.Disconnect(transport.OnlyLink)
	uncertain := 0
	for range cap(outcomes) {
		switch got := class(t, <-outcomes); got {
		case "uncertain":
			uncertain++
		case "unavailable":
		default:
			t.Errorf("an outcome is %s", got)
		}
	}
	if uncertain != maxStoreLines {
		t.Errorf("%d calls may have been done, want %d", uncertain, maxStoreLines)
	}
	close(let)
}
