package hubkit

import (
	"context"

	"github.com/gobackplane/backplane"
)

// Hub holds this instance's connections of one hub, and reaches those of all instances. All methods may be called
// concurrently.
type Hub struct{}

// New makes the hub of a name on this instance, over any backplane; what it can do beyond the three verbs of
// [backplane.Backplane] is found by type assertion: a node's id ([backplane.Cluster]), health
// ([backplane.HealthReporter]), and publishing in batches. New performs no I/O: the hub subscribes to its node's inbox and
// to what is sent to all with its first connection, and stays so until Close. An instance that only sends subscribes to nothing.
//
// Make one Hub of a name on each node. The backplane stays the caller's: close the hub first. The error wraps
// ErrInvalidOption.
func New(bp backplane.Backplane, o Options) (*Hub, error) { panic("soon") }

// Name returns the hub's name.
func (h *Hub) Name() string { panic("soon") }

// Connect takes a client's socket into the hub. When it returns nil, every send that starts afterwards, on any instance,
// to all or to the user is delivered. It waits for the broker until the context ends, where this instance's first
// connection or the user's first connection here has to subscribe. The context limits this call, not the connection. On
// error nothing is left behind, and neither Write nor Close of conn has been or will be called; closing it is the caller's.
//
// The server calls [Connection.Disconnect] when the client has gone.
func (h *Hub) Connect(ctx context.Context, conn Conn, o ConnectOptions) (*Connection, error) {
	panic("soon")
}

// Connection returns the open connection of this instance with an id.
func (h *Hub) Connection(id string) (c *Connection, ok bool) { panic("soon") }

// Stats returns counters and gauges.
func (h *Hub) Stats() Stats { panic("soon") }

// Close closes all connections with [ReasonGoingAway], ends all subscriptions, and waits until every goroutine of the hub
// has ended; bounded by ctx, whose error it returns if it ended first. All other calls return ErrClosed afterwards. A
// further Close waits for the same. The backplane is not closed.
func (h *Hub) Close(ctx context.Context) error { panic("soon") }
