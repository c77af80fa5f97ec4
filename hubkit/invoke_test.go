package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

// askable is a client that can be asked. It answers by itself where answer is not nil.
type askable struct {
	*conntest.Conn

	c      *hubkit.Connection
	asked  chan string // the ids
	answer func(id, request string) (string, error)
}

func (a *askable) Invoke(ctx context.Context, id string, request []byte) error {
	if err := a.Write(ctx, []hubkit.Delivery{{Payload: append([]byte("? "), request...)}}); err != nil {
		return err
	}
	a.asked <- id
	if a.answer != nil {
		text, err := a.answer(id, string(request))
		return a.c.Reply(id, []byte(text), err)
	}
	return nil
}

// ask connects a client that can be asked.
func (f *farm) ask(i int, o hubkit.ConnectOptions, answer func(id, request string) (string, error)) *askable {
	f.t.Helper()
	a := &askable{Conn: conntest.New(), asked: make(chan string, 1000), answer: answer}
	c, err := f.hubs[i].Connect(f.t.Context(), a, o)
	if err != nil {
		f.t.Fatal(err)
	}
	a.c = c
	f.conns = append(f.conns, a.Conn)
	return a
}

// invoked is what an Invoke returned.
type invoked struct {
	answer string
	err    error
}

// invoke begins an invocation.
func (f *farm) invoke(ctx context.Context, i int, id, request string) <-chan invoked {
	c := make(chan invoked, 1)
	go func() {
		answer, err := f.hubs[i].Invoke(ctx, id, []byte(request))
		c <- invoked{string(answer), err}
	}()
	return c
}

func TestInvoke(t *testing.T) {
	onSettled(t, func(f *farm) {
		a := f.ask(1, hubkit.ConnectOptions{}, func(_, request string) (string, error) {
			if request == "fail" {
				return "dropped", errors.New("out of beds" + strings.Repeat("é", 1000))
			}
			return "you said " + request, nil
		})
		for i, h := range f.hubs { // its own instance among them
			f.send(1, hubkit.ToConnections(a.c.ID()), "before")
			got, err := h.Invoke(f.t.Context(), a.c.ID(), []byte("hi"))
			if err != nil || string(got) != "you said hi" {
				f.t.Errorf("from %d: %q, %v", i, got, err)
			}
			got, err = h.Invoke(f.t.Context(), a.c.ID(), nil)
			if err != nil || string(got) != "you said " {
				f.t.Errorf("from %d: %q, %v", i, got, err)
			}
			_, err = h.Invoke(f.t.Context(), a.c.ID(), []byte("fail"))
			said, ok := errors.AsType[*hubkit.ClientError](err)
			if !ok || !strings.HasPrefix(said.Text, "out of beds") || len(said.Text) > 1024 || strings.Contains(said.Text, "\uFFFD") {
				f.t.Errorf("from %d: %v", i, err)
			}
		}
		settle()
		want := strings.Repeat("before ? hi ?  ? fail ", instances)
		if got := strings.Join(a.Payloads(), " ") + " "; got != want {
			f.t.Errorf("the client got %q, want %q", got, want)
		}
		if s := f.hubs[1].Stats(); s.Invocations != 9 {
			f.t.Errorf("%d invocations", s.Invocations)
		}
	})
}

// Each invocation gets its own answer, whatever their order.
func TestInvocationsAreNotMixedUp(t *testing.T) {
	onSettled(t, func(f *farm) {
		a := f.ask(1, hubkit.ConnectOptions{}, nil)
		requests := map[string]<-chan invoked{}
		for i := range 30 {
			text := strconv.Itoa(i)
			requests[text] = f.invoke(f.t.Context(), i%instances, a.c.ID(), text)
			settle()
		}
		ids := map[string]bool{}
		payloads := a.Payloads()
		for i := range 30 {
			id := <-a.asked
			ids[id] = true
			defer func() {
				if err := a.c.Reply(id, []byte(payloads[i]), nil); !errors.Is(err, hubkit.ErrNotInvoked) {
					f.t.Errorf("a second answer: %v", err)
				}
			}()
			if err := a.c.Reply(id, []byte(payloads[29-i][2:]), nil); err != nil { // the answer to another, on purpose
				f.t.Error(err)
			}
		}
		if len(ids) != 30 {
			f.t.Errorf("%d ids for 30 invocations", len(ids))
		}
		for i := range 30 {
			got := <-requests[payloads[i][2:]]
			if want := payloads[29-i][2:]; got.err != nil || got.answer != want {
				f.t.Errorf("%d: %q, want %q; %v", i, got.answer, want, got.err)
			}
		}
	})
}

