package hubkit

import (
	"context"
	"time"
)

// Connection is one client of this instance. All methods may be called concurrently.
type Connection struct{}

// ID returns the id under which the connection is reached from every instance by [ToConnections]. It is opaque, unique,
// safe in URLs and JSON, and at most 64 bytes.
func (c *Connection) ID() string { panic("soon") }

// User returns the user id, "" for none.
func (c *Connection) User() string { panic("soon") }

// Label returns the application's own name for the connection.
func (c *Connection) Label() string { panic("soon") }

// Metadata returns what ConnectOptions gave. It must not be changed.
func (c *Connection) Metadata() map[string]string { panic("soon") }

// Since returns when the connection was made.
func (c *Connection) Since() time.Time { panic("soon") }

// Groups returns the groups that the connection is in, sorted.
func (c *Connection) Groups() []string { panic("soon") }

// Join puts the connection into a group. When it returns nil, every send to the group that starts afterwards, on any
// instance, is delivered; one that overlapped the call may be. The first local member of a group waits for the
// broker until the context ends. Joining twice is joining once. On error nothing is left behind and trying again works;
// the causes are ErrInvalidAddress, [ErrDisconnected], ErrClosed, and those of [backplane.Backplane.Subscribe].
func (c *Connection) Join(ctx context.Context, group string) error { panic("soon") }

// Leave takes the connection out of a group. When it returns nothing more of that group enters the outbox; what waits
// there is still written. It does not wait for the broker. Leaving a group that the connection is not in does
// nothing. The error is nil, or ErrInvalidAddress.
func (c *Connection) Leave(ctx context.Context, group string) error { panic("soon") }

// Send puts a payload into this connection's outbox. It never blocks. It returns [ErrDisconnected] if the connection was
// closed. The payload may be reused when it has returned.
func (c *Connection) Send(payload []byte) error { panic("soon") }

// Disconnect ends the connection: when it returns, the connection is in no group, nothing more enters its outbox, and
// what waited there is discarded. The socket is closed by a goroutine of the hub, see [Connection.Done]. A second call,
// also after the hub closed the connection by itself, does nothing: the first reason stays.
//
// A server calls it when the client has gone, and to throw a client out.
func (c *Connection) Disconnect(reason Reason) { panic("soon") }

// Done returns a channel that is closed when the connection has ended and neither Write nor Close of its [Conn] runs or
// will run.
func (c *Connection) Done() <-chan struct{} { panic("soon") }

// Reason returns why the connection ended; ok is false while it has not.
func (c *Connection) Reason() (reason Reason, ok bool) { panic("soon") }
