package hubkit

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gobackplane/backplane"
)

// Health is what a hub knows of itself and of its backplane, for dashboards and on-call people. It holds counts, times
// and ids of nodes; names of groups and users, texts of errors and secrets are not in it. Its JSON is what
// [Hub.HealthHandler] serves.
type Health struct {
	Hub   string `json:"hub"`
	State string `json:"state"` // "running", "draining" or "closed"

	Backplane BackplaneHealth `json:"backplane"`

	Connections   int          `json:"connections"`   // open here
	Groups        int          `json:"groups"`        // with a member here
	Users         int          `json:"users"`         // connected here
	Subscriptions int          `json:"subscriptions"` // the hub's, on the backplane
	Outboxes      OutboxHealth `json:"outboxes"`

	// StoreRefused: the broker has no store, or does not permit its use, and [Options.UserGroups] needs it. The log says what helps.
	StoreRefused bool `json:"storeRefused,omitempty"`

	Drain *DrainProgress `json:"drain,omitempty"` // nil until Drain

	Gaps    uint64 `json:"gaps"`    // causes of gaps told, since the hub was made
	Dropped uint64 `json:"dropped"` // messages that outboxes dropped by their policy
	Slow    uint64 `json:"slow"`    // connections closed because their outbox was full
}

// OutboxHealth says what waits for this instance's connections.
type OutboxHealth struct {
	Waiting  int `json:"waiting"`  // connections for which something waits
	Messages int `json:"messages"` // that wait, in all of them
	Bytes    int `json:"bytes"`    // their payloads
	Deepest  int `json:"deepest"`  // messages that wait for one connection, at most
}

// BackplaneHealth is what the backplane says of itself, as far as it can: [backplane.Node] can all of it.
type BackplaneHealth struct {
	Node   backplane.NodeID `json:"node,omitempty"`
	State  string           `json:"state"` // "up", "degraded", "down"; "unknown" if it cannot say
	Since  *time.Time       `json:"since,omitempty"`
	Causes []HealthCause    `json:"causes,omitempty"` // why it is not up

	// LastProbeSeconds is the round trip of the newest probe that came back, on the slowest link.
	LastProbeSeconds float64 `json:"lastProbeSeconds,omitempty"`
	Members          int     `json:"members,omitempty"` // live nodes, this one included

	ChannelsWanted       int    `json:"channelsWanted"`    // subscriptions that should be in force
	ChannelsConfirmed    int    `json:"channelsConfirmed"` // those that the broker has confirmed
	PublishQueueBytes    int    `json:"publishQueueBytes"`
	ReceiveQueueMessages int    `json:"receiveQueueMessages"`
	ReceiveQueueBytes    int    `json:"receiveQueueBytes"`
	Gaps                 uint64 `json:"gaps"` // told, counted for each subscription
	KnownMissed          uint64 `json:"knownMissed"`
	Reconnects           uint64 `json:"reconnects"`
	MembersLost          uint64 `json:"membersLost"`
}

// HealthCause is a [backplane.Cause] without the text of its error, which is for logs.
type HealthCause struct {
	Kind backplane.CauseKind `json:"kind"`
	Node backplane.NodeID    `json:"node,omitempty"` // the member concerned, if one is
	Link int                 `json:"link"`           // the link concerned, where the kind has one
}

// statsReporter is the optional ability to give counters. [backplane.Node] has it.
type statsReporter interface {
	Stats() backplane.Stats
}

// Health returns how the hub and its backplane are now. It asks nobody, but looks at every connection's outbox: once a
// second is fine. It may be called after Close.
func (h *Hub) Health() Health {
	s := h.Stats()
	health := Health{
		Hub: h.name, State: h.state(), Backplane: h.backplaneHealth(),
		Connections: s.Connections, Groups: s.Groups, Users: s.Users, Subscriptions: s.Subscriptions,
		Outboxes: h.outboxes(), StoreRefused: h.storeRefused.Load(),
		Gaps: s.Gaps, Dropped: s.Dropped, Slow: s.SlowDisconnects,
	}
	if p, ok := h.DrainProgress(); ok {
		health.Drain = &p
	}
	return health
}

// The states of a hub.
const (
	stateRunning  = "running"
	stateDraining = "draining"
	stateClosed   = "closed"
)

func (h *Hub) state() string {
	switch {
	case h.closing.Err() != nil:
		return stateClosed
	case h.Draining():
		return stateDraining
	default:
		return stateRunning
	}
}

// backplaneState returns 0 if the backplane cannot say.
func (h *Hub) backplaneState() backplane.State {
	if reporter, ok := h.bp.(backplane.HealthReporter); ok {
		return reporter.Health().State
	}
	return 0
}