// An answer that nobody waits for reaches nobody, and who gives it is told.
func TestStrayReplies(t *testing.T) {
	onSettled(t, func(f *farm) {
		for from := range 2 { // from afar, and from its own instance
			a, other := f.ask(1, hubkit.ConnectOptions{}, nil), f.ask(1, hubkit.ConnectOptions{}, nil)
			refused := func(what string, c *askable, id string) {
				f.t.Helper()
				f.failedAs(what, c.c.Reply(id, []byte("x"), nil), nil)
				if err := c.c.Reply(id, nil, errors.New("x")); !errors.Is(err, hubkit.ErrNotInvoked) {
					f.t.Errorf("%s: %v", what, err)
				}
			}
			got := f.invoke(f.t.Context(), from, a.c.ID(), "1")
			id := <-a.asked
			refused("from another connection", other, id)
			refused("of no invocation", a, "nothing")
			if err := a.c.Reply(id, []byte("yes"), nil); err != nil {
				f.t.Error(err)
			}
			refused("twice", a, id)
			if r := <-got; r.err != nil || r.answer != "yes" {
				f.t.Errorf("%+v", r)
			}

			ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
			got = f.invoke(ctx, from, a.c.ID(), "2")
			id = <-a.asked
			f.failedAs("no answer", (<-got).err, backplane.ErrTimeout)
			settleFor(f.t, time.Millisecond)
			refused("after the deadline", a, id)
			cancel()

			ctx, cancel = context.WithCancel(f.t.Context())
			got = f.invoke(ctx, from, a.c.ID(), "3")
			id = <-a.asked
			cancel()
			f.failedAs("canceled", (<-got).err, backplane.ErrTimeout)
			settle()
			refused("after it was canceled", a, id)
			a.c.Disconnect(hubkit.Reason{})
			refused("after the end", a, id)
		}
	})
}

// What waits for a client ends with it, and what waits for an instance ends with that.
func TestInvocationsEndWithTheClient(t *testing.T) {
	onSettled(t, func(f *farm) {
		for from := range 2 {
			a := f.ask(1, hubkit.ConnectOptions{}, nil)
			got := f.invoke(f.t.Context(), from, a.c.ID(), "1")
			<-a.asked
			began := time.Now()
			a.c.Disconnect(hubkit.Reason{})
			f.failedAs("the client left", (<-got).err, nil)
			if d := time.Since(began); d != 0 {
				f.t.Errorf("it took %v", d)
			}
			_, err := f.hubs[from].Invoke(f.t.Context(), a.c.ID(), nil)
			f.failedAs("who is gone", err, hubkit.ErrNotFound)

			failing := f.ask(1, hubkit.ConnectOptions{}, nil)
			failing.Fail(errors.New("broken pipe"))
			_, err = f.hubs[from].Invoke(f.t.Context(), failing.c.ID(), nil)
			if !errors.Is(err, hubkit.ErrDisconnected) {
				f.t.Errorf("a client whose socket is broken: %v", err)
			}
		}
		a := f.ask(1, hubkit.ConnectOptions{}, nil)
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Hour)
		defer cancel()
		got := f.invoke(ctx, 0, a.c.ID(), "1")
		<-a.asked
		f.broker.Cut(f.nodes[1].ID())
		began := time.Now()
		f.failedAs("its instance died", (<-got).err, backplane.ErrNodeLost)
		if d := time.Since(began); d > settling {
			f.t.Errorf("it took %v", d)
		}
		f.broker.Heal(f.nodes[1].ID())
		settleFor(f.t, 2*settling)

		a = f.ask(1, hubkit.ConnectOptions{}, nil)
		got = f.invoke(ctx, 1, a.c.ID(), "2")
		gone := f.invoke(ctx, 0, a.c.ID(), "3")
		<-a.asked
		<-a.asked
		if err := f.hubs[1].Close(f.t.Context()); err != nil {
			f.t.Error(err)
		}
		f.failedAs("its own hub was closed", (<-got).err, backplane.ErrClosed)
		if err := (<-gone).err; !errors.Is(err, hubkit.ErrDisconnected) {
			f.t.Errorf("the client's hub was closed: %v", err)
		}
	})
}

// Slow clients take no place from other questions, and one connection has so many invocations and no more.
func TestInvocationsAreBounded(t *testing.T) {
	onSettled(t, func(f *farm) {
		var waiting sync.WaitGroup
		var clients []*askable
		for range 6 { // more than a node answers questions at once
			a := f.ask(1, hubkit.ConnectOptions{}, nil)
			clients = append(clients, a)
			for range hubkit.MaxInvocations {
				waiting.Go(func() {
					if _, err := f.hubs[0].Invoke(f.t.Context(), a.c.ID(), nil); !errors.Is(err, hubkit.ErrDisconnected) {
						f.t.Error(err)
					}
				})
			}
			settle()
			for _, from := range []int{0, 1} {
				_, err := f.hubs[from].Invoke(f.t.Context(), a.c.ID(), nil)
				f.failedAs("one too many", err, backplane.ErrBusy)
			}
		}
		f.changed("meanwhile", 6)(f.hubs[0].Join(f.t.Context(), hubkit.ToAll(), "g"))
		for _, a := range clients {
			a.c.Disconnect(hubkit.Reason{})
		}
		waiting.Wait()
	})
}

