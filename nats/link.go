package nats

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

// link is one life of the connection to a server, from a Connect to its Down, Disconnect or Close. It has one goroutine:
// receive takes what nats.go has read from the inbox; it alone calls the sink, and Down is the last thing it does
// (receive.go). The others are nats.go's: one reads the socket and fills the inbox, one flushes, and one calls notice with
// what the server complains about. All end when the socket is closed.
//
// nats.go writes to the socket with its lock held, and most of its methods need that lock. So whoever calls one here is
// bound: when its context has ended and it does not return, the connection is given up, and with the socket the lock is
// free.
type link struct {
	bus       *bus
	server    int                  // which one it is
	nc        *natsgo.Conn         // set before Start
	clustered bool                 // the same
	wire      atomic.Pointer[wire] // set when it is dialed

	inbox    chan *natsgo.Msg // all that was received, and marks; see wire for why it is never full
	received chan struct{}    // receive has ended
	stopping atomic.Bool      // nobody wants to hear what is left
	turn     chan struct{}    // holds a token for who may subscribe and unsubscribe
	views    views            // of the store's bucket

	mu     sync.Mutex                      // guards what follows
	subs   map[string]*natsgo.Subscription // by channel
	marks  map[*natsgo.Msg]func()          // what to do where a mark stands in the inbox
	rounds []*round                        // requests that the server has not answered, in the order of their begin
	newest error                           // what notice has seen last
	news   chan struct{}                   // closed, and made anew, by notice
	full   bool                            // the server has refused a subscription because there are too many

	// Of the store (jetstream.go), guarded by mu too.
	questions map[*question]struct{} // that the server has not answered
	unheard   error                  // why no answer will be heard

	// The end. The first of all that notice it decides.
	once  sync.Once
	dead  chan struct{} // closed by once; the fields below are set before
	cause error         // has a class
	told  bool          // the end was asked for: no Down
}

func newLink(b *bus, server int) *link {
	l := &link{
		bus: b, server: server,
		inbox: make(chan *natsgo.Msg, inboxSize), received: make(chan struct{}), turn: make(chan struct{}, 1),
		subs: map[string]*natsgo.Subscription{}, marks: map[*natsgo.Msg]func(){}, news: make(chan struct{}),
		dead: make(chan struct{}), views: views{turn: make(chan struct{}, 1)}, questions: map[*question]struct{}{},
	}
	l.turn <- struct{}{}
	return l
}

// Start begins to call the sink.
func (l *link) Start() { go l.receive() }

// end closes the socket, which unblocks nats.go and ends its goroutines. Only the first call counts.
func (l *link) end(cause error, told bool) {
	l.once.Do(func() {
		l.cause, l.told = cause, told
		close(l.dead)
		l.abort()
	})
}

// abort closes the socket.
func (l *link) abort() {
	if w := l.wire.Load(); w != nil {
		w.abort()
	}
}

// Stop gives the link up without a word to the sink. When it returns the sink gets no further call. The server is tried
// last the next time.
func (l *link) Stop() {
	l.stopping.Store(true)
	l.end(errGivenUp, true)
	<-l.received
	l.bus.last(l.server)
}

// GiveUp is Stop for a link that was not started.
func (l *link) GiveUp() {
	l.end(errGivenUp, true)
	l.nc.Close()
}

// receive is the goroutine that hands over what was received.
func (l *link) receive() {
	defer close(l.received)
	l.hand()
	l.nc.Close() // what has come before is in the inbox, and nothing follows
	if l.told {
		return
	}
	l.handRest()
	l.bus.sink.Down(transport.OnlyLink, l.cause)
}

// grace is how long a call may take to return when its context has ended.
const grace = 100 * time.Millisecond

// bound returns a context for one exchange with the server. The connection is given up if the caller has not called release
// soon after that ended.
func (l *link) bound(ctx context.Context) (bounded context.Context, release func()) {
	cancel := func() {}
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > l.bus.timeout {
		ctx, cancel = context.WithTimeout(ctx, l.bus.timeout)
	}
	var over atomic.Bool
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(grace, func() {
			if !over.Load() {
				l.end(errUnanswered, false)
			}
		})
	})
	return ctx, func() {
		over.Store(true)
		stop()
		cancel()
	}
}
