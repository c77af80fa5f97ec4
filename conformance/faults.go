package conformance

import "time"

// Faults make one instance's link fail, for a backplane that cannot dial through [Instance.Dial]. A nil function means
// that it cannot be done, as does a fault without Heal; the properties that need it are reported as not exercised.
type Faults struct {
	// Cut breaks the link at once: connections fail, and new ones are refused until Heal.
	Cut func()
	// Hang stops all that travels, both ways and without closing anything, until Heal.
	Hang func()
	// Deafen stops what arrives at the instance, until Heal: what it sends still goes out, and no answer comes back.
	Deafen func()
	// Mute stops what the instance sends, until Heal: it still hears the others.
	Mute func()
	// Lose makes what is sent to the instance vanish, until Heal, although its link stays healthy: nothing closes, and
	// what it sends is taken and answered. No instance that dials can be done this to; it may be given beside a dialer.
	Lose func()
	// Partition cuts the server that the instance is connected to off from the others of its cluster, until Heal: what the
	// instance publishes is taken, and reaches nobody who is connected elsewhere. It is for brokers of several servers only, and
	// the servers of other instances must not be the same one.
	Partition func()
	// Heal ends what the others did, also when the instance is closed.
	Heal func()
}

// dials reports whether the instance uses the dialer that it was given.
func (n *instance) dials() bool { return n.link.Dials() > 0 }

// can reports which faults can be made.
func (n *instance) can() (cut, hang bool) {
	f := n.fault()
	return n.dials() || f.has(f.Cut), n.dials() || f.has(f.Hang)
}

func (n *instance) canDeafen() bool { f := n.fault(); return n.dials() || f.has(f.Deafen) }
func (n *instance) canMute() bool   { f := n.fault(); return n.dials() || f.has(f.Mute) }
func (n *instance) canLose() bool   { f := n.fault(); return f.has(f.Lose) }
func (n *instance) canPart() bool   { f := n.fault(); return f.has(f.Partition) }

// has reports whether a fault is given, and can be healed.
func (f Faults) has(fault func()) bool { return fault != nil && f.Heal != nil }

// cut breaks the instance's link until heal.
func (n *instance) cut() { n.hurt(markCut, n.link.Cut, n.fault().Cut) }

// hang makes the connections of this moment stop without closing; new ones work.
func (n *instance) hang() { n.hurt(markHang, n.link.Hang, n.fault().Hang) }

// deafen stops what arrives at the instance.
func (n *instance) deafen() { n.hurt(markDeafen, n.link.Deafen, n.fault().Deafen) }

// mute stops what the instance sends.
func (n *instance) mute() { n.hurt(markMute, n.link.Mute, n.fault().Mute) }

// lose makes what is sent to the instance vanish, on a healthy link.
func (n *instance) lose() {
	n.w.rec.mark(markLose, n.id, -1)
	n.fault().Lose()
}

// part cuts the instance's server off from the others.
func (n *instance) part() {
	n.w.rec.mark(markPart, n.id, -1)
	n.fault().Partition()
}

// The faults below exist only for instances that dial.

// delay makes what arrives come later by d.
func (n *instance) delay(d time.Duration) {
	n.w.rec.mark(markDelay, n.id, -1)
	n.link.Delay(d)
}

// sip lets no read and no write be larger than some bytes.
func (n *instance) sip(bytes int) {
	n.w.rec.mark(markSip, n.id, -1)
	n.link.Sip(bytes)
}

// tearAfter lets some more bytes out and breaks the connection in front of the next one, once.
func (n *instance) tearAfter(bytes int) {
	n.w.rec.mark(markTear, n.id, -1)
	n.link.TearAfter(bytes)
}

// refuse breaks the connections of this moment, and makes the next k dials fail.
func (n *instance) refuse(k int) {
	n.w.rec.mark(markRefuse, n.id, -1)
	n.link.Refuse(k)
	n.link.Reset()
}

// hurt does one of two things: to the link where the instance dials, else what was given.
func (n *instance) hurt(kind string, wire, given func()) {
	n.w.rec.mark(kind, n.id, -1)
	if given != nil && !n.dials() {
		given()
		return
	}
	wire()
}

// heal ends what the faults did. It does nothing on a healthy link.
func (n *instance) heal() {
	n.w.rec.mu.Lock()
	hurt := n.w.rec.hurt[n.id]
	n.w.rec.mu.Unlock()
	if !hurt {
		return
	}
	n.link.Heal()
	if f := n.fault(); f.Heal != nil {
		f.Heal()
	}
	n.w.rec.mark(markHeal, n.id, -1)
}

func (n *instance) fault() Faults {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.faults
}
