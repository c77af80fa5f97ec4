package hubtest

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"
)

// client is the suite's end of one connection.
type client struct {
	w    *world
	hub  *hub
	name string
	user string
	keys []string   // what events that concern it are about; guarded by the world's mu
	conn Connection // nil until Connect has returned; guarded by the world's mu, as all that follows

	heard    []Delivery // in order
	tokens   []string   // resume tokens that it was given
	fences   map[string]bool
	stuck    bool // writes wait
	blocked  int  // writes that wait
	failing  error
	closed   *Reason
	closedAt time.Duration // since the world's start
	misuse   string
	writing  int
	asked    []question
	answer   func(request string) (string, error) // answers questions at once, if it is not nil
}

// question is what a client was asked.
type question struct{ id, request string }

var (
	errClientClosed = errors.New("the client is closed")
	errBrokenPipe   = errors.New("broken pipe")
)

// newClient makes a client; connect connects it. A fence's own client has no name.
func (w *world) newClient(h *hub, user string) *client {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &client{w: w, hub: h, user: user, fences: map[string]bool{}}
	c.name = fmt.Sprintf("c%d", len(w.clients)+1)
	c.keys = []string{c.name, userKey(user)}
	w.clients = append(w.clients, c)
	return c
}

// connect connects a client.
func (w *world) connect(c *client, o ConnectOptions) error {
	what := "Connect(" + c.name
	if o.User != "" {
		what += ", user " + short(o.User)
	}
	if o.Token != "" {
		what += ", with a token"
	}
	return w.call(c.hub.seat, []string{c.name}, what+")"+c.hub.unlessWard(), func(ctx context.Context) (string, error) {
		conn, err := c.hub.raw.Connect(ctx, c, o)
		w.mu.Lock()
		defer w.mu.Unlock()
		c.conn = conn
		return "", err
	})
}

// id is how the connection is named on every instance.
func (c *client) id() string { return c.conn.ID() }

// join puts the client into a group by itself.
func (c *client) join(group string) {
	c.w.update(func() { c.keys = append(c.keys, groupKey(group)) })
	err := c.w.call(c.hub.seat, []string{c.name}, fmt.Sprintf("%s.Join(%q)", c.name, short(group)), func(ctx context.Context) (string, error) {
		return "", c.conn.Join(ctx, group)
	})
	if err != nil {
		c.w.check()
		c.w.failf([]*client{c}, "%s could not join %q: %w", c.name, group, err)
	}
}

// leave takes the client out of a group by itself.
func (c *client) leave(group string) {
	err := c.w.call(c.hub.seat, []string{c.name}, fmt.Sprintf("%s.Leave(%q)", c.name, short(group)), func(ctx context.Context) (string, error) {
		return "", c.conn.Leave(ctx, group)
	})
	if err != nil {
		c.w.check()
		c.w.failf([]*client{c}, "%s could not leave %q: %w", c.name, group, err)
	}
}

// gone makes the client leave by itself.
func (c *client) gone() {
	_ = c.w.call(c.hub.seat, []string{c.name}, c.name+" is gone", func(context.Context) (string, error) {
		c.conn.Gone()
		return "", nil
	})
}

// block makes writes wait, as those to a client that does not read.
func (c *client) block() { c.set("is stuck", func() { c.stuck = true }) }

// unblock lets writes through.
func (c *client) unblock() { c.set("reads again", func() { c.stuck = false }) }

// breaks makes writes fail.
func (c *client) breaks() { c.set("fails", func() { c.failing = errBrokenPipe }) }

func (c *client) set(what string, f func()) {
	c.w.note([]string{c.name}, "%s %s", c.name, what)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	f()
	c.w.change()
}

