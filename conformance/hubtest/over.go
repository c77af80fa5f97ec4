package hubtest

import (
	"context"
	"errors"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/hubkit"
)

// Over makes an Opener for this module's hubkit over any backplane, by what also opens it for package conformance. Where the
// backplane does not dial through [conformance.Instance.Dial], faults may say how its link is made to fail, as with [conformance.Inject].
//
// A node may be a [Faulter], a [Killer] and a [Publisher] beside, and a hub [UserGroups] and a [Resumer]: optional interfaces, found by type
// assertion. What wraps a [Node] or a [Hub] by embedding the interface, to count or to break something, say, has only the methods of
// that interface: the optional ones are hidden, and their properties not exercised, without a failure unless the run is [Strict].
// A wrapper has to pass on those that it means to keep.
func Over(open conformance.Opener, faults ...func(conformance.Instance, backplane.Backplane) conformance.Faults) Opener {
	return func(ctx context.Context, in conformance.Instance) (Node, error) {
		bp, err := open(ctx, in)
		if err != nil {
			return nil, err
		}
		n := &kitNode{bp: bp, in: in}
		for _, f := range faults {
			n.faults = f(in, bp)
		}
		return n, nil
	}
}

// kitNode is a backplane with hubs of package hubkit.
type kitNode struct {
	bp     backplane.Backplane
	in     conformance.Instance
	faults conformance.Faults
}

func (n *kitNode) Faults() conformance.Faults      { return n.faults }
func (n *kitNode) Close(ctx context.Context) error { return n.bp.Close(ctx) }

// Publish publishes to an address that is no hub's.
func (n *kitNode) Publish(ctx context.Context, kind, name string, payload []byte) error {
	switch kind {
	case "group":
		return n.bp.Publish(ctx, backplane.Group(name), payload)
	case "user":
		return n.bp.Publish(ctx, backplane.User(name), payload)
	default:
		return n.bp.Publish(ctx, backplane.All(), payload)
	}
}

// stuckFor is how long a client that is stuck on purpose stays: longer than any property needs on a slow machine.
const stuckFor = 5 * time.Minute

// Hub makes a hub. It keeps memberships of users where the backplane has a store.
func (n *kitNode) Hub(name string, hooks Hooks) (Hub, error) {
	o := hubkit.Options{Name: name, Logger: n.in.Logger, UserGroups: true, WriteTimeout: stuckFor}
	o.OnGap = func(_ context.Context, g hubkit.Gap, concerned []*hubkit.Connection) {
		var ids []string
		for _, c := range concerned {
			ids = append(ids, c.ID())
		}
		hooks.Gap(g.Cause.String(), ids)
	}
	o.OnState = func(h backplane.Health) { hooks.State(h.State.String()) }
	if hooks.Restore != nil {
		o.Resume = hubkit.ResumeOptions{
			Keys: []hubkit.ResumeKey{{ID: "hubtest", Secret: []byte("no secret: the suite's own, 0123456789")}},
			Restore: func(_ context.Context, r hubkit.Resumption) ([]string, error) {
				return hooks.Restore(r.User, r.Groups), nil
			},
		}
	}
	h, err := hubkit.New(n.bp, o)
	switch {
	case err == nil:
		return storingHub{kitHub{h}}, nil
	case !errors.Is(err, backplane.ErrUnsupported):
		return nil, err
	}
	o.UserGroups = false
	if h, err = hubkit.New(n.bp, o); err != nil {
		return nil, err
	}
	return kitHub{h}, nil
}

// kitHub is a hub of package hubkit.
type kitHub struct{ h *hubkit.Hub }

// TokenLifetime is the default of hubkit.ResumeOptions.
func (k kitHub) TokenLifetime() time.Duration { return 10 * time.Minute }

// storingHub is one over a backplane with a store.
type storingHub struct{ kitHub }

func (k storingHub) JoinUser(ctx context.Context, user, group string, ttl time.Duration) (int, error) {
	return k.h.JoinUser(ctx, user, group, ttl)
}

func (k storingHub) LeaveUser(ctx context.Context, user, group string) (int, error) {
	return k.h.LeaveUser(ctx, user, group)
}

