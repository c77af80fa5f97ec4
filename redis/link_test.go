package redis

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/transport"
)

func TestDownComesOnceAndNotAfterDisconnect(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	n := connect(t, to(f))
	f.kick()
	n.sink.await(t, "down")
	if err := n.sink.cause(); class(t, err) != "unavailable" {
		t.Error(err)
	}
	n.Disconnect(transport.OnlyLink)
	n.Disconnect(transport.OnlyLink)
	if err := n.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	n.Disconnect(transport.OnlyLink)
	f.kick()
	if err := n.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	n.sink.await(t, "down")
	if got := classesOf(t, n.Subscribe(t.Context(), transport.OnlyLink, channels(1))); got != "closed" {
		t.Error(got)
	}
	if got := classesOf(t, n.send(t.Context(), "x")); got != "closed" {
		t.Error(got)
	}
	if err := n.Check(t.Context(), transport.OnlyLink); class(t, err) != "closed" {
		t.Error(err)
	}
}

// slow is a sink whose Frame takes until it is let go.
type slow struct {
	*notes

	entered, leave chan struct{}
}

func (s *slow) Frame(transport.Link, string, []byte) {
	s.entered <- struct{}{}
	<-s.leave
}

// Disconnect and Close wait for a call of the sink, and after them there is none, however much is on its way.
func TestDisconnectIsSilent(t *testing.T) {
	t.Parallel()
	for _, end := range []func(*opened){
		func(n *opened) { n.Disconnect(transport.OnlyLink) },
		func(n *opened) { _ = n.Close() },
	} {
		f := newFake(t)
		f.on("SUBSCRIBE", func(c *fakeConn, args []string) string {
			return ordinary(c, args) + strings.Repeat(message("ward:0", "hello"), 100)
		})
		n := open(t, to(f))
		sink := &slow{notes: n.sink, entered: make(chan struct{}, 100), leave: make(chan struct{})}
		n.Start(sink)
		if err := n.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		if errs := n.Subscribe(t.Context(), transport.OnlyLink, channels(1)); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
		<-sink.entered
		link, ended := n.link(t), make(chan struct{})
		go func() { end(n); close(ended) }()
		<-link.dead
		for range 1000 {
			runtime.Gosched()
		}
		select {
		case <-ended:
			t.Error("it returned during a call of the sink")
		default:
		}
		close(sink.leave)
		<-ended
		before := len(sink.entered)
		for range 1000 {
			runtime.Gosched()
		}
		if late := len(sink.entered) - before; late > 0 {
			t.Errorf("%d frames afterwards", late)
		}
		n.sink.await(t)
	}
}
