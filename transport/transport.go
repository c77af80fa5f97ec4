// Package transport is what the implementor of a transport reads, and nothing else: package backplane is to it what
// database/sql is to database/sql/driver. A transport carries opaque frames on named channels. It knows nothing of
// groups, numbers, order or retries; all of that lives once, in the engine above it.
//
// # What a transport does
//
// A transport has links: connections that fail on their own. One Redis server is one link; a cluster has one for each
// shard. The engine, not the transport, decides when a link is connected, given up, and connected again: it calls
// [Transport.Connect], waits between attempts, subscribes anew after each success, and calls [Transport.Disconnect]
// when the link has gone silent. So a transport contains no back-off, no retry, no table of wanted subscriptions.
//
// # What a transport must not do
//
//   - Retry anything by itself, or let its client library do so: a retried publish whose first attempt was heard is
//     delivered twice, and only the engine's numbers can tell.
//   - Reconnect by itself: what is lost between two connections is a gap, and a hidden reconnect hides it. A client
//     library that insists on reconnecting must report [Sink.Down] first.
//   - Queue without bound. Frames are handed to the [Sink] as they are read; the sink never blocks.
//   - Call a [Sink] method while holding a lock that one of its own methods needs.
//
// # How to know that it is right
//
// Package conformance proves a transport in a test of ten lines, and its failures name the rule here that was usually
// broken. docs/transports.md in this module's repository says what to write in which order, and examples/transports/relay
// is a complete transport that is no part of this module.
package transport

import (
	"context"
	"log/slog"
	"time"
)

// Link names one of a transport's links. A transport with a single connection uses [OnlyLink] throughout.
type Link int

// OnlyLink is the link of a transport that has just one.
const OnlyLink Link = 0

// Opener makes a transport for one node. It validates the settings, which were given to the function that returned the
// Opener, and returns an error wrapping [ErrInvalidOption] where they do not fit. It performs no I/O: that is
// [Transport.Connect]'s. A constructor named New or URL in each transport's package returns one; an Opener may be used
// for any number of nodes.
type Opener func(Config) (Transport, error)

// NodeID names a node: 16 characters of 0-9 a-f, random and new at every start.
type NodeID string

// Config is what the engine tells a transport at its birth.
type Config struct {
	// Node is the id of the node that the transport will serve.
	Node NodeID
	// Namespace separates applications on one broker. Channel names arrive with it already in place; a transport
	// needs it only for what is not a channel (keys of a [Store], a client name).
	Namespace string
	// Logger is never nil. Names of channels and addresses must not be logged: they can hold personal data.
	Logger *slog.Logger
	// MaxFrame is the largest frame in bytes that the engine will publish: the node's MaxPayload and 4 KiB. A broker whose
	// own limit is known only once it is connected, and smaller, makes Connect fail, with both numbers.
	MaxFrame int
	// Timeout bounds a single exchange with the broker (a dial with its handshake, one command's answer). The context
	// of each call is bounded as well; a transport whose client needs a figure takes this one.
	Timeout time.Duration
}

// Limits states what the broker can carry. The engine makes names that fit and stops coalescing at MaxFrame.
type Limits struct {
	// MaxFrame is the largest frame in bytes, 0 for no limit below 512 MiB. Opening a node fails where the node's
	// MaxPayload does not fit; a frame needs 4 KiB beside it.
	MaxFrame int
	// MaxChannel is the longest channel name in bytes, 0 for no limit. At least 60.
	MaxChannel int
	// ChannelByte reports whether a channel name may hold b; nil means any byte may stand. The letters a-z, A-Z,
	// digits, '_', '-' and Delimiter must be allowed.
	ChannelByte func(b byte) bool
	// Delimiter stands between the namespace and the rest of a channel name; 0 means ':'. It is chosen so that a
	// permission on "namespace, delimiter, anything" is exact.
	Delimiter byte
	// Tokens says that a channel name is a row of tokens with a Delimiter between any two, and that the broker carries no
	// empty one (NATS: "a..b", "a."). The engine then leaves a trailing delimiter out, and hashes names that hold one.
	Tokens bool
	// Shared says that other applications may use the same broker: the node then must be given a namespace.
	Shared bool
}

// Frame is one broker message.
type Frame struct {
	Channel string
	// Data belongs to the engine: a transport must neither change it nor keep it after Publish has returned.
	Data []byte
}

