package backplane

import "time"

// Stats are counters since the node was opened, and gauges of this moment.
type Stats struct {
	// Counters.

	Published       uint64 // messages that the broker has taken
	PublishFailed   uint64 // messages that ended in an error
	FramesSent      uint64 // broker messages sent; Published / FramesSent is what coalescing gains
	FramesReceived  uint64 // broker messages received
	Delivered       uint64 // messages handed to handlers, counted for each subscription
	Gaps            uint64 // gaps told, counted for each subscription
	KnownMissed     uint64 // messages that numbers or a full queue showed to be missing, counted for each subscription
	RepeatsDropped  uint64 // messages that arrived again and were not delivered again
	Unreadable      uint64 // frames and messages that could not be decoded
	LateCalls       uint64 // calls of the transport for a link that it had given up: a fault of the transport; dropped
	Reconnects      uint64 // links connected again after a failure
	MembersLost     uint64 // members that fell silent without goodbye
	BarrierRounds   uint64 // times that all members were asked whether their server knows new subscriptions: in broker clusters only
	QuestionsAsked  uint64 // requests sent by Ask and AskAll
	QuestionsServed uint64 // requests answered by this node

	// Gauges.

	Members              int           // live nodes, this one included
	Subscriptions        int           // open subscriptions
	ChannelsWanted       int           // channels that the broker should send us
	ChannelsConfirmed    int           // channels that the broker has confirmed
	PublishQueueBytes    int           // bytes that wait to be published
	ReceiveQueueMessages int           // messages that wait for handlers
	ReceiveQueueBytes    int           // their bytes
	Counters             int           // entries in the number tables
	LastProbe            time.Duration // round trip of the newest probe that came back, on the slowest link
}
