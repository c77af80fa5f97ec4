package redis

import (
	"sync"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// link is one life of the connection to the server, from a Connect to its Down, Disconnect or Close. It is a publishing
// session (publish.go) and a subscribing one, whose socket belongs to the two goroutines of the link:
//
//   - receive reads; it alone calls the sink, and Down is the last thing it does (receive.go);
//   - send writes SUBSCRIBE and UNSUBSCRIBE commands (subscribe.go).
//
// Both end when the socket is closed, and Stop waits for them. Beside them there is one goroutine for each endpoint
// while Connect asks several for their role (endpoints.go), and those of go-redis that hand it our socket.
type link struct {
	bus   *bus
	pub   *publisher
	sub   *session
	store *lines // opened when they are used

	queue    chan *command // unbuffered: what send takes is written, what it does not take was never sent
	expected chan *command // written, and not yet confirmed or refused; the server answers in order
	sent     chan struct{} // send has ended
	received chan struct{} // receive has ended

	// The end. The first of all that notice it decides.
	once  sync.Once
	dead  chan struct{} // closed by once; the fields below are set before
	cause error         // has a class
	told  bool          // the end was asked for: no Down
}

// maxExpected bounds the commands that wait for their answers, over all calls of Subscribe and Unsubscribe.
const maxExpected = 64

func newLink(b *bus, pub, sub *session) *link {
	return &link{
		bus: b, pub: newPublisher(b, pub), sub: sub, store: newLines(b, pub.addr, storing),
		queue: make(chan *command), expected: make(chan *command, maxExpected),
		sent: make(chan struct{}), received: make(chan struct{}), dead: make(chan struct{}),
	}
}

// Start begins to call the sink.
func (l *link) Start() {
	go l.send()
	go l.receive()
}

// end closes the sockets, which ends the goroutines and unblocks the calls under way. Only the first call counts.
func (l *link) end(cause error, told bool) {
	l.once.Do(func() {
		l.cause, l.told = cause, told
		close(l.dead)
		l.sub.close()
		l.pub.close()
		l.store.close()
	})
}

// Stop gives the link up without a word to the sink. When it returns the sink gets no further call, and the goroutines
// have ended.
func (l *link) Stop() {
	l.end(errGivenUp, true)
	<-l.received
}

// GiveUp is Stop for a link that was not started.
func (l *link) GiveUp() { l.end(errGivenUp, true) }

// receive is the goroutine that reads.
func (l *link) receive() {
	defer close(l.received)
	err := l.sub.sock.SetDeadline(time.Time{}) // an idle link may be silent for ever; the login had a deadline
	if err == nil {
		err = l.read()
	}
	l.end(classed(err, "the subscribing connection failed"), false)
	<-l.sent
	if !l.told {
		l.bus.sink.Down(transport.OnlyLink, l.cause)
	}
}
