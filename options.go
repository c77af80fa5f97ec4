package backplane

import (
	"log/slog"
	"time"
)

// Options configure a node. The zero value works, except that a transport whose broker is shared with other
// applications needs a Namespace. Relations between the times are checked by [Open].
type Options struct {
	// Namespace separates applications on one broker: 1 to 64 characters of a-z 0-9 _ -. Every channel name starts with
	// it and a delimiter. Required where the broker may be shared (redis, nats); default "default" for inmem.
	Namespace string
	// Label is shown to the other members, for people: a host name, say. At most 256 bytes. Default none.
	Label string

	// MaxPayload is the largest payload in bytes, 1 to 64 MiB. It must be equal on all nodes. Default 1,040,384 (1 MiB − 8 KiB).
	MaxPayload int

	// ProbeInterval is the time between two probes of a link. Default 1 s.
	ProbeInterval time.Duration
	// ProbeTimeout is how long a probe may take before its link counts as dead and is connected anew; also the bound of
	// one exchange with the broker. At least ProbeInterval. Default 3 s. A half-open link is noticed within
	// ProbeInterval + ProbeTimeout.
	ProbeTimeout time.Duration
	// Heartbeat is the time between two heartbeats of this node. Default 2 s.
	Heartbeat time.Duration
	// MemberTimeout is the silence after which a member counts as dead. At least 3 × Heartbeat. Default 8 s.
	MemberTimeout time.Duration
	// TailMark is the silence on an address after which its publisher makes its last number known. Default 2 s.
	TailMark time.Duration
	// ReconnectMin and ReconnectMax bound the jittered waits between attempts to connect. Default 50 ms and 2 s.
	ReconnectMin, ReconnectMax time.Duration

	// QueueMessages and QueueBytes bound the queue of one subscription. Default 1,024 messages and 4 MiB. Here and below a
	// single message that is larger is taken where nothing else waits.
	QueueMessages, QueueBytes int
	// ReceiveBytes bounds all receive queues of the node together. Default 256 MiB.
	ReceiveBytes int
	// PublishBytes bounds what waits to be published on one link, in bytes; then Publish blocks until its context ends. Default 4 MiB.
	PublishBytes int
	// MaxCounters bounds the number tables, in entries: addresses this node published to and fell silent on not yet
	// long enough, and publishers heard on an address. Default 262,144.
	MaxCounters int

	// WaitWhenDown makes Publish wait for the link, within its context, when the broker cannot be reached. By default it
	// fails with ErrUnavailable once an attempt to reconnect has failed.
	WaitWhenDown bool
	// RequireBroker makes Open fail when the broker cannot be reached. By default the node opens, Health says Down, and
	// it connects when the broker comes. What is wrong without asking the broker, and what the broker denies (password,
	// TLS name), makes Open fail in any case.
	RequireBroker bool

	// Logger gets what an operator should know. Default: silent. Names appear unless HashNames is set.
	Logger *slog.Logger
	// HashNames shows names of addresses as short hashes in logs and errors: group names can carry personal data.
	HashNames bool
}
