package conformance

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/transport"
)

// Head says what a report is about, and all that somebody needs to repeat it.
type Head struct {
	Suite     string   `json:"suite"`             // its version
	Since     string   `json:"since,omitempty"`   // the version that the run was pinned to, with [Since]
	Subject   string   `json:"subject,omitempty"` // what was put to the test, as [Subject] said
	Broker    string   `json:"broker,omitempty"`  // the broker and its version, as [Subject] said
	Go        string   `json:"go"`
	Settings  []string `json:"settings"`
	Seed      uint64   `json:"-"`         // written in hexadecimal, as it is printed and read
	Abilities []string `json:"abilities"` // what was found beyond the three verbs, sorted
}

// Subject says at the head of the report what is put to the test, "redis" for example, and over which broker,
// "redis-server 8.0.1". Either may be empty.
func Subject(name, broker string) Option {
	return func(s *settings) { s.subject, s.broker = name, broker }
}

// String tells in one line what was put to the test and how.
func (h Head) String() string {
	parts := []string{h.Subject, h.Broker, h.Go}
	parts = append(parts, h.Settings...)
	parts = append(parts, fmt.Sprintf("seed %#x", h.Seed))
	if len(h.Abilities) > 0 {
		parts = append(parts, "abilities "+strings.Join(h.Abilities, " "))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// head describes the run. Abilities are known when instances have been opened.
func (s *suite) head() Head {
	h := Head{
		Suite: Version, Since: s.since.String(), Subject: s.subject, Broker: s.broker, Go: runtime.Version(),
		Seed: s.seed, Abilities: s.found.names(),
	}
	for _, setting := range []struct {
		on   bool
		text string
	}{
		{s.short, "short"},
		{s.bubble, "in a bubble"},
		{s.strict, "strict"},
		{true, fmt.Sprintf("patience %v", s.patience)},
		{true, fmt.Sprintf("linger %v", s.linger)},
		{true, fmt.Sprintf("payloads up to %d bytes", s.largest())},
	} {
		if setting.on {
			h.Settings = append(h.Settings, setting.text)
		}
	}
	return h
}

// abilities collects what instances can beyond the contract's verbs. They are not declared anywhere: a type assertion
// finds them, and the report says which were found, so that a method that got lost does not go unnoticed.
type abilities struct {
	mu        sync.Mutex
	found     map[string]bool // guarded by mu
	transport bool            // guarded by mu; the instances are our engine over a transport, opened by [Transport]
	largest   int             // guarded by mu; the MaxPayload of the engine's options, 0 for its default
}

// look notes the abilities of an opened backplane.
func (a *abilities) look(bp backplane.Backplane) {
	for _, ability := range allAbilities() {
		a.add(string(ability), ability.of(bp))
	}
}

// under makes an opener tell the abilities of its transports. Nothing is wrapped around them: that would hide some.
func (a *abilities) under(open transport.Opener) transport.Opener {
	if a == nil || open == nil {
		return open
	}
	return func(c transport.Config) (transport.Transport, error) {
		t, err := open(c)
		if err != nil {
			return nil, err
		}
		_, checks := t.(transport.Checker)
		_, stores := t.(transport.Store)
		a.add("transport.Checker", checks)
		a.add("transport.Store", stores)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.transport = true
		return t, nil
	}
}

// takes notes the largest payload that the engine was told to take.
func (a *abilities) takes(bytes int) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.largest = bytes
}

// largest returns the largest payload, as it is known once an instance was opened.
func (s *suite) largest() int {
	s.found.mu.Lock()
	defer s.found.mu.Unlock()
	return cmp.Or(s.maxPayload, s.found.largest, defaultMaxPayload)
}

func (a *abilities) add(name string, has bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.found == nil {
		a.found = map[string]bool{}
	}
	if has {
		a.found[name] = true
	}
}

func (a *abilities) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.found))
}

func (a *abilities) overTransport() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.transport
}
