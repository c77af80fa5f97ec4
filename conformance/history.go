package conformance

import (
	"time"

	"github.com/gobackplane/backplane"
)

// history is all that happened in one world, as data: rules judge it, and a failure is shown from it. Records refer to one
// another by their index.
type history struct {
	Nodes []nodeRecord
	Pubs  []pubRecord
	Subs  []subRecord
	Runs  []runRecord
	Marks []markRecord
}

// stamp is a moment. All instances of a world run in this process, so one counter orders everything and no clock is
// compared; At is for people. The zero stamp means never.
type stamp struct {
	Tick int64         `json:"tick"`
	At   time.Duration `json:"at"`
}

func (s stamp) happened() bool { return s.Tick != 0 }

// before reports whether both happened, and s first.
func (s stamp) before(t stamp) bool { return s.Tick != 0 && t.Tick != 0 && s.Tick < t.Tick }

// orNever is the tick, or one later than everything that happened.
func (s stamp) orNever() int64 {
	if s.Tick == 0 {
		return 1<<63 - 1
	}
	return s.Tick
}

// call is one call of a verb: when it began, when it returned, and what it said.
type call struct {
	Call   stamp   `json:"call"`
	Return stamp   `json:"return"`
	Result outcome `json:"result"`
}

// place is an address in a namespace: two messages meet only if their places are equal.
type place struct {
	Namespace string            `json:"namespace"`
	Address   backplane.Address `json:"-"`
}

// nodeRecord is one instance.
type nodeRecord struct {
	Name      string           `json:"name"`
	Namespace string           `json:"namespace"`
	ID        backplane.NodeID `json:"id,omitempty"` // if the backplane tells
	Open      call             `json:"open"`
	Close     call             `json:"close"`
}

// pubRecord is one call of Publish.
type pubRecord struct {
	Node  int    `json:"node"`
	Seq   int    `json:"seq"` // 1, 2, … for each instance
	Place place  `json:"place"`
	Size  int    `json:"size"`
	Sum   uint32 `json:"sum"`
	call
}

// subRecord is one call of Subscribe, and the end of what it made.
type subRecord struct {
	Node  int   `json:"node"`
	Place place `json:"place"`
	call
	Close     call `json:"close"`
	Reentrant bool `json:"reentrant,omitempty"` // closed from inside its own handler, which Close does not wait for
}

// runRecord is one run of a handler.
type runRecord struct {
	Sub   int   `json:"sub"`
	Start stamp `json:"start"`
	End   stamp `json:"end"`

	// A message.
	Pub       int               `json:"pub"` // -1: it is none that was published in this world, or the run is a gap
	Address   backplane.Address `json:"-"`
	Publisher backplane.NodeID  `json:"publisher,omitempty"`
	Size      int               `json:"size"`
	Sum       uint32            `json:"sum"`
	What      string            `json:"what,omitempty"` // of a message that nobody published: its beginning

	// A gap; Publisher is whose messages are missing, if it tells.
	Gap    backplane.GapCause `json:"gap,omitempty"`
	Missed uint64             `json:"missed,omitempty"`
}

// The kinds of marks.
const (
	markCut     = "cut"
	markHang    = "hang"
	markDeafen  = "deafen"
	markMute    = "mute"
	markLose    = "lose"
	markPart    = "part"
	markDelay   = "delay"
	markSip     = "sip"
	markTear    = "tear"
	markRefuse  = "refuse"
	markHeal    = "heal"
	markSkew    = "skew"    // of the clock
	markStop    = "stop"    // of the broker
	markStart   = "start"   // of the broker
	markQuiet   = "quiet"   // a linger, from Start to End
	markStall   = "stall"   // the suite blocks a handler on purpose
	markRelease = "release" // and lets it go on
	// markCaughtUp: a subscription that was stalled has heard, or been told of, all that it had missed.
	markCaughtUp = "caught up"
	markOver     = "over" // the property is over; now the suite closes what is open
)

// markRecord is something that the suite did beside calling the backplane.
type markRecord struct {
	Kind  string `json:"kind"`
	Node  int    `json:"node"` // -1: all
	Sub   int    `json:"sub"`  // -1: none
	Start stamp  `json:"start"`
	End   stamp  `json:"end"`
}
