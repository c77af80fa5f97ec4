package hubtest

import (
	"fmt"
	"slices"
	"strings"
)

// payloads returns what the client heard, and whether it was told of a gap.
func (c *client) payloads() (payloads []string, gap bool) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for _, d := range c.heard {
		if d.Payload != nil {
			payloads = append(payloads, string(d.Payload))
		}
		gap = gap || d.Gap != ""
	}
	return payloads, gap
}

// got checks all that the client heard so far, in any order. It is for after a fence. What a gap covers may be missing.
func (c *client) got(want ...string) {
	have, gap := c.payloads()
	want = slices.Clone(want)
	slices.Sort(have)
	slices.Sort(want)
	c.compare(have, want, gap)
}

// gotInOrder is got where the order is promised.
func (c *client) gotInOrder(want ...string) {
	have, gap := c.payloads()
	c.compare(have, want, gap)
}

// gotSomeOf checks that the client heard nothing else, and nothing twice.
func (c *client) gotSomeOf(want ...string) {
	have, _ := c.payloads()
	slices.Sort(have)
	want = slices.Clone(want)
	slices.Sort(want)
	if !isPart(have, want) {
		c.w.failf([]*client{c}, "%s got %s, and it should be a part of %s, each once", c.name, list(have), list(want))
	}
}

// has checks how often the client heard one payload.
func (c *client) has(payload string, times int) {
	have, gap := c.payloads()
	n := 0
	for _, p := range have {
		if p == payload {
			n++
		}
	}
	if n > times || n < times && !gap {
		c.w.failf([]*client{c}, "%s got %s %d times, and it should be %d", c.name, shown(payload), n, times)
	}
}

// hasSince checks how often the client heard one payload, where earlier losses are no excuse.
func (c *client) hasSince(payload string, times int) {
	have, _ := c.payloads()
	if n := len(slices.DeleteFunc(have, func(p string) bool { return p != payload })); n != times {
		c.w.failf([]*client{c}, "%s got %s %d times, and it should be %d", c.name, shown(payload), n, times)
	}
}

// hears waits until the client hears a payload.
func (c *client) hears(payload string) { c.hearsTimes(payload, 1) }

// hearsTimes waits until the client has heard a payload some times.
func (c *client) hearsTimes(payload string, times int) {
	c.w.await([]*client{c}, c.name+" to hear "+shown(payload), func() bool {
		n := 0
		for _, d := range c.heard {
			if string(d.Payload) == payload {
				n++
			}
		}
		return n >= times
	})
}

// isWrittenTo waits until a write is stuck.
func (c *client) isWrittenTo() {
	c.w.await([]*client{c}, "a write to "+c.name, func() bool { return c.blocked > 0 })
}

// reads waits until the client has heard anything.
func (c *client) reads() {
	c.w.await([]*client{c}, c.name+" to hear what waits", func() bool { return len(c.heard) > 0 })
}

// deliveries returns all that was told to the client.
func (c *client) deliveries() []Delivery {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return slices.Clone(c.heard)
}

// gotAtLeast checks that the client heard everything, whatever else.
func (c *client) gotAtLeast(want ...string) {
	have, gap := c.payloads()
	slices.Sort(have)
	want = slices.Clone(want)
	slices.Sort(want)
	if !gap && !isPart(want, have) {
		c.w.failf([]*client{c}, "%s got %s, and it should be %s at least", c.name, list(have), list(want))
	}
}

func (c *client) compare(have, want []string, gap bool) {
	if slices.Equal(have, want) || gap && isPart(have, want) {
		return
	}
	c.w.failf([]*client{c}, "%s got %s, and it should be %s", c.name, list(have), list(want))
}

// isPart reports whether part is what is left of all when some are taken out.
func isPart(part, all []string) bool {
	for _, p := range part {
		i := slices.Index(all, p)
		if i < 0 {
			return false
		}
		all = all[i+1:]
	}
	return true
}

// list shows payloads; one that comes several times in a row is shown once, and counted.
func list(payloads []string) string {
	const most = 8
	if len(payloads) == 0 {
		return "nothing"
	}
	var out []string
	for rest := payloads; len(rest) > 0; {
		if len(out) == most {
			out = append(out, fmt.Sprintf("… %d in all", len(payloads)))
			break
		}
		times := slices.IndexFunc(rest, func(p string) bool { return p != rest[0] })
		if times < 0 {
			times = len(rest)
		}
		one := shown(rest[0])
		if times > 1 {
			one = fmt.Sprintf("%s (%d times)", one, times)
		}
		out, rest = append(out, one), rest[times:]
	}
	return strings.Join(out, " ")
}
