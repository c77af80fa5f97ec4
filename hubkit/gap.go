package hubkit

import (
	"time"

	"github.com/gobackplane/backplane"
)

// Gap says that the backplane may have missed messages for some connections of this instance. It is told when what
// caused it has been repaired: what a client fetches from then on is followed by everything newer.
type Gap struct {
	Cause backplane.GapCause
	// Since is the earliest moment, on this node's clock, from which messages may be missing.
	Since time.Time
	// Missed counts the missing messages of the hub where numbers showed it; 0 means that the count is not known.
	Missed uint64
	// Groups names the groups hit. Empty means that messages of any kind may be missing: to all, to the users, to the
	// connections, or to more than 256 groups.
	Groups []string
	// Err is what caused it, where an error did. For people and logs.
	Err error
}
