package backplane

import (
	"time"
)

// Event is what a subscription hears: a [*Message] or a [*Gap]. Other packages cannot add kinds; this one may, so a type
// switch should ignore what it does not know.
type Event interface{ event() }

// Message is one message, as published. It may be shared with other subscriptions of the same node: a handler may keep
// it and its payload for as long as it likes, and must change neither.
//
// The payload is a part of the frame it came in, so that keeping a small payload for long can keep up to 64 KiB alive;
// copy what is to be kept for hours.
type Message struct {
	Address   Address
	Publisher NodeID // the node that published it
	Payload   []byte // never nil; empty for an empty payload
}

// Gap marks a place in a subscription's stream where messages may be missing. What the application holds of this
// address should be fetched anew from where it is kept.
type Gap struct {
	Address Address
	Cause   GapCause
	// Since is the earliest moment, on this node's clock, from which messages may be missing.
	Since time.Time
	// Publisher and Missed are set when numbers showed exactly how many messages of one node are missing. Missed 0
	// means that the count is not known.
	Publisher NodeID
	Missed    uint64
	// Err is what caused it, where an error did. For people and logs.
	Err error
}

func (*Message) event() {}
func (*Gap) event()     {}

// GapCause is the reason of a gap.
type GapCause uint8

// The causes of gaps.
const (
	GapLink       GapCause = iota + 1 // the link to the broker failed, or was given up because it had gone silent
	GapNumbers                        // the numbers of a publisher showed that messages are missing; Missed counts them
	GapOverflow                       // a bounded queue or table of this node was full; Missed counts where it is known
	GapUnreadable                     // a frame could not be decoded
	GapBroker                         // the broker dropped frames, or confirmed a subscription that does not deliver
	// GapMember: a node that had been declared dead spoke again, heartbeats of it are missing, or it was met too late. Where the
	// broker is several servers, also: it was declared dead. Its own server may have died with it, and what that had taken, Publish
	// had returned nil, and not passed on. Publisher names the node.
	GapMember
)

// String returns the cause as one word.
func (c GapCause) String() string {
	switch c {
	case GapLink:
		return "link"
	case GapNumbers:
		return "numbers"
	case GapOverflow:
		return "overflow"
	case GapUnreadable:
		return "unreadable"
	case GapBroker:
		return "broker"
	case GapMember:
		return "member"
	default:
		return "invalid"
	}
}
