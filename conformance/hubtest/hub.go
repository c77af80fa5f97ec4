package hubtest

import (
	"context"
	"time"

	"github.com/gobackplane/backplane/conformance"
)

// Opener opens one more instance. The suite calls it several times for each property, also concurrently: instances with the
// same namespace are one farm, others must not meet. The suite closes what it opened.
type Opener func(ctx context.Context, in conformance.Instance) (Node, error)

// Node is one instance: its seat on the backplane, which hubs of several names share.
type Node interface {
	// Hub makes this instance's part of the hub of a name. It may wait for nothing.
	Hub(name string, hooks Hooks) (Hub, error)
	// Close ends the node after its hubs were closed.
	Close(ctx context.Context) error
}

// Hooks are what a hub calls. They return soon.
type Hooks struct {
	// Gap is called once for each cause of missing messages, with the ids of this instance's connections that it concerns.
	Gap func(cause string, connections []string)
	// State is called with the name of each new state of the backplane, once and in order: [StateUp], [StateDown], or
	// something between.
	State func(state string)
	// Restore decides which groups of a client that comes back still hold. nil where clients need not come back; see [Resumer].
	Restore func(user string, groups []string) (still []string)
}

// The states that the suite knows.
const (
	StateUp   = "up"
	StateDown = "down"
)

// Hub is a hub of a name on one instance. All methods may be called concurrently.
//
// Its errors are told apart by errors.Is. Of a single connection that is named by its id: hubkit.ErrNotFound where its home says
// that it is gone, or has said goodbye; backplane.ErrNodeLost where its home fell silent, backplane.ErrTimeout where the context
// ended first, and backplane.ErrUnavailable, without one of the others, where the own link is down. hubkit.ErrPartial stands for what was not
// done everywhere, hubkit.ErrDisconnected for an invocation whose client left, hubkit.ErrInvalidTarget for an id that no hub makes,
// backplane.ErrInvalidAddress for a name that is none, hubkit.ErrInvalidToken for a page token of another listing,
// hubkit.ErrDraining for Connect while draining, backplane.ErrTooLarge for a payload of more than the hub takes, which is half a
// mebibyte at least and 64 at most, and backplane.ErrClosed for a closed hub.
//
// A name is valid UTF-8 that is not empty; hubs take those of 255 bytes at least. The ids that no hub makes are "", "me" and "nobody's".
type Hub interface {
	Operator
	Asker

	// Connect takes a client in. When it has returned, every send that starts afterwards, on any instance, is delivered.
	Connect(ctx context.Context, client Client, o ConnectOptions) (Connection, error)
	// Send sends to a target on whatever instances its connections are.
	Send(ctx context.Context, to Target, payload []byte) error
	// Drain makes no new connection, sends the present ones elsewhere over some time, and writes what waits for them until ctx ends.
	Drain(ctx context.Context, over time.Duration) (Drained, error)
	// Close closes all connections.
	Close(ctx context.Context) error
}

// Operator acts on connections of any instance. When its methods return nil they are effective. They return how many connections
// they changed.
type Operator interface {
	Join(ctx context.Context, of Target, group string) (changed int, err error)
	Leave(ctx context.Context, of Target, group string) (changed int, err error)
	LeaveAll(ctx context.Context, of Target) (changed int, err error)
	// Disconnect ends connections. The text is for the client.
	Disconnect(ctx context.Context, of Target, text string) (changed int, err error)
}

// Asker asks all instances concerned.
type Asker interface {
	Exists(ctx context.Context, of Target) (bool, error)
	Count(ctx context.Context, of Target) (Count, error)
	// List returns a page of at most limit connections. The token is the Next of the page before, "" for the first.
	List(ctx context.Context, of Target, limit int, token string) (Page, error)
	// Invoke asks a client and returns its answer. Where the client answers with an error, the error's text has the client's in it.
	Invoke(ctx context.Context, connection string, request []byte) ([]byte, error)
}

