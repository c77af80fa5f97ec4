// Package lying is a transport that lies: it wraps another one, and loses, repeats, reorders, delays and spoils frames,
// confirms what it has not done, and does what it has not confirmed, at random from a seed. A [Book] holds what was lied
// about, so that a test can tell a loss that the engine had to notice from one of which nothing was left to be noticed.
//
// It tells only lies that a broker or a network can tell. One is not among them: that a frame was refused which was sent.
// A transport that says so is broken, and no engine can make up for it; it says that the fate is unknown.
package lying

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// Lie names one kind of lie.
type Lie string

// The lies about a frame that comes in, each told to one node.
const (
	Drop    Lie = "drop"    // it never arrives
	Repeat  Lie = "repeat"  // it arrives, and once more up to 10 s later
	Reorder Lie = "reorder" // it arrives after the next one of its channel, or after a second
	Delay   Lie = "delay"   // it arrives up to 5 s late, behind what came in meanwhile
	Tear    Lie = "tear"    // its end is missing
	Garble  Lie = "garble"  // other bytes arrive in its place
)

// The lies that are told with a frame that comes in, and last.
const (
	SilentLoss Lie = "silent loss" // the frame's channel is not subscribed any more; ends when it is unsubscribed or the link connected
	DeafLink   Lie = "deaf link"   // nothing comes in on the link any more; ends when it is connected
	Burst      Lie = "burst"       // nothing comes in that the frame's publisher sends, on any link; ends after at most 7 s
)

// The lies about a frame that is published. They concern all nodes.
const (
	SentUnknown Lie = "sent, unknown" // it was sent, and its fate is said to be unknown
	LostUnknown Lie = "lost, unknown" // it was not sent, and its fate is said to be unknown
	LostTaken   Lie = "lost, taken"   // it was not sent, and is said to be taken
	Refused     Lie = "refused"       // it was not sent and is said to be refused: the truth, but rare without this package
)

// The lies about subscriptions.
const (
	FalseConfirm Lie = "false confirm" // a subscribe is confirmed, and was not done
	FalseFailure Lie = "false failure" // a subscribe or unsubscribe was done, and is said to have failed
	FalseLeave   Lie = "false leave"   // an unsubscribe is confirmed, and was not done
	Slow         Lie = "slow"          // the answer to a call takes up to a second, though it could come at once; drawn for each call
)

// Odds are the probabilities of lies: for each frame, and for each channel of a subscribe or unsubscribe. What is not
// named is not told.
type Odds map[Lie]float64

// Entry is one line of a [Book].
type Entry struct {
	At      time.Time
	Node    transport.NodeID // whose transport it was
	Lie     Lie              // "" for the truth
	Out     bool             // about a frame that the node published; else about one that came in, or a subscription
	Channel string
	Data    []byte // the frame as it was published or handed over; nil for lies about subscriptions; must not be changed
	Err     error  // what the engine was told about a frame that it published
}

// Book decides the lies of all transports that it wraps, and writes down what came of every frame: each that a node
// published, each that was handed to a node, and every lie. Its methods may be called concurrently.
type Book struct {
	mu      sync.Mutex // guards what follows; taken with liar.mu held, never the other way round
	rand    *rand.Rand
	odds    Odds
	entries []Entry
	told    map[Lie]int
}

// NewBook returns a book that lies with the given odds from the first frame on. Equal seeds make equal draws; what
// they are drawn for depends on how goroutines are scheduled.
func NewBook(seed uint64, odds Odds) *Book {
	return &Book{rand: rand.New(rand.NewPCG(seed, 0)), odds: odds, told: map[Lie]int{}} //nolint:gosec // draws must be repeatable
}

// Wrap returns an opener whose transports lie.
func (b *Book) Wrap(open transport.Opener) transport.Opener {
	return func(c transport.Config) (transport.Transport, error) {
		inner, err := open(c)
		if err != nil {
			return nil, err
		}
		l := &liar{inner: inner, book: b, node: c.Node, deaf: map[transport.Link]bool{}, lost: map[string]bool{}, mute: map[wire.Publisher]time.Time{}}
		if checker, ok := inner.(transport.Checker); ok {
			return struct {
				*liar
				transport.Checker
			}{l, checker}, nil
		}
		return l, nil
	}
}

// SetOdds changes the odds from now on; nil ends all lies. What lasts (a deaf link, a subscription that is not there)
// lasts all the same, and frames that are held back still arrive.
func (b *Book) SetOdds(odds Odds) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.odds = odds
}

// Entries returns what happened so far, in order.
func (b *Book) Entries() []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.entries)
}

// Len returns how many entries there are.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.entries)
}

// Told returns how often a lie was told so far. The channel that is lost, and the link that is deaf, count once, and each
// frame that they keep from the node is a line in the book.
func (b *Book) Told(l Lie) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told[l]
}

// draw decides which of some lies is told now, "" for none.
func (b *Book) draw(of ...Lie) Lie {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.odds == nil {
		return ""
	}
	x := b.rand.Float64()
	for _, l := range of {
		if x -= b.odds[l]; x < 0 {
			b.told[l]++
			return l
		}
	}
	return ""
}

// within draws a time up to the given one.
func (b *Book) within(d time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Duration(b.rand.Int64N(int64(d)) + 1)
}

// below draws a number from 0 to n-1.
func (b *Book) below(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rand.IntN(n)
}

// write adds a line and returns its place.
func (b *Book) write(e Entry) int {
	e.At = time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, e)
	return len(b.entries) - 1
}

// answer adds to a line what the engine is told.
func (b *Book) answer(place int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[place].Err = err
}
