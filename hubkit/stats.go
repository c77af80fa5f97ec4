package hubkit

// Stats are counters since the hub was made, and gauges of this moment. They concern this instance only.
type Stats struct {
	// Counters.

	Sends            uint64 // calls of Send and SendLatest that returned nil
	SendsFailed      uint64 // those that returned an error
	Received         uint64 // messages heard from the backplane
	Delivered        uint64 // messages put into outboxes, counted for each connection
	Repeats          uint64 // copies of one send that a connection was spared
	Dropped          uint64 // messages that outboxes dropped by their policy, superseded ones included
	SlowDisconnects  uint64 // connections closed because their outbox was full
	FailedWrites     uint64 // connections closed because a write failed or missed its deadline
	Unreadable       uint64 // messages heard that this version cannot read; each is a gap
	Gaps             uint64 // causes told to OnGap
	ConnectionsTotal uint64 // connections ever made

	// Gauges.

	Connections   int // open connections
	Groups        int // groups with a member here
	Users         int // users connected here
	Subscriptions int // subscriptions held on the backplane
}
