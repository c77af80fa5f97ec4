package backplane

import (
	"sync/atomic"
	"time"
)

// stats are the counters behind Stats.
type stats struct {
	published, publishFailed         atomic.Uint64
	framesSent, framesReceived       atomic.Uint64
	delivered, gaps, knownMissed     atomic.Uint64
	repeatsDropped, unreadable       atomic.Uint64
	reconnects, membersLost          atomic.Uint64
	barrierRounds                    atomic.Uint64
	lateCalls                        atomic.Uint64 // see sink.link
	questionsAsked, questionsServed  atomic.Uint64
	receiveMessages, receiveBytes    atomic.Int64
	subscriptions, receivingCounters atomic.Int64
}

// Stats returns the node's counters and gauges. It is cheap enough to be called each second, and may be called after Close.
func (n *Node) Stats() Stats {
	s := Stats{
		Published:       n.stats.published.Load(),
		PublishFailed:   n.stats.publishFailed.Load(),
		FramesSent:      n.stats.framesSent.Load(),
		FramesReceived:  n.stats.framesReceived.Load(),
		Delivered:       n.stats.delivered.Load(),
		Gaps:            n.stats.gaps.Load(),
		KnownMissed:     n.stats.knownMissed.Load(),
		RepeatsDropped:  n.stats.repeatsDropped.Load(),
		Unreadable:      n.stats.unreadable.Load(),
		LateCalls:       n.stats.lateCalls.Load(),
		Reconnects:      n.stats.reconnects.Load(),
		MembersLost:     n.stats.membersLost.Load(),
		BarrierRounds:   n.stats.barrierRounds.Load(),
		QuestionsAsked:  n.stats.questionsAsked.Load(),
		QuestionsServed: n.stats.questionsServed.Load(),

		Members:              len(n.Members()),
		Subscriptions:        int(n.stats.subscriptions.Load()),
		ReceiveQueueMessages: int(n.stats.receiveMessages.Load()),
		ReceiveQueueBytes:    int(n.stats.receiveBytes.Load()),
		Counters:             int(n.stats.receivingCounters.Load()) + n.outlets.count(),
	}
	s.ChannelsWanted, s.ChannelsConfirmed = n.interests.count()
	for _, l := range n.allLinks() {
		s.PublishQueueBytes += l.lane.queued()
		if rtt := time.Duration(l.lastProbe.Load()); rtt > s.LastProbe {
			s.LastProbe = rtt
		}
	}
	return s
}