func (k kitHub) Connect(ctx context.Context, client Client, o ConnectOptions) (Connection, error) {
	out := hubkit.OutboxOptions{Messages: o.Outbox}
	if o.Drop {
		out.Policy = hubkit.DropOldest
	}
	c, err := k.h.Connect(ctx, kitConn{client}, hubkit.ConnectOptions{User: o.User, Outbox: out, Resume: o.Token})
	if err != nil {
		return nil, err
	}
	return kitConnection{c}, nil
}

func (k kitHub) Send(ctx context.Context, to Target, payload []byte) error {
	return k.h.Send(ctx, hubkit.Target(to), payload)
}

func (k kitHub) Join(ctx context.Context, of Target, group string) (int, error) {
	return k.h.Join(ctx, hubkit.Target(of), group)
}

func (k kitHub) Leave(ctx context.Context, of Target, group string) (int, error) {
	return k.h.Leave(ctx, hubkit.Target(of), group)
}

func (k kitHub) LeaveAll(ctx context.Context, of Target) (int, error) {
	return k.h.LeaveAll(ctx, hubkit.Target(of))
}

func (k kitHub) Disconnect(ctx context.Context, of Target, text string) (int, error) {
	return k.h.Disconnect(ctx, hubkit.Target(of), hubkit.Reason{Code: hubkit.ReasonRefused, Text: text})
}

func (k kitHub) Exists(ctx context.Context, of Target) (bool, error) {
	return k.h.Exists(ctx, hubkit.Target(of))
}

func (k kitHub) Count(ctx context.Context, of Target) (Count, error) {
	c, err := k.h.Count(ctx, hubkit.Target(of))
	return Count{Connections: c.Connections, Coverage: coverage(c.Coverage)}, err
}

func (k kitHub) List(ctx context.Context, of Target, limit int, token string) (Page, error) {
	p, err := k.h.List(ctx, hubkit.Target(of), hubkit.ListOptions{Limit: limit, Token: token})
	page := Page{Next: p.Next, Coverage: coverage(p.Coverage)}
	for _, c := range p.Connections {
		page.Connections = append(page.Connections, Info{ID: c.ID, User: c.User, Instance: c.Instance})
	}
	return page, err
}

// coverage names instances by the labels that the suite gave them.
func coverage(c hubkit.Coverage) Coverage {
	out := Coverage{Settling: c.Settling}
	for _, m := range c.Missing {
		out.Missing = append(out.Missing, m.Label)
	}
	return out
}

func (k kitHub) Invoke(ctx context.Context, connection string, request []byte) ([]byte, error) {
	return k.h.Invoke(ctx, connection, request)
}

func (k kitHub) Drain(ctx context.Context, over time.Duration) (Drained, error) {
	r, err := k.h.Drain(ctx, hubkit.DrainOptions{Over: over})
	d := Drained{Connections: r.Connections, Remained: map[string]int{}}
	for _, left := range r.Remained {
		d.Remained[left.Connection.ID()] = left.Messages
	}
	return d, err
}

func (k kitHub) Close(ctx context.Context) error { return k.h.Close(ctx) }

// kitConnection is a connection of package hubkit.
type kitConnection struct{ c *hubkit.Connection }

func (k kitConnection) ID() string                                    { return k.c.ID() }
func (k kitConnection) Join(ctx context.Context, group string) error  { return k.c.Join(ctx, group) }
func (k kitConnection) Leave(ctx context.Context, group string) error { return k.c.Leave(ctx, group) }
func (k kitConnection) Gone()                                         { k.c.Disconnect(hubkit.Reason{}) }

func (k kitConnection) Reply(question string, answer []byte, err error) error {
	return k.c.Reply(question, answer, err)
}

// kitConn is a client as package hubkit sees it.
type kitConn struct{ client Client }

func (k kitConn) Write(ctx context.Context, batch []hubkit.Delivery) error {
	for _, d := range batch {
		told := Delivery{Payload: d.Payload, Missed: d.Missed, Token: d.Resume}
		if d.Gap != nil {
			told.Gap = d.Gap.Cause.String()
		}
		if err := k.client.Deliver(ctx, told); err != nil {
			return err
		}
	}
	return nil
}

func (k kitConn) Invoke(ctx context.Context, id string, request []byte) error {
	return k.client.Ask(ctx, id, request)
}

func (k kitConn) Close(reason hubkit.Reason) error {
	k.client.Close(Reason{Code: reason.Code.String(), Text: reason.Text})
	return nil
}
