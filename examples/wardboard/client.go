package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"

	"github.com/coder/websocket"
	"github.com/gobackplane/backplane"
)

// client is a nurse without a browser: one WebSocket, and the memory of what arrived on it. Not for concurrent use.
type client struct {
	name string
	ward string
	ws   *websocket.Conn

	instance string
	node     backplane.NodeID
	token    string // the newest, with which the client could come back
	state    string // of the instance's backplane, as told last

	alerts map[string]int               // copies of each alert
	missed int                          // how often the client was told that alerts may be missing
	fences map[fence][]backplane.NodeID // fences heard, with the members they name
}

// fence names one fence of one instance.
type fence struct {
	id   string
	node backplane.NodeID
}

// dialClient connects to an instance or to a balancer in front of some, and joins a ward. When it has returned nil, every
// alert to the ward that is raised from then on arrives.
func dialClient(ctx context.Context, base, name, ward string) (*client, error) {
	c := &client{name: name, ward: ward, alerts: make(map[string]int), fences: make(map[fence][]backplane.NodeID)}
	if err := c.dial(ctx, base); err != nil {
		return nil, err
	}
	if err := c.enter(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *client) dial(ctx context.Context, base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	u = u.JoinPath("ws")
	u.RawQuery = url.Values{"nurse": {c.name}}.Encode()
	c.ws, _, err = websocket.Dial(ctx, u.String(), nil) //nolint:bodyclose // the library closes it
	return err
}

func (c *client) enter(ctx context.Context) error {
	if _, err := c.hello(ctx); err != nil {
		return err
	}
	if err := c.send(ctx, request{Type: typeJoin, Ward: c.ward}); err != nil {
		return err
	}
	_, err := c.await(ctx, typeJoined)
	return err
}

// hello presents the token, if there is one, and returns the welcome.
func (c *client) hello(ctx context.Context) (event, error) {
	if err := c.send(ctx, request{Type: typeHello, Resume: c.token}); err != nil {
		return event{}, err
	}
	e, err := c.await(ctx, typeWelcome)
	c.instance, c.node, c.state = e.Instance, e.Node, e.State
	return e, err
}

// raise raises an alert and returns it once the backplane has taken it.
func (c *client) raise(ctx context.Context, text string) (event, error) {
	if err := c.send(ctx, request{Type: typeAlert, Ward: c.ward, Text: text}); err != nil {
		return event{}, err
	}
	return c.await(ctx, typeSent)
}

// sendFence makes the client's instance send a fence to a ward.
func (c *client) sendFence(ctx context.Context, ward, id string) error {
	return c.send(ctx, request{Type: typeFence, Ward: ward, ID: id})
}

// awaitFences returns when everything that was sent to the client's ward before the fences, by the client's own
// instance or the one named, has arrived or never will.
func (c *client) awaitFences(ctx context.Context, id string, sender backplane.NodeID) error {
	for {
		members, own := c.fences[fence{id, c.node}]
		_, senders := c.fences[fence{id, sender}]
		if own && (senders || !slices.Contains(members, sender)) {
			return nil
		}
		if _, err := c.await(ctx, typeFence); err != nil {
			return err
		}
	}
}

// await reads until an event of a type arrives, and remembers everything.
func (c *client) await(ctx context.Context, kind string) (event, error) {
	for {
		_, data, err := c.ws.Read(ctx)
		if err != nil {
			return event{}, fmt.Errorf("waiting for %q: %w", kind, err)
		}
		var e event
		if err = json.Unmarshal(data, &e); err != nil {
			return event{}, fmt.Errorf("waiting for %q: not a message of this protocol: %w", kind, err)
		}
		switch e.Type {
		case typeAlert:
			c.alerts[e.ID]++
		case typeMissed:
			c.missed++
		case typeResume:
			c.token = e.Token
		case typeStatus:
			c.state = e.State
		case typeFence:
			c.fences[fence{e.ID, e.Node}] = e.Members
		case typeError:
			return event{}, fmt.Errorf("the instance says: %s", e.Text)
		}
		if e.Type == kind {
			return e, nil
		}
	}
}

func (c *client) send(ctx context.Context, r request) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return c.ws.Write(ctx, websocket.MessageText, data)
}

// close says goodbye. If that fails the connection was gone already.
func (c *client) close() { _ = c.ws.Close(websocket.StatusNormalClosure, "") }
