package hubkit

import "context"

// Conn is a client's socket as the hub sees it: the one thing that a server implements. The package's recipes show it
// for two WebSocket libraries and for server-sent events.
//
// Write is called by one goroutine of the hub at a time, which the hub starts when something waits and which ends when
// nothing does; it may be called before [Hub.Connect] has returned. Close is called exactly once, by another
// goroutine, possibly during a Write, which it must make return soon, by whatever the library offers for it; a Write that
// was just about to begin may still come and must fail. [Connection.Done] is closed when both have returned for good: a
// server whose socket must not be touched after its HTTP handler has returned waits for that.
type Conn interface {
	// Write writes the deliveries in order. All that waits comes in one call, at most 64 deliveries or 64 KiB, or
	// one that is larger, so that an implementation can put them into one write to the socket. The context ends at the write deadline
	// ([Options.WriteTimeout]) and when the hub has been closed; it carries no values. An error closes the connection with
	// [ReasonFailed]; so a Write that missed its deadline must return an error.
	//
	// The slice belongs to the hub and is used again after Write has returned. The payloads are shared with other
	// connections: they may be kept, and must not be changed.
	Write(ctx context.Context, batch []Delivery) error

	// Close tells the client why, where the transport can, and closes the socket. It should not take longer than a
	// write may: [Hub.Close] waits for it. Its error is only logged.
	Close(reason Reason) error
}

// Delivery is one thing to write to a client: a payload, a notice that something before it is missing, or both; or a resume token.
//
// A server that holds state for its clients usually needs one line: where [Delivery.Lost] is true, tell the client to
// fetch its state anew. Then write Payload if it is not nil.
type Delivery struct {
	// Payload is the message as it was sent: nil for a notice alone, not nil (but maybe empty) for a message.
	Payload []byte
	// Missed counts the messages that this connection's outbox dropped at this place, by its [Policy].
	Missed uint64
	// Superseded is the part of Missed that newer messages with the same key replaced, as [KeepLatest] does: nothing is
	// lost by these but history.
	Superseded uint64
	// Gap is not nil where the backplane may have missed messages for this connection. Gaps that waited here are one: with
	// the cause of the first, and without Groups where none of them named all groups hit. It is shared: do not change it.
	Gap *Gap
	// Resume is a token for the client to keep in place of the one before, not "" where the delivery is that and nothing else. It
	// comes soon after the connection is made, after its groups have changed, and in time; see [ResumeOptions].
	Resume string
}

// Lost reports whether messages before this one are, or may be, missing: a gap, or a drop that was not superseded by a
// newer message with the same key.
func (d Delivery) Lost() bool { return d.Gap != nil || d.Missed > d.Superseded }

// Reason says why a connection was closed. The zero value is an ordinary end.
type Reason struct {
	Code ReasonCode
	// Text is for the client, at most 123 bytes so that it fits into a WebSocket close frame. Longer text is
	// cut, and what is no UTF-8 is left out.
	Text string
	// Err is the cause, for the server's logs; it is not meant for the client. nil where there is none.
	Err error
}

// ReasonCode sorts the reasons why a connection was closed.
type ReasonCode uint8

// The reasons, and the WebSocket close codes that [Reason.CloseCode] gives for them.
const (
	ReasonDone      ReasonCode = iota // 1000: an ordinary end; also where the client itself left
	ReasonGoingAway                   // 1001: this instance stops; connect again, to any instance
	ReasonSlow                        // 1013: the outbox was full and its policy is Disconnect; connect again and fetch anew
	ReasonFailed                      // 1011: a Write failed or missed its deadline
	ReasonRefused                     // 1008: the application threw the client out; do not connect again
	ReasonReplaced                    // 1008: a newer connection of the same session is there; do not connect again
)

// String returns the reason as one or two words.
func (c ReasonCode) String() string {
	switch c {
	case ReasonDone:
		return "done"
	case ReasonGoingAway:
		return "going away"
	case ReasonSlow:
		return "too slow"
	case ReasonFailed:
		return "failed"
	case ReasonRefused:
		return "refused"
	case ReasonReplaced:
		return "replaced"
	default:
		return "invalid"
	}
}

// CloseCode returns the WebSocket close code (RFC 6455, section 7.4) that tells the client what to do.
func (r Reason) CloseCode() int {
	const (
		normal, goingAway, policy, internal, tryLater = 1000, 1001, 1008, 1011, 1013
	)
	switch r.Code {
	case ReasonGoingAway:
		return goingAway
	case ReasonSlow:
		return tryLater
	case ReasonFailed:
		return internal
	case ReasonRefused, ReasonReplaced:
		return policy
	case ReasonDone:
		return normal
	default:
		return normal
	}
}

// String reads "too slow: 256 messages wait".
func (r Reason) String() string {
	switch {
	case r.Text != "":
		return r.Code.String() + ": " + r.Text
	case r.Err != nil:
		return r.Code.String() + ": " + r.Err.Error()
	default:
		return r.Code.String()
	}
}
