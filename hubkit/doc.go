// Package hubkit is what a hub server needs on top of a backplane: connections, groups and users that span all
// instances, bounded outboxes, and the truth about what may have been missed. It knows no WebSocket library and no
// broker.
//
//	client ── socket ── Conn ── outbox ── Hub ── backplane ── Hub ── outbox ── Conn ── socket ── client
//	                     ▲
//	          the small interface that your server implements
//
// A server makes one [Hub] of a name on each instance, gives every socket to [Hub.Connect], and calls
// [Connection.Disconnect] when the client has gone. Sends may come from any instance:
//
//	hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
//	c, err := hub.Connect(ctx, conn, hubkit.ConnectOptions{User: "nurse-17"})
//	err = c.Join(ctx, "ward:4B")
//	err = hub.Send(ctx, hubkit.ToGroups("ward:4B"), payload) // reaches the group's members on every instance
//
// # Delivery
//
// Delivery to a connection is entry into its outbox. These are the promises; each has tests of its name.
//
//   - H0, names: hubs of one name on all instances are one hub. Hubs of different names, and what a program sends over
//     the backplane itself, never meet, also on one node. A node holds at most one Hub of a name.
//   - H1, one copy: a connection gets one copy of a send, however many of its groups and users were addressed. When it
//     joins or leaves while the copies travel it gets at most one, and exactly one if it stays in one of them throughout.
//     A connection in [Target.Except] gets none, on whatever instance.
//   - H2, operations: [Hub.Join], [Hub.Leave], [Hub.LeaveAll] and [Hub.Disconnect] act on connections of any instance. They are
//     effective when they return, idempotent, and tell apart a connection that is gone, a silent instance, an outage of one's
//     own, and an answer that did not come in time.
//   - H3, leaving: after [Connection.Leave] or [Hub.Leave] has returned nothing more of that group enters the outbox. A disconnect
//     discards what waits in it.
//   - H4, races: a join that races a disconnect leaves no membership, subscription or goroutine behind.
//   - H5, isolation: one broken or stuck connection never delays or fails the others. Its outbox overflows by its own
//     [Policy]; what a policy drops is counted and told to that connection before its next message.
//   - H6, queries: [Hub.Exists], [Hub.Count] and [Hub.List] ask all live instances. An answer that misses one says so and
//     names it; one that died is missed for the backplane's member timeout at most. While this instance is settling every
//     answer is partial.
//   - H7, gaps: a gap of the backplane reaches [Options.OnGap] once for one cause, and every local connection it
//     concerns once; see [Gap].
//   - H8, drain: [Hub.Drain] makes no new connection, sends the present ones elsewhere at a pace, writes what waits for them,
//     and reports for each connection what could not be written.
//
// [Hub.Invoke] asks a client, on whatever instance, and waits for its answer; a server whose clients can be asked implements
// [Invoker] beside [Conn].
//
// A user's membership ([Hub.JoinUser]) holds for all present and future connections of the user, and survives every instance.
//
// When [Connection.Join] or [Hub.Connect] has returned nil, every send that starts afterwards, on any instance, is
// delivered or covered by a gap.
//
// # Coming back
//
// A client that lost its socket comes back on any instance with a signed token that the hub gave it, where [Options.Resume] is set: its groups
// are restored before it hears anything, it is told first that it may have missed something, and its old connection is closed, wherever
// that hangs. One that the server threw out does not come back. See [ResumeOptions], and its example.
//
// # Order
//
// Sends of one instance to one group arrive in the order of the calls; so do its sends to one user, to all, and to one
// connection. Nothing is promised between different targets, between instances, or between the copies of a send to
// several targets and other sends to those targets that a connection is reached by.
//
// # What may not be assumed
//
// That nil from [Hub.Send] means that somebody was there: it means that the broker has taken the message. That a
// message to a connection of this instance waits for an earlier one to its group: the former stays local, the latter
// goes through the broker. That a gap is told at its exact place: it is told after it was repaired, so that what the
// client then fetches is complete.
package hubkit
