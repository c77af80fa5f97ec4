package conformance

import (
	"errors"
	"slices"
	"strings"
)

// Version is the version of the suite. It grows when properties are added or become stricter.
const Version = "v1"

// Need tells what a property needs beyond the three verbs of the contract.
type Need uint8

// The needs, which are bits.
const (
	// NeedLink is a way to make an instance's link fail: the instance dials through [Instance.Dial], or [Inject] is given.
	NeedLink Need = 1 << iota
	// NeedTime marks a property that takes seconds; [Short] leaves it out.
	NeedTime
	// NeedChild marks a property that ends the process when it holds, and so runs in a child process. See [Child].
	NeedChild
	// NeedRestart is a way to stop and start the broker: [Broker] is given.
	NeedRestart
	// NeedWire is a connection that can be slowed down and torn: the instance dials through [Instance.Dial].
	NeedWire
)

// String tells the needs in words.
func (n Need) String() string {
	var words []string
	for _, need := range []struct {
		bit  Need
		word string
	}{
		{NeedLink, "a link that can be made to fail"},
		{NeedWire, "connections that can be slowed down and torn"},
		{NeedRestart, "a broker that can be restarted"},
		{NeedChild, "a process of its own"},
		{NeedTime, "seconds"},
	} {
		if n&need.bit != 0 {
			words = append(words, need.word)
		}
	}
	return strings.Join(words, ", ")
}

// Property is one promise of the contract and the way to prove it.
type Property struct {
	ID    string // stable: the subtest's name, "order/per-publisher"
	Says  string // the promise, one sentence
	Why   string // what breaks in a hub server without it
	Often string // the usual causes of a failure
	// Transport is the rule of package transport that is usually broken when a transport under our engine fails.
	Transport string
	Needs     Need
	Since     string // the version of the suite that has it first
	// Ability is what the promise is about beyond the three verbs; "" for none. Where a backplane does not have it, the
	// property is not claimed.
	Ability Ability

	// run is the schedule: what is opened, subscribed, published, cut and closed. Everything that happens is recorded,
	// and the rules judge the record afterwards; run itself only fails for what the rules cannot know, with world.fatalf.
	run   func(w *world)
	about []string // the rules that this promise is about; a violation of another one is reported as what it is
	// ended judges what became of the child process of a property with NeedChild, in which run ran.
	ended func(e ending) error
}

// Properties returns all properties, in the order of the contract's chapters.
func Properties() []Property {
	return withTransportRules(slices.Concat(
		deliveryProperties(),
		orderProperties(),
		subscribingProperties(),
		joiningProperties(),
		unsubscribingProperties(),
		isolationProperties(),
		namesProperties(),
		payloadProperties(),
		handlerProperties(),
		pressureProperties(),
		raceProperties(),
		contextProperties(),
		errorProperties(),
		closingProperties(),
		claimProperties(),
		askingProperties(),
		linkProperties(),
		aroundProperties(),
		impairedProperties(),
		lostProperties(),
		sinceProperties(),
		returningProperties(),
		restartProperties(),
		clockProperties(),
		modelProperties(),
	))
}

var errNoProperty = errors.New("no such property")

// find returns the property with an id.
func find(id string) (Property, error) {
	for _, p := range Properties() {
		if p.ID == id {
			return p, nil
		}
	}
	return Property{}, errNoProperty
}
