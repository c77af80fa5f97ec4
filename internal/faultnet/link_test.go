package faultnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/internal/faultnet"
)

// pipe is a link over net.Pipe: the far ends arrive on a channel.
func pipe() (*faultnet.Link, <-chan net.Conn) {
	far := make(chan net.Conn, 8)
	return faultnet.New(func(context.Context, string, string) (net.Conn, error) {
		near, other := net.Pipe()
		far <- other
		return near, nil
	}), far
}

// tcp is a link over loopback.
func tcp(t *testing.T) (l *faultnet.Link, far <-chan net.Conn, address string) {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	t.Cleanup(func() {
		_ = lis.Close()
		<-done
	})
	return faultnet.New(nil), accepted, lis.Addr().String()
}

func dial(t *testing.T, l *faultnet.Link, address string) net.Conn {
	t.Helper()
	c, err := l.Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// overTCP runs a test over a real socket, which has buffers.
func overTCP(t *testing.T, f func(t *testing.T, l *faultnet.Link, near, far net.Conn, again func() (net.Conn, error))) {
	t.Helper()
	l, accepted, address := tcp(t)
	near := dial(t, l, address)
	far := <-accepted
	t.Cleanup(func() { _ = far.Close() })
	f(t, l, near, far, func() (net.Conn, error) { return l.Dial(t.Context(), "tcp", address) })
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func expect(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("read: %v", err)
	}
	if string(b) != text {
		t.Fatalf("read %q, want %q", b, text)
	}
}

// silent checks that nothing can be read for a moment.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want silence", n, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func TestHealthy(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn, _ func() (net.Conn, error)) {
		send(t, near, "out")
		expect(t, far, "out")
		send(t, far, "in")
		expect(t, near, "in")
		if l.Dials() != 1 || l.Open() != 1 {
			t.Errorf("dials %d, open %d; want 1, 1", l.Dials(), l.Open())
		}
		if err := near.Close(); err != nil {
			t.Error(err)
		}
		if l.Open() != 0 {
			t.Errorf("open %d after Close", l.Open())
		}
	})
}

func TestCut(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn, again func() (net.Conn, error)) {
		l.Cut()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if _, err := near.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer's read: %v", err)
		}
		if _, err := again(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v", err)
		}
		l.Heal()
		c, err := again()
		if err != nil {
			t.Fatal(err)
		}
		if l.Open() != 1 {
			t.Errorf("open %d, want 1", l.Open())
		}
		_ = c.Close()
	})
}

func TestRefuse(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, _, _ net.Conn, again func() (net.Conn, error)) {
		l.Refuse(2)
		for range 2 {
			if _, err := again(); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial: %v", err)
			}
		}
		c, err := again()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	})
}

func TestHangKeepsBothSocketsOpen(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn, again func() (net.Conn, error)) {
		l.Hang()
		send(t, near, "out")
		send(t, far, "in")
		silent(t, near)
		silent(t, far)
		c, err := again()
		if err != nil {
			t.Fatalf("dial on a link with hung connections: %v", err)
		}
		_ = c.Close()
		send(t, near, "put")
		l.Heal()
		send(t, near, "!")
		expect(t, far, "output!")
		expect(t, near, "in")
	})
}

func TestHangHoldsWhatAReadUnderWayGets(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn, _ func() (net.Conn, error)) {
		got := make(chan string)
		go func() {
			b := make([]byte, 8)
			n, err := near.Read(b)
			got <- string(b[:n]) + text(err)
		}()
		l.Hang()
		send(t, far, "in")
		_ = far.Close() // the end must not pass either
		select {
		case s := <-got:
			t.Fatalf("a hung connection let %q pass", s)
		case <-time.After(20 * time.Millisecond):
		}
		l.Heal()
		if s := <-got; s != "in" {
			t.Errorf("read %q, want %q", s, "in")
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v, want EOF", err)
		}
	})
}

func TestHangFillsUp(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn, _ func() (net.Conn, error)) {
		l.Hang()
		if err := near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB
		n, err := near.Write(want)
		if n != 1<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("wrote %d, %v; want 1 MiB and a deadline", n, err)
		}
		l.Heal()
		if err := near.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		rest := make(chan error, 1)
		go func() {
			_, err := near.Write(want[n:])
			rest <- err
		}()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(far, got); err != nil {
			t.Fatal(err)
		}
		if err := <-rest; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Error("what was held and what came after arrived in another order")
		}
	})
}

func TestCloseEndsEveryWait(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, near, _ net.Conn, _ func() (net.Conn, error)) {
		l.Hang()
		if _, err := near.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		ends := make(chan error)
		go func() { _, err := near.Write([]byte("x")); ends <- err }()
		go func() { _, err := near.Read(make([]byte, 1)); ends <- err }()
		_ = near.Close()
		for range 2 {
			if err := <-ends; !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v, want net.ErrClosed", err)
			}
		}
	})
}

func TestOneWay(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn, _ func() (net.Conn, error)) {
		l.Deafen()
		send(t, far, "a")
		silent(t, near)
		send(t, near, "b")
		expect(t, far, "b")
		l.Heal()
		expect(t, near, "a")
		l.Mute()
		send(t, near, "c")
		silent(t, far)
		send(t, far, "d")
		expect(t, near, "d")
		l.Heal()
		expect(t, far, "c")
	})
}

func TestTearAfter(t *testing.T) {
	overTCP(t, func(t *testing.T, l *faultnet.Link, near, far net.Conn, _ func() (net.Conn, error)) {
		l.TearAfter(3)
		send(t, near, "ab")
		n, err := near.Write([]byte("cde"))
		if n != 1 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("wrote %d, %v; want 1 and a reset", n, err)
		}
		if b, _ := io.ReadAll(far); len(b) > 3 {
			t.Errorf("the peer got %q", b)
		}
		if n := l.Written(); n != 3 {
			t.Errorf("%d bytes went out, want 3", n)
		}
	})
}

func TestSip(t *testing.T) {
	l, far := pipe()
	l.Sip(1)
	near := dial(t, l, "")
	other := <-far
	go func() { _, _ = near.Write([]byte("abc")) }()
	b := make([]byte, 8)
	for _, want := range []string{"a", "b", "c"} {
		n, err := other.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("read %q, %v; want %q", b[:n], err, want)
		}
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, far := pipe()
		near := dial(t, l, "")
		other := <-far
		l.Delay(time.Second)
		start := time.Now()
		go func() { _, _ = io.WriteString(other, "late") }()
		expect(t, near, "late")
		if d := time.Since(start); d != time.Second {
			t.Errorf("it took %v, want 1s", d)
		}
	})
}

func TestBlackholeHangsDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := pipe()
		l.Blackhole()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Dial(ctx, "tcp", ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v", err)
		}
		healed := make(chan error)
		go func() {
			c, err := l.Dial(t.Context(), "tcp", "")
			if err == nil {
				_ = c.Close()
			}
			healed <- err
		}()
		synctest.Wait()
		l.Heal()
		if err := <-healed; err != nil {
			t.Errorf("dial after Heal: %v", err)
		}
	})
}

func TestDeadlineMovesWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := pipe()
		near := dial(t, l, "")
		l.Hang()
		got := make(chan error)
		go func() { _, err := near.Read(make([]byte, 1)); got <- err }()
		synctest.Wait()
		if err := near.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := near.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
