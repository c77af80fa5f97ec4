// Package inmem is the transport of nodes in one process: no network, no serialisation, and faults at the push of a
// button. A [Broker] joins any number of nodes:
//
//	broker := inmem.NewBroker()
//	a, err := backplane.Open(ctx, broker.Opener(), backplane.Options{})
//	b, err := backplane.Open(ctx, broker.Opener(), backplane.Options{})
//
// It is the reference for what a transport does, and what unit tests of a hub server stand on: a test cuts a node off
// with [Broker.Cut] and watches what its program does with the gap.
//
// # Delivery properties
//
// A broker has one order of all frames, like a single Redis server: every node hears its channels in that order. A
// frame is taken at one instant between call and return of Publish, and at that same instant handed to every node whose
// subscription was confirmed, on the publisher's goroutine. So without a fault nothing is queued, nothing is lost, and
// when Publish has returned every node has the frame. One broker does one thing at a time.
//
// It has a store (see [transport.Store]), which [Broker.Stop] empties.
//
// The package runs inside a testing/synctest bubble: it starts no goroutine and no timer, except while [Broker.Delay]
// holds frames back for a node.
package inmem

import (
	"fmt"
	"strings"
	"sync"

	"github.com/gobackplane/backplane/transport"
)

const (
	defaultBacklog = 64 << 20
	minMaxChannel  = 60 // what transport.Limits asks for
	letters        = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	neededBytes    = letters + "0123456789_-"
)

// Options configure a broker. The zero value works.
type Options struct {
	// Limits is what the broker says it can carry; it refuses what goes beyond. For tests of naming and sizes.
	// Default: any size, any length, any byte, delimiter ':', not shared.
	Limits transport.Limits

	// Backlog bounds what the broker holds back for one node, in bytes, while [Broker.Hang], [Broker.Deafen] or
	// [Broker.Delay] is in force. Beyond it the broker closes the connection, as Redis does with a slow client.
	// Default 64 MiB.
	Backlog int
}

// Broker joins the nodes of one process. Its methods may be called concurrently, and from inside a handler. Make one
// with [NewBroker]; it needs no closing.
//
// All methods but [Broker.Opener] cause or end faults. A fault is in force when its method returns:
// hand-overs under way have ended, and a link that it takes down was reported down. Faults of one node add up until
// [Broker.Heal]; they outlive its connections. For a node that is not on the broker nothing happens.
type Broker struct {
	options Options // constant

	// mu is held while a frame is handed to the sinks: that is what makes the order total, and what lets Disconnect
	// promise silence. It cannot deadlock: no method of a sink waits for a call of a transport.
	mu sync.Mutex
	// All below are guarded by mu.
	clients  map[transport.NodeID]*client // those not closed
	channels map[string][]*client         // who is subscribed; no empty entries
	deny     func(Request) bool           // nil denies nothing
	stopped  bool
	kept     map[string]*kept   // the store: by namespace, ':' and key
	revision transport.Revision // of the newest write to it
	stored   chan struct{}      // closed, and replaced, with every change of it
}

// NewBroker returns a broker without nodes, faults and limits.
func NewBroker() *Broker { return NewBrokerWith(Options{}) }

// NewBrokerWith returns a broker with options. Options that do not fit are reported, with an error wrapping
// [transport.ErrInvalidOption], by the opener.
func NewBrokerWith(o Options) *Broker {
	if o.Backlog == 0 {
		o.Backlog = defaultBacklog
	}
	return &Broker{
		options:  o,
		clients:  make(map[transport.NodeID]*client),
		channels: make(map[string][]*client),
		kept:     make(map[string]*kept),
		stored:   make(chan struct{}),
	}
}

// Opener returns what backplane.Open takes. It may be used for any number of nodes, which all meet on this broker.
func (b *Broker) Opener() transport.Opener {
	return func(c transport.Config) (transport.Transport, error) {
		if err := b.options.validate(); err != nil {
			return nil, err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, taken := b.clients[c.Node]; taken {
			return nil, fmt.Errorf("%w: node %q is on this broker already; ids are new for every node", transport.ErrInvalidOption, c.Node)
		}
		t := &client{broker: b, id: c.Node, namespace: c.Namespace, changed: make(chan struct{})}
		b.clients[c.Node] = t
		return t, nil
	}
}

// New returns an opener over a new broker: the nodes opened with it meet each other and nobody else. Use [NewBroker] to
// have the broker's faults at hand.
func New(o Options) transport.Opener { return NewBrokerWith(o).Opener() }

// URL is New for the URL "inmem:", the only one there is. A wrong one is reported, with an error wrapping
// [transport.ErrInvalidOption], by the opener; the error repeats nothing of the URL but an unknown parameter's name.
func URL(rawurl string) transport.Opener {
	if err := checkURL(rawurl); err != nil {
		return func(transport.Config) (transport.Transport, error) { return nil, err }
	}
	return New(Options{})
}

func checkURL(rawurl string) error {
	rawurl, query, _ := strings.Cut(rawurl, "?")
	if scheme, rest, ok := strings.Cut(rawurl, ":"); !ok || !strings.EqualFold(scheme, "inmem") || rest != "" && rest != "//" {
		return fmt.Errorf("%w: the URL of package inmem is \"inmem:\", with neither host nor path", transport.ErrInvalidOption)
	}
	if query == "" {
		return nil
	}
	name, _, hasValue := strings.Cut(query, "=")
	if !hasValue || strings.Trim(name, letters) != "" {
		name = "?" // who knows what it is
	}
	return fmt.Errorf("%w: \"inmem:\" has no parameters of its own; unknown parameter %q", transport.ErrInvalidOption, name)
}

func (o *Options) validate() error {
	l := o.Limits
	switch {
	case o.Backlog < 0:
		return fmt.Errorf("%w: Backlog is %d; write a number of bytes, or 0 for 64 MiB", transport.ErrInvalidOption, o.Backlog)
	case l.MaxFrame < 0:
		return fmt.Errorf("%w: Limits.MaxFrame is %d; write a number of bytes, or 0 for no limit", transport.ErrInvalidOption, l.MaxFrame)
	case l.MaxChannel < 0 || l.MaxChannel > 0 && l.MaxChannel < minMaxChannel:
		return fmt.Errorf("%w: Limits.MaxChannel is %d; write at least %d, or 0 for no limit", transport.ErrInvalidOption, l.MaxChannel, minMaxChannel)
	}
	if l.ChannelByte == nil {
		return nil
	}
	delimiter := l.Delimiter
	if delimiter == 0 {
		delimiter = ':'
	}
	for _, c := range []byte(neededBytes + string(rune(delimiter))) {
		if !l.ChannelByte(c) {
			return fmt.Errorf("%w: Limits.ChannelByte refuses %q; letters, digits, '_', '-' and the delimiter must be allowed", transport.ErrInvalidOption, c)
		}
	}
	return nil
}

// checkChannel refuses a name that goes beyond the limits: a node that sends one has made it wrongly.
func (o *Options) checkChannel(channel string) error {
	if limit := o.Limits.MaxChannel; limit > 0 && len(channel) > limit {
		return fmt.Errorf("%w: the channel name has %d bytes, the limit is %d", transport.ErrDenied, len(channel), limit)
	}
	if allowed := o.Limits.ChannelByte; allowed != nil {
		for i := range len(channel) {
			if !allowed(channel[i]) {
				return fmt.Errorf("%w: the channel name holds the byte %#02x, which the limits exclude", transport.ErrDenied, channel[i])
			}
		}
	}
	return nil
}