// A request that the outbox drops, or that waits in vain, is not waited for.
func TestInvocationsInAFullOutbox(t *testing.T) {
	onSettled(t, func(f *farm) {
		for _, policy := range []hubkit.Policy{hubkit.DropNewest, hubkit.DropOldest, hubkit.KeepLatest, hubkit.Disconnect} {
			a := f.ask(1, hubkit.ConnectOptions{Outbox: hubkit.OutboxOptions{Messages: 2, Policy: policy}}, nil)
			to := hubkit.ToConnections(a.c.ID())
			a.Block()
			f.send(1, to, "being written")
			if err := a.WaitBlocked(f.t.Context()); err != nil {
				f.t.Fatal(err)
			}
			first := f.invoke(f.t.Context(), 0, a.c.ID(), "first")
			settle()
			f.send(1, to, "waits")
			second := f.invoke(f.t.Context(), 0, a.c.ID(), "second")
			settle()
			dropped := second
			switch policy {
			case hubkit.DropNewest:
			case hubkit.DropOldest, hubkit.KeepLatest:
				dropped = first
			case hubkit.Disconnect:
				for _, got := range []invoked{<-first, <-second} {
					if !errors.Is(got.err, hubkit.ErrDisconnected) {
						f.t.Errorf("%v: %+v", policy, got)
					}
				}
				continue
			}
			f.failedAs(fmt.Sprintf("%v: what was dropped", policy), (<-dropped).err, backplane.ErrBusy)
			a.Unblock()
			id := <-a.asked
			if err := a.c.Reply(id, []byte("yes"), nil); err != nil {
				f.t.Error(err)
			}
			left := first
			if policy != hubkit.DropNewest {
				left = second
			}
			if got := <-left; got.err != nil || got.answer != "yes" {
				f.t.Errorf("%v: %+v", policy, got)
			}
		}
	})
}

// A request that still waits when nobody waits for its answer any more is not written.
func TestForgottenInvocationIsNotWritten(t *testing.T) {
	onSettled(t, func(f *farm) {
		a := f.ask(1, hubkit.ConnectOptions{}, nil)
		a.Block()
		f.send(1, hubkit.ToConnections(a.c.ID()), "being written")
		ctx, cancel := context.WithCancel(f.t.Context())
		got := f.invoke(ctx, 0, a.c.ID(), "forgotten")
		settle()
		cancel()
		<-got
		settle()
		f.send(1, hubkit.ToConnections(a.c.ID()), "after")
		a.Unblock()
		settle()
		if got := strings.Join(a.Payloads(), ", "); got != "being written, after" {
			f.t.Errorf("the client got %q", got)
		}
	})
}

func TestInvokeRefuses(t *testing.T) {
	onSettled(t, func(f *farm) {
		deaf := f.member(1) // a Conn that is no Invoker
		for from := range 2 {
			_, err := f.hubs[from].Invoke(f.t.Context(), deaf.ID(), nil)
			f.failedAs("a Conn that cannot", err, backplane.ErrUnsupported)
			_, err = f.hubs[from].Invoke(f.t.Context(), "x", nil)
			if !errors.Is(err, hubkit.ErrInvalidTarget) {
				f.t.Errorf("no id: %v", err)
			}
		}
		a := f.ask(1, hubkit.ConnectOptions{}, func(_, request string) (string, error) { return strings.Repeat("x", 2<<20), nil })
		if _, err := f.hubs[0].Invoke(f.t.Context(), a.c.ID(), make([]byte, 2<<20)); !errors.Is(err, backplane.ErrTooLarge) {
			f.t.Errorf("a large request: %v", err)
		}
		if _, err := f.hubs[0].Invoke(f.t.Context(), a.c.ID(), nil); !errors.Is(err, backplane.ErrTooLarge) {
			f.t.Errorf("a large answer: %v", err)
		}
		ask := func(kind byte, body string) string {
			got, err := f.nodes[0].Ask(f.t.Context(), f.nodes[1].ID(), "hub/ward", append([]byte{1, kind}, body...))
			if err != nil {
				f.t.Error(err)
			}
			return string(got)
		}
		for _, kind := range []byte{7, 8} {
			for _, body := range []string{"", "\x01x", "\x01x\x00\x01", "\x01x\x01y", "\x01x\x01y\x00", "\x41" + strings.Repeat("x", 65) + "\x01y\x01"} {
				if got := ask(kind, body); got != "\x01\x02" {
					f.t.Errorf("kind %d %q: %q", kind, body, got)
				}
			}
		}
		if got := ask(7, "\x01x\x01y\x01"); got != "\x01\x08" {
			f.t.Errorf("nobody's connection: %q", got)
		}
	})
	onBus(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		a := f.ask(0, hubkit.ConnectOptions{}, func(_, request string) (string, error) { return request, nil })
		if got, err := f.hubs[0].Invoke(f.t.Context(), a.c.ID(), []byte("x")); err != nil || string(got) != "x" {
			f.t.Errorf("%q, %v", got, err)
		}
		_, err := f.hubs[1].Invoke(f.t.Context(), a.c.ID(), nil)
		f.failedAs("without a cluster", err, backplane.ErrUnsupported)
	})
}