// Transport carries frames between nodes. The engine calls Start once, then Connect for each link it needs. All methods
// may be called concurrently, also for one link, except that calls of Connect and Disconnect for one link never overlap.
type Transport interface {
	// Limits is constant for the transport's life and needs no connection.
	Limits() Limits

	// Start hands over the sink. It performs no I/O and is called once, before everything else but Limits.
	Start(Sink)

	// Link says which link a channel uses. It is called for each publish, so it must be cheap and perform no I/O; its
	// answer may change (then [Sink.Gap] names the channels that moved).
	Link(channel string) Link

	// Connect makes the link usable: afterwards Publish, Subscribe and Unsubscribe may be called for it. It returns
	// when the broker has accepted us on every connection of the link, or with an error when ctx ends. It leaves
	// nothing behind on error. Errors wrap [ErrDenied] for credentials, TLS names and permissions, [ErrReadOnly] where
	// the server is not one that may publish, else [ErrUnavailable]. A new connection has no subscriptions.
	// Connect on a connected link first does what Disconnect does.
	Connect(ctx context.Context, link Link) error

	// Disconnect gives the link's connections up at once, without waiting for the broker, and unblocks calls under way
	// on it. When it returns, the sink gets no further call for that link until the next Connect. It reports no
	// [Sink.Down], and does nothing on a link that is not connected. It may be called from a goroutine of the engine
	// only, never from inside a sink method.
	Disconnect(link Link)

	// Publish sends frames in order on one link and returns when the fate of each is known, or soon after ctx ended.
	// It returns nil if the broker took all of them, else one error for each frame, nil for taken. A frame that was
	// surely not taken (no byte of it may have left, or the broker said no) has an error that wraps [ErrUnavailable],
	// [ErrDenied], [ErrTooLarge], [ErrReadOnly] or [ErrClosed]; every other error means that it may have been taken
	// (wrap [ErrUncertain]). The engine has at most one frame for a channel under way, so a refused frame may be
	// followed by one that is taken.
	Publish(ctx context.Context, link Link, frames []Frame) []error

	// Subscribe asks the broker for channels of one link, and returns when it has confirmed or refused every one of
	// them: nil if all were confirmed, else one error for each, nil for confirmed. A refusal wraps [ErrDenied]; where
	// the broker refuses a whole batch without naming the culprit, the transport halves the batch until it is found.
	// Whatever the broker sends on a channel from the moment of its confirmation must reach the sink. A confirmation
	// does not overtake frames: what the broker sent on the link before it has reached the sink when Subscribe returns,
	// else the engine takes old messages for lost ones. There may be tens of thousands of channels: cut them into
	// commands and keep several under way.
	Subscribe(ctx context.Context, link Link, channels []string) []error

	// Unsubscribe is the reverse, with the same rules.
	Unsubscribe(ctx context.Context, link Link, channels []string) []error

	// Close disconnects all links and frees every goroutine and connection. No sink call after it has returned.
	Close() error
}

// Sink is the engine, as a transport sees it. Its methods return fast, never block on I/O or on a handler, and may be
// called concurrently for different links; for one link they are called in stream order, from one goroutine at a time.
type Sink interface {
	// Frame hands over one received frame. The engine keeps data and shares it with subscribers: the transport must not
	// touch it again. Frames on channels that nobody subscribed are ignored.
	Frame(link Link, channel string, data []byte)

	// Gap says that frames may be missing here in the stream although the link stays connected: of the named channels,
	// or of the whole link if channels is nil. The engine tells every subscription concerned. With resubscribe the
	// broker no longer holds these subscriptions (a slot moved, a permission was taken away), and the engine asks
	// [Transport.Link] again and subscribes anew.
	Gap(link Link, channels []string, resubscribe bool, cause error)

	// Down says that the link failed by itself; the transport has already given its connections up. Exactly one Down
	// follows a successful Connect, unless Disconnect or Close came first. It is the last call for that connection.
	Down(link Link, cause error)
}

// Checker is an optional ability: a transport whose broker tells its role implements it.
type Checker interface {
	// Check asks the broker behind the link whether it still is one that may publish. The engine calls it with each
	// probe. An error that wraps [ErrReadOnly] makes the engine give the link up and connect anew; other errors
	// (an answer that did not come) count as silence.
	Check(ctx context.Context, link Link) error
}

// Clustered is an optional ability: a transport whose broker can be several servers implements it, where a subscription
// that the server we are connected to has confirmed may be unknown to the others for a while.
//
// The engine then has a new subscription answered by every live node before it counts as confirmed, and sends nothing of
// its user's after a connect before that has happened as well. It relies on this: what one connection sent, a
// subscription and then a frame, arrives at every other server in that order. So it is for transports with one link.
type Clustered interface {
	// Clustered reports whether the server behind a connected link has others beside it, or may have. It is called after
	// each Connect and each Subscribe, so it must be cheap and perform no I/O.
	Clustered(link Link) bool
}
