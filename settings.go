package backplane

import (
	"fmt"
	"log/slog"
	"math"
	"time"
	"unicode/utf8"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

const (
	defaultNamespace  = "default" // where the broker is nobody else's
	defaultMaxPayload = 1<<20 - 8<<10
	largestMaxPayload = 64 << 20
	maxLabel          = 256

	// frameRoom is what a frame needs beside the payload: header, the longest address, and room for fields.
	frameRoom = 4 << 10
	// minChannel is the shortest limit on channel names that a transport may have: a namespace of 31 bytes, and a hash.
	minChannel = 60
)

// withDefaults fills in the defaults and checks every setting. It performs no I/O.
func (o Options) withDefaults(l transport.Limits) (Options, error) {
	if o.Namespace == "" {
		if l.Shared {
			return o, badOption("Namespace is required: the broker may be shared with other applications; " +
				"set 1 to 64 characters of a-z 0-9 _ -, here or as namespace=NAME in a URL")
		}
		o.Namespace = defaultNamespace
	}
	if !plainName(o.Namespace) {
		return o, badOption("Namespace must be 1 to 64 characters of a-z 0-9 _ -")
	}
	if len(o.Label) > maxLabel || !utf8.ValidString(o.Label) {
		return o, badOption("Label must be valid UTF-8 of at most %d bytes", maxLabel)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}

	for _, f := range []struct {
		name     string
		v        *time.Duration
		standard time.Duration
	}{
		{"ProbeInterval", &o.ProbeInterval, time.Second},
		{"ProbeTimeout", &o.ProbeTimeout, 3 * time.Second},
		{"Heartbeat", &o.Heartbeat, 2 * time.Second},
		{"MemberTimeout", &o.MemberTimeout, 8 * time.Second},
		{"TailMark", &o.TailMark, 2 * time.Second},
		{"ReconnectMin", &o.ReconnectMin, 50 * time.Millisecond},
		{"ReconnectMax", &o.ReconnectMax, 2 * time.Second},
	} {
		if *f.v == 0 {
			*f.v = f.standard
		}
		if *f.v < time.Millisecond || *f.v > time.Hour {
			return o, badOption("%s is %v; it must be between 1ms and 1h", f.name, *f.v)
		}
	}
	for _, f := range []struct {
		name            string
		v               *int
		standard        int
		lowest, highest int
	}{
		{"MaxPayload", &o.MaxPayload, defaultMaxPayload, 1, largestMaxPayload},
		{"QueueMessages", &o.QueueMessages, 1024, 1, 1 << 24},
		{"QueueBytes", &o.QueueBytes, 4 << 20, 1, math.MaxInt32},
		{"ReceiveBytes", &o.ReceiveBytes, 256 << 20, 1, math.MaxInt},
		{"PublishBytes", &o.PublishBytes, 4 << 20, 1, math.MaxInt32},
		{"MaxCounters", &o.MaxCounters, 262_144, 16, 1 << 30},
	} {
		if *f.v == 0 {
			*f.v = f.standard
		}
		if *f.v < f.lowest || *f.v > f.highest {
			return o, badOption("%s is %d; it must be between %d and %d", f.name, *f.v, f.lowest, f.highest)
		}
	}

	switch {
	case o.ProbeTimeout < o.ProbeInterval:
		return o, badOption("ProbeTimeout (%v) must be at least ProbeInterval (%v)", o.ProbeTimeout, o.ProbeInterval)
	case o.MemberTimeout < 3*o.Heartbeat:
		return o, badOption("MemberTimeout (%v) must be at least three times Heartbeat (%v), or one lost heartbeat counts as a death",
			o.MemberTimeout, o.Heartbeat)
	case o.ReconnectMax < o.ReconnectMin:
		return o, badOption("ReconnectMax (%v) must be at least ReconnectMin (%v)", o.ReconnectMax, o.ReconnectMin)
	case l.MaxFrame > 0 && o.MaxPayload+frameRoom > l.MaxFrame:
		return o, badOption("MaxPayload is %d bytes, but the broker carries frames of at most %d bytes, of which a frame needs %d for itself; "+
			"set MaxPayload to at most %d, on all nodes, or raise the broker's limit",
			o.MaxPayload, l.MaxFrame, frameRoom, l.MaxFrame-frameRoom)
	case l.Delimiter == '@' || plainName(string(rune(l.Delimiter))): // two addresses could have one channel
		return o, badOption("the transport's delimiter %q can stand in a namespace or a scope, or is '@'", l.Delimiter)
	case l.MaxChannel > 0 && l.MaxChannel < minChannel:
		return o, badOption("the transport allows channel names of %d bytes; at least %d are needed", l.MaxChannel, minChannel)
	case l.MaxChannel > 0 && len(o.Namespace)+1+hashedName > l.MaxChannel:
		return o, badOption("Namespace is %d bytes long, but the transport allows channel names of %d bytes, of which %d are needed",
			len(o.Namespace), l.MaxChannel, 1+hashedName)
	}
	return o, nil
}

// settings are what members must agree on, because a difference could lose messages.
type settings struct {
	wireMin, wireMax uint64
	maxPayload       uint64
	heartbeat        time.Duration
	memberTimeout    time.Duration
	tailMark         time.Duration
}

func (o Options) settings() settings {
	return settings{
		wireMin: wire.Version, wireMax: wire.Version,
		maxPayload: uint64(o.MaxPayload), //nolint:gosec // checked to be positive
		heartbeat:  o.Heartbeat, memberTimeout: o.MemberTimeout, tailMark: o.TailMark,
	}
}

// disagree tells in what the other's settings could lose messages, nil if in nothing.
func (s settings) disagree(other settings) error {
	switch {
	case other.wireMax < s.wireMin || s.wireMax < other.wireMin:
		return fmt.Errorf("wire versions %d-%d and %d-%d have none in common", s.wireMin, s.wireMax, other.wireMin, other.wireMax)
	case other.maxPayload != s.maxPayload:
		return fmt.Errorf("MaxPayload is %d here and %d there", s.maxPayload, other.maxPayload)
	case 3*other.heartbeat > s.memberTimeout:
		return fmt.Errorf("Heartbeat there is %v, MemberTimeout here is %v; it must be at least three times as long", other.heartbeat, s.memberTimeout)
	case 3*s.heartbeat > other.memberTimeout:
		return fmt.Errorf("Heartbeat here is %v, MemberTimeout there is %v; it must be at least three times as long", s.heartbeat, other.memberTimeout)
	}
	return nil
}

func badOption(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalidOption}, args...)...)
}
