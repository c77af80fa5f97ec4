package backplane

import (
	"context"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// Backplane carries messages between the instances of an application. It is what hub servers program against; [Node] is
// our implementation over any transport, and conformance.Test proves that an implementation keeps the promises.
//
// All methods may be called concurrently, and from inside a [Handler].
type Backplane interface {
	// Publish sends payload to an address. Every subscription to that address in the namespace, on every instance
	// including this one, hears it exactly once or gets a [Gap] in its place; messages of one node to one address
	// arrive in the order of the Publish calls.
	//
	// It returns nil when the server that this node is connected to has taken the message. An error that wraps
	// ErrUncertain means that it may have been taken; every other error means that nobody hears it. The context bounds
	// the call. The payload may be reused when Publish has returned.
	Publish(ctx context.Context, to Address, payload []byte) error

	// Subscribe hears an address from now on. When it returns nil, every publish that starts afterwards, on any
	// instance, is delivered; one that overlapped or shortly preceded the call may be heard too. It waits for the broker
	// until the context ends; the context limits this call, not the subscription. On error nothing is left behind.
	// Each call makes a subscription of its own.
	Subscribe(ctx context.Context, to Address, h Handler) (Subscription, error)

	// Close finishes accepted publishes, ends all subscriptions, and frees every goroutine and connection except
	// inside a handler that does not return; bounded by ctx, whose error it returns if it ended first. A second Close
	// does nothing and returns nil; all other calls return ErrClosed afterwards.
	Close(ctx context.Context) error
}

// Subscription is the interest of one handler in one address.
type Subscription interface {
	// Close ends the subscription. Once Close is entered no further run of the handler starts; Close waits for a run
	// in progress until ctx ends, and then returns ctx's error. Called with a context that derives from a handler's
	// context of the same node it does not wait, so a handler may end its own subscription. It never waits for the
	// broker. A second Close does the same; it does nothing else.
	Close(ctx context.Context) error
}

// Handler receives the events of one subscription, one at a time and in order. A slow handler delays only its own
// subscription; when its queue overflows it gets a [Gap]. The context ends when the node closes; it does not carry
// values of the Subscribe call. A panic is not recovered: the process ends with its stack.
type Handler func(ctx context.Context, e Event)

// Outgoing is one message of a batch.
type Outgoing struct {
	To      Address
	Payload []byte // at most MaxPayload; may be reused when PublishBatch has returned
}

// NodeID names a node: 16 characters of 0-9 a-f, random and new at every start.
type NodeID = transport.NodeID

// Member is a node known to be alive.
type Member struct {
	ID    NodeID
	Label string    // its Options.Label
	Since time.Time // when this node first heard it, on this node's clock
	Self  bool
}

// Cluster is who else is there, and how to ask them. [Node] implements it beside [Backplane].
type Cluster interface {
	// ID is this node's own id.
	ID() NodeID
	// Members lists the nodes known to be alive, this one included, sorted by id.
	Members() []Member
	// Ask sends a request to one node and returns its answer. It stops waiting when the node is known dead (ErrNodeLost) or
	// left (ErrNodeLeft), or when ctx ends (ErrTimeout); these match ErrUnavailable too.
	Ask(ctx context.Context, node NodeID, service string, request []byte) ([]byte, error)
	// AskAll asks every live node, this one included, and returns one answer for each, sorted by node. The error is
	// not nil only if the question could not be sent; a node that did not answer has an Answer with an Err.
	AskAll(ctx context.Context, service string, request []byte) ([]Answer, error)
	// Answer registers the function that answers questions for a service on this node until stop is called. Each
	// question runs on a goroutine of its own. A second registration of a service replaces the first.
	Answer(service string, f AnswerFunc) (stop func())
}

// AnswerFunc answers one question. The context ends when the node closes or the asker's deadline has passed. An error's
// text travels to the asker.
type AnswerFunc func(ctx context.Context, from NodeID, request []byte) ([]byte, error)

// DeferredAnswerFunc answers one question by calling reply, at once or after it has returned. It must return soon, and must
// see to it that reply is called in the end; what reply is given after the first time, or once the node closes, is ignored. Reply
// does not wait for the broker. The context ends when the function has returned; its deadline is the asker's, or a minute away.
type DeferredAnswerFunc func(ctx context.Context, from NodeID, request []byte, reply func(payload []byte, err error))

// Answer is what one node said.
type Answer struct {
	Node    NodeID // who was asked
	Payload []byte // what it said; the asker's to keep
	Err     error  // ErrUnavailable: the node left, died or did not answer in time; ErrUnsupported: nobody answers that service there
}

// HealthReporter tells the truth about delivery. [Node] implements it beside [Backplane].
type HealthReporter interface {
	Health() Health
	// OnHealth calls f with every change of state, once each and in order, from one goroutine of the node, until stop
	// is called. The first call tells the state at registration. f must not block for long: later changes wait
	// behind it, and many of them are merged into the newest.
	OnHealth(f func(Health)) (stop func())
}

// State is the one-word answer of [Health].
type State uint8

// The states, from good to bad.
const (
	Up       State = iota + 1 // messages travel the whole way round on every link, and every member is on time
	Degraded                  // messages travel, but something is wrong: a member is late, settings disagree, one of several links is down
	Down                      // nothing can be sent or heard
)

// String returns "up", "degraded" or "down".
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Degraded:
		return "degraded"
	case Down:
		return "down"
	default:
		return "invalid"
	}
}

// Health is measured, not believed: the state is Up only while a probe of this node's own comes back on every link.
type Health struct {
	State  State
	Since  time.Time // when this state began
	Causes []Cause   // empty when Up
	// LastProbe is the round trip of the newest probe that came back, on the slowest link.
	LastProbe time.Duration
}

// Cause is one reason why the state is not Up.
type Cause struct {
	Kind CauseKind
	Node NodeID // the member concerned, if one is
	Link int    // the link concerned, for CauseLink, CauseSilent and CauseRole
	Err  error
}

// CauseKind sorts the reasons why the state is not Up.
type CauseKind string

// The reasons.
const (
	CauseLink     CauseKind = "link"     // a link is not connected
	CauseSilent   CauseKind = "silent"   // no probe came back in time on a connected link, or confirmed subscriptions do not deliver
	CauseRole     CauseKind = "role"     // the server is not one that may publish
	CauseMember   CauseKind = "member"   // a member's heartbeat is late
	CauseSettings CauseKind = "settings" // a member's settings differ in a way that could lose messages
	CauseDenied   CauseKind = "denied"   // the broker refuses a subscription that was confirmed before
	CauseClosed   CauseKind = "closed"   // this node was closed
)