// Deliver implements [Client].
func (c *client) Deliver(ctx context.Context, d Delivery) error {
	return c.write(ctx, func() {
		if d.Token != "" {
			c.eventf("%s is given a token", c.name)
			c.tokens = append(c.tokens, d.Token)
			return
		}
		if fence, is := strings.CutPrefix(string(d.Payload), fenceMark); is {
			c.fences[fence] = true
			if d.Missed == 0 && d.Gap == "" {
				return
			}
			d.Payload = nil
		} else {
			c.eventf("%s hears %s", c.name, d.text())
		}
		d.Payload = slices.Clone(d.Payload)
		c.heard = append(c.heard, d)
	})
}

// Ask implements [Client].
func (c *client) Ask(ctx context.Context, id string, request []byte) error {
	var answer func(string) (string, error)
	err := c.write(ctx, func() {
		c.eventf("%s is asked %q", c.name, request)
		c.asked = append(c.asked, question{id, string(request)})
		answer = c.answer
	})
	if err != nil || answer == nil {
		return err
	}
	text, failure := answer(string(request))
	c.w.await(nil, "Connect to return", func() bool { return c.conn != nil })
	return c.conn.Reply(id, []byte(text), failure)
}

// Close implements [Client].
func (c *client) Close(reason Reason) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.eventf("%s is closed: %s %s", c.name, reason.Code, reason.Text)
	if c.closed != nil {
		c.misuse = "was closed twice"
	}
	c.closed, c.closedAt = &reason, time.Since(c.w.start)
	c.w.change()
}

// write is one write to the client's socket.
func (c *client) write(ctx context.Context, take func()) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.writing++
	defer func() { c.writing-- }()
	if c.writing > 1 {
		c.misuse = "was written to by two at a time"
	}
	for c.stuck && c.failing == nil && c.closed == nil {
		c.blocked++
		c.w.change()
		changed := c.w.changed
		c.w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		c.w.mu.Lock()
		c.blocked--
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	switch {
	case c.closed != nil:
		return errClientClosed
	case c.failing != nil:
		return c.failing
	}
	take()
	c.w.change()
	return nil
}

// eventf records something; the world's mu is held.
func (c *client) eventf(format string, args ...any) {
	if c.name == "" {
		return
	}
	c.w.events = append(c.w.events, event{at: time.Since(c.w.start), text: fmt.Sprintf(format, args...), about: []string{c.name}})
}

// text tells a delivery.
func (d Delivery) text() string {
	var parts []string
	if d.Gap != "" {
		parts = append(parts, "a gap ("+d.Gap+")")
	}
	if d.Missed > 0 {
		parts = append(parts, strconv.FormatUint(d.Missed, 10)+" missed")
	}
	if d.Payload != nil {
		parts = append(parts, shown(string(d.Payload)))
	}
	return strings.Join(parts, ", ")
}

// shown shortens a payload.
func shown(payload string) string {
	const most = 40
	if len(payload) > most {
		return fmt.Sprintf("%q… of %d bytes", payload[:most/2], len(payload))
	}
	return strconv.Quote(payload)
}

// ended waits until the connection has ended and checks why; any text will do where none is asked for.
func (c *client) ended(code, text string) {
	c.w.await([]*client{c}, "the end of "+c.name, func() bool { return c.closed != nil })
	c.w.mu.Lock()
	r := *c.closed
	c.w.mu.Unlock()
	switch {
	case r.Code != code:
		c.w.failf([]*client{c}, "%s ended because of %q, and it should be %q", c.name, r.Code, code)
	case text != "" && r.Text != text:
		c.w.failf([]*client{c}, "%s was told %q, and it should be %q", c.name, r.Text, text)
	}
}

// isOpen checks that nobody has closed the connection.
func (c *client) isOpen() {
	c.w.mu.Lock()
	r := c.closed
	c.w.mu.Unlock()
	if r != nil {
		c.w.failf([]*client{c}, "%s was closed (%s %s), and nobody said so", c.name, r.Code, r.Text)
	}
}

// pprofDo runs f under a label that goroutines inherit.
func pprofDo(ctx context.Context, label string, f func()) {
	pprof.Do(ctx, pprof.Labels(labels, label), func(context.Context) { f() })
}
