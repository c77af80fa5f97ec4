package conformance

import "strings"

// What the engine promises rests on what a transport does. So for each property there is a rule of package transport that
// was usually broken when a transport under our engine fails it, in the words of that package.
const (
	ruleNoQueue      = "Transport: it never queues without bound; frames are handed to the Sink as they are read, and the sink never blocks."
	ruleNoRetry      = "Transport: it retries nothing by itself and does not let its client library do so; only the engine's numbers can tell a repeat."
	ruleNoReconnect  = "Transport: it does not reconnect by itself; what is lost between two connections is a gap, and Sink.Down comes first."
	ruleSinkLock     = "Sink: no method is called while holding a lock that a method of the transport needs."
	ruleSinkOrder    = "Sink: for one link its methods are called in stream order, from one goroutine at a time; Frame gets the channel that was published to."
	ruleSinkFrame    = "Sink.Frame: the engine keeps data and shares it with subscribers; the transport must not touch it again."
	ruleSinkGap      = "Sink.Gap: it names the channels of which frames may be missing, or the whole link, and is called for nothing else."
	ruleSinkDown     = "Sink.Down: exactly one follows a successful Connect when the link fails by itself; it is the last call for that connection."
	ruleConnect      = "Transport.Connect: it returns when the broker has accepted every connection of the link; a new connection has no subscriptions."
	ruleConnectClean = "Transport.Connect: it ends with its context and leaves nothing behind on error."
	ruleDisconnect   = "Transport.Disconnect: it gives the connections up at once, without waiting for the broker, and unblocks the calls under way."
	ruleClose        = "Transport.Close: it disconnects all links and frees every goroutine and connection; no call of the sink after it has returned."
	rulePublish      = "Transport.Publish: it sends the frames in order on one link and returns when the fate of each is known, or when ctx ends."
	rulePublishFate  = "Transport.Publish: nil means that the broker took the frame; an error wraps ErrUnavailable and its like only for a frame that was " +
		"surely not taken, else ErrUncertain."
	rulePublishData  = "Transport.Publish: Data is opaque bytes that belong to the engine; it is neither changed nor kept after Publish has returned."
	ruleSubscribe    = "Transport.Subscribe: it returns when the broker has confirmed or refused every channel, with an error for each that was refused."
	ruleSubscribeNow = "Transport.Subscribe: whatever the broker sends on a channel from the moment of its confirmation must reach the sink."
	ruleClustered    = "Clustered.Clustered: it reports whether the server behind the link has others beside it, or may have. A subscription and then a " +
		"frame of one connection arrive at every other server in that order."
	ruleUnsubscribe = "Transport.Unsubscribe: it returns when the broker has confirmed; other channels are not touched."
	ruleLimits      = "Transport.Limits: MaxFrame, MaxChannel and ChannelByte are what the broker can carry; the engine makes frames and names that fit."
	ruleNamespace   = "Frame.Channel: it arrives with its namespace in place, is the name at the broker byte by byte, and no pattern."
)

// transportRules has the rule for a property by its id, or by its chapter ("link/") where most of a chapter rests on one.
func transportRules() map[string]string {
	return map[string]string{
		"deliver/": ruleSinkOrder,
		"deliver/once": "Transport.Subscribe: it returns when the broker has confirmed, and whatever comes from then on reaches the sink, " +
			"also what this node published. Twice: Transport retries nothing by itself.",
		"deliver/every-instance": ruleSubscribe,
		"deliver/self":           "Transport.Publish: the broker sends a frame also to the connection of the node that published it.",
		"deliver/nobody":         ruleUnsubscribe,
		"deliver/volume":         ruleNoQueue,
		"deliver/crowd":          ruleSubscribeNow,
		"order/":                 rulePublish,
		"order/after-heal":       ruleDisconnect,
		"order/interleaved":      ruleSinkOrder,
		"subscribe/":             ruleSubscribe,
		"subscribe/barrier":      ruleSubscribeNow,
		"subscribe/again":        ruleUnsubscribe,
		"subscribe/churn":        ruleSubscribeNow,
		"subscribe/crowd":        ruleClustered,
		"subscribe/newcomer":     ruleClustered,
		"subscribe/many":         "Transport.Subscribe: there may be tens of thousands of channels; they are cut into commands, several of them under way.",
		"unsubscribe/":           ruleUnsubscribe,
		"isolate/":               ruleNamespace,
		"names/":                 ruleNamespace,
		"limits/":                ruleLimits,
		"payload/":               rulePublishData,
		"payload/kept":           ruleSinkFrame,
		"payload/empty":          "Sink.Frame: every frame is handed over, however short it is.",
		"handler/":               ruleSinkLock,
		"pressure/":              ruleNoQueue,
		"pressure/instance":      ruleSinkLock,
		"race/":                  "Transport: all methods may be called concurrently, also for one link, except Connect and Disconnect of one link.",
		"ctx/":                   rulePublish,
		"ctx/deadline":           ruleDisconnect,
		"ctx/scope":              "Transport: the context of a call bounds this call, not what it made; a connection or subscription outlives it.",
		"errors/":                rulePublishFate,
		"publish/":               rulePublishFate,
		"close/":                 ruleClose,
		"close/busy":             ruleDisconnect,
		"open/":                  ruleConnectClean,
		"link/":                  ruleNoReconnect,
		"link/used":              "Transport: one that dials takes a dialer, and uses it for all its connections.",
		"link/gap-complete":      ruleSinkDown,
		"link/gap-true":          ruleSinkGap,
		"link/publish-down":      rulePublishFate,
		"link/subscribe-down":    ruleSubscribe,
		"link/unsubscribe-down":  ruleConnect,
		"link/resubscribe":       ruleConnect,
		"link/no-repeat":         ruleNoRetry,
		"link/half-open":         ruleDisconnect,
		"link/one-way":           ruleDisconnect,
		"link/torn":              ruleSinkDown,
		"link/slow":              "Sink.Frame: it is called with whole frames, however the bytes came in.",
		"link/first-words":       ruleClustered,
		"link/lost-first":        ruleClustered,
		"link/flapping":          ruleConnectClean,
		"link/state":             ruleSinkDown,
		"restart/":               ruleConnect,
		"restart/first-words":    ruleClustered,
		"restart/loud":           ruleNoReconnect,
		"clock/":                 "Config.Timeout: a single exchange is bounded by it on this machine's clock; no time of another machine is compared.",
		"clock/idle":             ruleNoReconnect,
		"model/":                 ruleSinkOrder,
		"claims/":                "Checker: an optional ability is implemented where the broker has it, and does what its comment says.",
		"members/":               ruleSubscribeNow,
		"members/death":          ruleSinkDown,
		"members/missed-goodbye": ruleSinkDown,
		"ask/":                   rulePublish,
	}
}

// withTransportRules fills in the rule of package transport for each property that does not name its own.
func withTransportRules(properties []Property) []Property {
	rules := transportRules()
	for i := range properties {
		p := &properties[i]
		if p.Transport != "" {
			continue
		}
		chapter, _, _ := strings.Cut(p.ID, "/")
		p.Transport = rules[p.ID]
		if p.Transport == "" {
			p.Transport = rules[chapter+"/"]
		}
	}
	return properties
}
