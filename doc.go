// Package backplane carries messages between the instances of a hub server.
//
// A hub server (WebSocket, Server-Sent Events, SignalR-style) keeps its clients' connections in memory, so what one
// instance sends reaches only the clients connected to that instance. A backplane carries each message to every
// instance that has somebody to deliver it to.
//
//	node, err := backplane.Open(ctx, redis.URL("redis://localhost:6379"), backplane.Options{Namespace: "ward"})
//	…
//	sub, err := node.Subscribe(ctx, backplane.Group("ward:4B"), func(ctx context.Context, e backplane.Event) {
//		switch e := e.(type) {
//		case *backplane.Message: // hand e.Payload to the local clients in the group
//		case *backplane.Gap: // messages may be missing here: fetch the ward's state anew
//		}
//	})
//	…
//	err = node.Publish(ctx, backplane.Group("ward:4B"), alert)
//
// Package hubkit does the first case for you: connections, groups, users, outboxes. Package dial opens a node by URL.
//
// # What is delivered
//
// A publish happens at an instant between the call and its return, a subscription begins at an instant between the call
// of Subscribe and its return, and ends when its Close is entered. A message published to an address after a
// subscription to it began, by any node of the namespace, is delivered to it exactly once: the handler hears it, or
// hears a [Gap] in the place where it may be missing. The publishing node hears it through the broker like all others.
//
// Messages of one node to one address are heard in the order of the publish calls. Nothing may be assumed about the
// order across addresses, or across publishers: two subscribers may hear two publishers in different orders.
//
// Nothing is kept: who subscribes later does not hear what was published before. A message to an address that nobody
// subscribed is taken and gone.
//
// # What is lost is told
//
// A subscription that may have missed messages gets a [Gap], before the next message: after the link to the broker
// failed and the subscription is in force again ([GapLink]), when its own queue was full because the handler is slow
// ([GapOverflow]), when something could not be read ([GapUnreadable]), and when the publishers' numbers show that
// messages are missing though nothing failed visibly ([GapNumbers], with an exact count). A publisher that falls silent
// makes its last number known, so that the loss of a last message is noticed too, within [Options.TailMark] and its
// publisher's next duty. What an application should do at a gap is to fetch the state concerned from where it is kept.
//
// # What a publish returns
//
// nil: the server this node is connected to has taken the message. It does not mean that anybody heard it.
//
// An error that wraps [ErrUncertain]: it may have been taken; it is heard once or not at all. Every other error is
// definite: nobody hears it. The node repeats by itself what may be repeated, within the call's context, and never in a
// way that delivers twice.
//
// # Concurrency
//
// All methods of all types may be called concurrently and from inside handlers. The handler of one subscription is
// called by one goroutine at a time; handlers of different subscriptions run concurrently. A slow handler delays its
// own subscription and nothing else. A handler's panic is not recovered.
//
// Every goroutine of a node ends with [Node.Close]: one for duties by the clock, two for each link, and those that run
// handlers while something waits for them. Idle subscriptions have none.
//
// # Health
//
// [Node.Health] is measured: Up means that within the last seconds a message of this node's own went the whole way
// round on every link, and that every member's heartbeat is on time. A connection that is open but deaf is Down within
// [Options.ProbeInterval] + [Options.ProbeTimeout], and is given up and made anew.
//
// # Transports
//
// Packages redis, nats and inmem carry frames; package transport says what another one has to do, and package conformance
// proves that it does.
package backplane