func (h *Hub) backplaneHealth() BackplaneHealth {
	b := BackplaneHealth{State: "unknown"}
	if cluster, ok := h.bp.(backplane.Cluster); ok {
		b.Node, b.Members = cluster.ID(), len(cluster.Members())
	}
	if reporter, ok := h.bp.(backplane.HealthReporter); ok {
		health := reporter.Health()
		b.State, b.Since, b.LastProbeSeconds = health.State.String(), &health.Since, health.LastProbe.Seconds()
		for _, c := range health.Causes {
			b.Causes = append(b.Causes, HealthCause{Kind: c.Kind, Node: c.Node, Link: c.Link})
		}
	}
	if reporter, ok := h.bp.(statsReporter); ok {
		s := reporter.Stats()
		b.ChannelsWanted, b.ChannelsConfirmed = s.ChannelsWanted, s.ChannelsConfirmed
		b.PublishQueueBytes = s.PublishQueueBytes
		b.ReceiveQueueMessages, b.ReceiveQueueBytes = s.ReceiveQueueMessages, s.ReceiveQueueBytes
		b.Gaps, b.KnownMissed, b.Reconnects, b.MembersLost = s.Gaps, s.KnownMissed, s.Reconnects, s.MembersLost
	}
	return b
}

// outboxes counts what waits.
func (h *Hub) outboxes() (o OutboxHealth) {
	h.connections.each(func(c *Connection) {
		c.out.mu.Lock()
		messages, bytes, waits := c.out.n, c.out.bytes, c.out.waits()
		c.out.mu.Unlock()
		if !waits {
			return
		}
		o.Waiting++
		o.Messages += messages
		o.Bytes += bytes
		o.Deepest = max(o.Deepest, messages)
	})
	return o
}

// LiveHandler answers 200 as long as the process serves HTTP: for a liveness probe. It looks at no hub and at no
// backplane, because a restart repairs neither, and costs all clients their connection.
func LiveHandler() http.Handler {
	return probe(func() string { return "" })
}

// ReadyOptions say when an instance should get new clients. The zero value is right for most: a broker that is down is
// down for all instances, and to take them all out of the balancer turns missing messages into a missing service.
type ReadyOptions struct {
	// NotReadyWhenDown makes an instance whose backplane is down not ready. Where the broker fails for one
	// instance only, its clients then go elsewhere; where it fails for all, none can connect.
	NotReadyWhenDown bool
	// NotReadyWhenDegraded is the same for one that is degraded or down. A member that is late makes all others degraded.
	NotReadyWhenDegraded bool
	// ReadyWhileDraining leaves an instance ready that [Hub.Drain] empties, although Connect refuses new clients: for
	// a balancer that cuts the present ones off when an instance is not ready.
	ReadyWhileDraining bool
}

// ReadyHandler answers 200 while this instance should get new clients, and else 503 with the reason as text: for a
// readiness probe or a load balancer's check. A hub that drains or was closed is not ready, nor is one without the store that
// [Options.UserGroups] needs. The backplane's state counts only as far as the options say; one that cannot tell its state counts as up.
func (h *Hub) ReadyHandler(o ReadyOptions) http.Handler {
	return probe(func() string { return h.notReady(o) })
}

// notReady returns why the instance is not ready, "" if it is.
func (h *Hub) notReady(o ReadyOptions) string {
	if state := h.state(); state == stateClosed || state == stateDraining && !o.ReadyWhileDraining {
		return "the hub is " + state
	}
	if h.storeRefused.Load() {
		return "the broker's store, which UserGroups needs, does not serve: the log says why"
	}
	if !o.NotReadyWhenDown && !o.NotReadyWhenDegraded {
		return ""
	}
	switch state := h.backplaneState(); {
	case state == backplane.Down, state == backplane.Degraded && o.NotReadyWhenDegraded:
		return "the backplane is " + state.String()
	default:
		return ""
	}
}

// HealthHandler serves [Hub.Health] as JSON, always with 200: what it says is for people and dashboards, not for probes.
// It tells how the system is built and loaded: keep it inside.
func (h *Hub) HealthHandler() http.Handler {
	return readOnly(func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(h.Health()) // whoever asked has gone
	})
}

// probe answers 200, or 503 where there is a reason.
func probe(whyNot func() string) http.Handler {
	return readOnly(func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		reason := whyNot()
		if reason == "" {
			_, _ = w.Write([]byte("ok\n"))
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(reason + "\n"))
	})
}

// readOnly answers GET and HEAD, with what nobody may keep.
func readOnly(answer func(http.ResponseWriter)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		answer(w)
	})
}
