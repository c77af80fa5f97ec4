package hubkit

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/gobackplane/backplane"
)

// Options configure a hub. Only the Name is required.
type Options struct {
	// Name is the hub's name: 1 to 64 characters of a-z 0-9 _ -. Hubs of one name on all instances are one hub.
	Name string

	// Outbox bounds what waits for one connection, and says what happens beyond; ConnectOptions.Outbox overrules it.
	Outbox OutboxOptions
	// WriteTimeout bounds one call of [Conn.Write]. The deadline may come up to a sixteenth of it later. Default 10 s.
	WriteTimeout time.Duration

	// OnGap is called when messages may have been missed: once for one cause, with the local connections concerned,
	// each once. Those connections are told by the hub too, see [Delivery.Gap]; the hook is for what the server itself
	// has to do. Calls come one at a time, from a goroutine of the hub; while one runs, connections are told of later gaps
	// nevertheless, and those of the same cause become one call.
	// The context ends when the hub closes, which waits for the hook. The slice belongs to the hook. Default none.
	OnGap func(ctx context.Context, g Gap, concerned []*Connection)
	// GapWindow is how long the hub waits for further gaps of the same cause before it tells: a reconnect hits all
	// groups, one after the other as they are restored. It tells after at most 20 windows. Default 250 ms.
	GapWindow time.Duration
	// GapSpread is the time over which the connections concerned are told, each at a random moment, so that a reconnect
	// of the broker does not make all clients fetch at once. Default 0: at once.
	GapSpread time.Duration

	// OnState is called with the backplane's health when its state changes between up, degraded and down: once for each
	// change and in order. The first call tells the state at [New]. It runs on a goroutine of the node and must not
	// block for long; [Hub.Close] does not wait for it. Never called if the backplane is no [backplane.HealthReporter]. Default none.
	OnState func(backplane.Health)

	// UserGroups keeps memberships of users in the backplane's store, for [Hub.JoinUser]: every Connect of a user then reads
	// them. Set it on all instances; New fails where there is no store, as over NATS without JetStream, or where the broker does
	// not permit its use. Where the broker cannot be reached at New it is asked later: a refusal is logged then, and the instance is
	// not ready. Default no.
	UserGroups bool
	// Resume lets clients come back with their groups, on any instance. Default off.
	Resume ResumeOptions
	// LocalWhenDown lets sends to all, to groups and to users reach the connections of this instance while the backplane
	// is down; such a send returns an error that wraps [ErrLocalOnly], or holds it for those of its targets that somebody
	// here got. It concerns only messages that the broker surely has not taken (ErrUnavailable): one whose fate is not known
	// (ErrUncertain) may still come, and is not delivered. So a connection gets one copy, as ever; but order between what
	// went through the broker and what did not is not promised, and clients elsewhere are told of nothing: they have missed
	// a message that never was on the backplane. Use it where some clients are better than none. Connect and Join
	// wait for the broker nevertheless. Default no.
	LocalWhenDown bool

	// Logger gets what an operator should know. Names of groups, users and connections are not logged. Default: silent.
	Logger *slog.Logger
}

// OutboxOptions bound the outbox of one connection. The zero value takes the hub's, and there the defaults.
type OutboxOptions struct {
	// Messages is how many messages may wait, beside those being written. Default 256.
	Messages int
	// Bytes is how many bytes of payload may wait. A single larger message is taken when nothing else waits. Default 1 MiB.
	Bytes int
	// Policy is what happens when a message does not fit. Default [Disconnect].
	Policy Policy
}

// Policy is what happens when a message does not fit into an outbox. What a policy drops is told to the connection with
// its count, see [Delivery.Missed].
type Policy uint8

// The policies.
const (
	// Disconnect closes the connection with [ReasonSlow]. A client that connects again fetches its state and is up to
	// date, which beats reading a long queue of old news.
	Disconnect Policy = iota + 1
	// DropOldest drops the messages that have waited longest until the new one fits.
	DropOldest
	// DropNewest drops the message that does not fit.
	DropNewest
	// KeepLatest lets a message that was sent with a key ([Hub.SendLatest]) take the place of a waiting one with the same
	// key, whether the outbox is full or not: the client gets the newest value, no later than it would have got
	// the old one. Where there is nothing to replace and the message does not fit, it is DropOldest.
	KeepLatest
)