// Connection is a client of this instance, as its server holds it.
type Connection interface {
	// ID names the connection on every instance, and no other one of any hub.
	ID() string
	// Join and Leave are the operations on this one connection, without a question to anybody.
	Join(ctx context.Context, group string) error
	Leave(ctx context.Context, group string) error
	// Gone tells that the client has left by itself.
	Gone()
	// Reply gives the client's answer to a question: a payload, or an error. hubkit.ErrNotInvoked says that nobody waits for it.
	Reply(question string, answer []byte, err error) error
}

// Client is the suite's end of a connection: the hub writes to it.
type Client interface {
	// Deliver writes one thing, like a socket: it may block until the context ends, and fail, upon which the hub
	// closes the connection.
	Deliver(ctx context.Context, d Delivery) error
	// Ask writes a question, with the id that the answer must carry. It is called in order with Deliver.
	Ask(ctx context.Context, question string, request []byte) error
	// Close tells that the connection has ended. It is called once.
	Close(reason Reason)
}

// Delivery is one thing written to a client.
type Delivery struct {
	Payload []byte // nil for a notice alone
	Missed  uint64 // messages that the outbox dropped right before
	Gap     string // the cause, where messages may be missing before this; "" for none
	Token   string // for the client to keep in place of the one before, where the delivery is that and nothing else; see [Resumer]
}

// Reason says why a connection ended.
type Reason struct {
	Code string // one of the codes below
	Text string // what Disconnect was given
}

// The codes of reasons.
const (
	ReasonDone      = "done"       // the client left by itself
	ReasonRefused   = "refused"    // Disconnect was called
	ReasonSlow      = "too slow"   // the outbox was full
	ReasonFailed    = "failed"     // a write failed
	ReasonGoingAway = "going away" // the instance drains or closes
	ReasonReplaced  = "replaced"   // the client has come back by another connection
)

// ConnectOptions describe a connection.
type ConnectOptions struct {
	User string // "" for none
	// Outbox is how many messages may wait; 0 for the hub's default, which is 100 at least.
	Outbox int
	// Drop says that a message that does not fit makes room by dropping, rather than ending the connection.
	Drop bool
	// Token is the newest one that the client was given on an earlier connection; "" for a new client. See [Resumer].
	Token string
}

// Target says who is meant: the union of what is named, without the exceptions.
type Target struct {
	All         bool
	Groups      []string
	Users       []string
	Connections []string // ids
	Except      []string // ids
}

// Coverage says how far an answer can be relied on.
type Coverage struct {
	Missing  []string // the names of the instances that did not answer
	Settling bool     // the asked instance may not know all others
}

// Count is how many connections a target means.
type Count struct {
	Connections int
	Coverage
}

// Page is a part of a listing.
type Page struct {
	Connections []Info
	Next        string // the token of the next page, "" after the last
	Coverage
}

// Info describes a listed connection. Instance is its [conformance.Instance.Name].
type Info struct{ ID, User, Instance string }

// Drained is the outcome of a drain.
type Drained struct {
	Connections int            // that were open when it began
	Remained    map[string]int // by connection: the messages that were not written
}

// What follows is optional: it is found by type assertion.

// Faulter is a [Node] whose link can be made to fail although it does not dial through [conformance.Instance.Dial].
type Faulter interface{ Faults() conformance.Faults }

// Killer is a [Node] that can be ended without a goodbye. Without it the suite cuts the node's link for good.
type Killer interface{ Kill() }

// Publisher is a [Node] that shows the backplane below its hubs. Kind is "all", "group" or "user".
type Publisher interface {
	Publish(ctx context.Context, kind, name string, payload []byte) error
}

// UserGroups is a [Hub] that keeps memberships of users, present and future connections alike.
type UserGroups interface {
	// JoinUser makes a user a member of a group for a time, 0 for good, and LeaveUser ends that.
	JoinUser(ctx context.Context, user, group string, ttl time.Duration) (changed int, err error)
	LeaveUser(ctx context.Context, user, group string) (changed int, err error)
}

// Resumer is a [Hub] whose clients come back on any instance by a token, where it was made with [Hooks.Restore]. A token that is
// not accepted is hubkit.ErrResume.
type Resumer interface {
	// TokenLifetime is how long a token is accepted.
	TokenLifetime() time.Duration
}