// String returns "disconnect", "drop oldest", "drop newest" or "keep latest".
func (p Policy) String() string {
	switch p {
	case Disconnect:
		return "disconnect"
	case DropOldest:
		return "drop oldest"
	case DropNewest:
		return "drop newest"
	case KeepLatest:
		return "keep latest"
	default:
		return "invalid"
	}
}

// ConnectOptions describe a connection. The zero value is an anonymous connection.
type ConnectOptions struct {
	// User is the user id under which the connection is reached by [ToUsers]; "" for none. The rules are those of
	// an address's name: 1 to 1,024 bytes of valid UTF-8, case-sensitive.
	User string
	// Label is the application's own name for the connection, for people and lists; it need not be unique and is no
	// address. At most 256 bytes.
	Label string
	// Metadata is the application's own, for lists: keys and values together at most 4,096 bytes. It is copied.
	Metadata map[string]string
	// Outbox overrules the hub's, field by field.
	Outbox OutboxOptions
	// Resume is the token with which the client comes back, see [ResumeOptions]; "" for a new client. The User is the token's then:
	// where the server has found out who the client is, and sets User too, the two must be equal.
	Resume string
}

// The limits of ConnectOptions and Target.
const (
	MaxLabel    = 256  // bytes of a label
	MaxMetadata = 4096 // bytes of all keys and values
	MaxExcept   = 1000 // connection ids in an except-list
)

const (
	defaultWriteTimeout   = 10 * time.Second
	defaultGapWindow      = 250 * time.Millisecond
	defaultOutboxMessages = 256
	defaultOutboxBytes    = 1 << 20
)

// checked fills in the defaults and returns an error that wraps backplane.ErrInvalidOption where something does not fit.
func (o Options) checked() (Options, error) {
	if err := backplane.All().In(o.Name).Validate(); err != nil {
		return o, invalidOption("Name", "must be 1 to 64 characters of a-z 0-9 _ -, not %q", o.Name)
	}
	for _, d := range []struct {
		name string
		set  *time.Duration
		def  time.Duration
	}{
		{"WriteTimeout", &o.WriteTimeout, defaultWriteTimeout},
		{"GapWindow", &o.GapWindow, defaultGapWindow},
		{"GapSpread", &o.GapSpread, 0},
	} {
		if *d.set < 0 {
			return o, invalidOption(d.name, "must not be negative, not %v", *d.set)
		}
		if *d.set == 0 {
			*d.set = d.def
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if o.Resume, err = o.Resume.checked(); err != nil {
		return o, err
	}
	o.Outbox, err = o.Outbox.over(OutboxOptions{
		Messages: defaultOutboxMessages, Bytes: defaultOutboxBytes, Policy: Disconnect,
	})
	return o, err
}

// over returns o with its zero fields taken from base.
func (o OutboxOptions) over(base OutboxOptions) (OutboxOptions, error) {
	switch {
	case o.Messages < 0:
		return o, invalidOption("Outbox.Messages", "must not be negative, not %d", o.Messages)
	case o.Bytes < 0:
		return o, invalidOption("Outbox.Bytes", "must not be negative, not %d", o.Bytes)
	case o.Policy > KeepLatest:
		return o, invalidOption("Outbox.Policy", "must be Disconnect, DropOldest, DropNewest or KeepLatest, not %d", o.Policy)
	}
	if o.Messages == 0 {
		o.Messages = base.Messages
	}
	if o.Bytes == 0 {
		o.Bytes = base.Bytes
	}
	if o.Policy == 0 {
		o.Policy = base.Policy
	}
	return o, nil
}

// checked returns the limits of the connection's outbox: the hub's own value where nothing is overruled, so that idle
// connections share it.
func (o ConnectOptions) checked(hub *Options) (*OutboxOptions, error) {
	if len(o.Label) > MaxLabel {
		return nil, invalidOption("Label", "must be at most %d bytes, not %d", MaxLabel, len(o.Label))
	}
	n := 0
	for k, v := range o.Metadata {
		n += len(k) + len(v)
	}
	if n > MaxMetadata {
		return nil, invalidOption("Metadata", "must be at most %d bytes of keys and values, not %d", MaxMetadata, n)
	}
	if o.Outbox == (OutboxOptions{}) {
		return &hub.Outbox, nil
	}
	own, err := o.Outbox.over(hub.Outbox)
	return &own, err
}

func invalidOption(name, format string, args ...any) error {
	return fmt.Errorf("%w: %s %s", backplane.ErrInvalidOption, name, fmt.Sprintf(format, args...))
}
