package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

const (
	// requestTimeout bounds what a client's request has to wait for: the broker's answer, mostly.
	requestTimeout = 5 * time.Second
	// pingInterval is shorter than what a balancer bears of silence, see nginx.conf. Who does not answer within another
	// one is gone: their network went away without a word.
	pingInterval = 30 * time.Second
	// drainOver is the time over which an instance that stops sends its clients elsewhere; docs/deploy.md has what fits
	// for more than a dozen. drainTimeout is for those to whom something is still to be written.
	drainOver, drainTimeout = 500 * time.Millisecond, 2 * time.Second
	// healthAge is how old the health may be that a client gets: to find it out looks at every connection.
	healthAge = time.Second
)

// instance is a hub server over one node: what runs three times behind the balancer.
type instance struct {
	name   string
	desc   description
	node   *backplane.Node
	hub    *hubkit.Hub
	log    *slog.Logger
	server *server
	url    string

	mu       sync.Mutex
	state    backplane.State                 // guarded by mu
	clients  map[*hubkit.Connection]struct{} // guarded by mu; who is told of a change of state
	health   hubkit.Health                   // guarded by mu; as it was at healthAt
	healthAt time.Time                       // guarded by mu
}

// description is what the page shows of where it is connected to.
type description struct {
	backplane string
	other     string
}

func newInstance(name string, d description, node *backplane.Node, key []byte, log *slog.Logger) (*instance, error) {
	in := &instance{name: name, desc: d, node: node, log: log, state: node.Health().State, clients: make(map[*hubkit.Connection]struct{})}
	hub, err := hubkit.New(node, hubkit.Options{
		Name:    "ward",
		OnState: in.stateChanged,
		OnGap: func(_ context.Context, g hubkit.Gap, concerned []*hubkit.Connection) {
			// The clients concerned are told by socket.Write. What the instance itself holds would be fetched anew here.
			log.Warn("alerts may have been missed", "cause", g.Cause, "clients", len(concerned))
		},
		// A client that comes back, to whatever instance, is in its wards again before it hears anything.
		Resume: hubkit.ResumeOptions{
			Keys:     []hubkit.ResumeKey{{ID: "wardboard", Secret: key}},
			MaxToken: maxToken,
			// A real server asks here whether the nurse may still see these wards.
			Restore: func(_ context.Context, r hubkit.Resumption) ([]string, error) { return r.Groups, nil },
		},
		Logger: log,
	})
	if err != nil {
		return nil, err
	}
	in.hub = hub
	return in, nil
}

// serve takes requests from now on.
func (in *instance) serve(l net.Listener) {
	mux := http.NewServeMux()
	mux.Handle("GET /", pageHandler())
	mux.HandleFunc("GET /ws", in.serveSocket)
	mux.HandleFunc("GET /who", in.serveWho)
	mux.Handle("POST /disconnect", http.NewCrossOriginProtection().Handler(http.HandlerFunc(in.serveDisconnect)))
	// For probes and dashboards; a balancer keeps them inside.
	mux.Handle("GET /healthz/live", hubkit.LiveHandler())
	mux.Handle("GET /healthz/ready", in.hub.ReadyHandler(hubkit.ReadyOptions{}))
	mux.Handle("GET /healthz", in.hub.HealthHandler())
	in.url = "http://" + l.Addr().String()
	in.server = serveOn(l, mux)
}

// close sends the clients elsewhere while it still answers, takes no more requests, closes the WebSockets that are left, waits
// for what served them, and leaves the backplane. The order matters: each step needs what the next one takes away.
func (in *instance) close(ctx context.Context) error {
	draining, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	_, _ = in.hub.Drain(draining, hubkit.DrainOptions{Over: drainOver}) // who did not go is closed by the next lines
	in.server.stop(ctx)
	err := in.hub.Close(ctx)
	in.server.end()
	return errors.Join(err, in.node.Close(ctx))
}

// serveSocket is the life of one client's connection.
func (in *instance) serveSocket(w http.ResponseWriter, r *http.Request) {
	// A real server finds out here who the client is, from its session, before it accepts. The name in the query is
	// good enough for a picture.
	nurse := r.URL.Query().Get("nurse")
	if len(nurse) > maxName {
		http.Error(w, "the nurse's name is too long", http.StatusBadRequest)
		return
	}
	// As long as the request is no WebSocket a balancer can take it to another instance.
	if in.hub.Draining() {
		http.Error(w, "this instance stops; connect to another one", http.StatusServiceUnavailable)
		return
	}
	// Accept refuses the pages of other sites: the Origin header must name this host. Keep it so, or list the hosts of
	// your pages in OriginPatterns; without that any site can open sockets with the cookies of its visitors.
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	ws.SetReadLimit(maxMessage)

	// The request's context means nothing once the connection is a WebSocket. The hub closes the socket when it closes,
	// and with that ends the reading below.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	c, err := in.connect(ctx, ws, nurse)
	if errors.Is(err, errNoHello) {
		_ = ws.Close(websocket.StatusProtocolError, err.Error()) // the client may be gone
		return
	}
	if err != nil {
		_ = ws.Close(websocket.StatusTryAgainLater, "the backplane cannot be reached") // the client is gone if this fails
		return
	}
	var pinging sync.WaitGroup
	pinging.Go(func() { ping(ctx, ws, pingInterval) })
	defer pinging.Wait()
	in.read(ctx, ws, c)
	cancel()
	in.forget(c)
	c.Disconnect(hubkit.Reason{})
	<-c.Done() // nobody touches the socket after this function has returned
}

var errNoHello = errors.New("the first message must be a hello")

// connect makes a connection of a WebSocket, when the client has said hello. A token is better there than in the query, which
// ends up in the logs of balancers.
func (in *instance) connect(ctx context.Context, ws *websocket.Conn, nurse string) (*hubkit.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, data, err := ws.Read(ctx)
	if err != nil {
		return nil, errNoHello
	}
	hello, err := parseRequest(data)
	if err != nil || hello.Type != typeHello {
		return nil, errNoHello
	}
	o := hubkit.ConnectOptions{Label: nurse, Resume: hello.Resume}
	c, err := in.hub.Connect(ctx, socket{ws}, o)
	if errors.Is(err, hubkit.ErrResume) {
		o.Resume = "" // who cannot come back is a new client, in no ward
		c, err = in.hub.Connect(ctx, socket{ws}, o)
	}
	return c, err
}

// ping keeps a silent socket from being cut, and finds those whose other end is gone. It ends with ctx.
func ping(ctx context.Context, ws *websocket.Conn, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		answer, cancel := context.WithTimeout(ctx, interval)
		err := ws.Ping(answer)
		cancel()
		if err != nil {
			_ = ws.CloseNow() // it ends the reading, which is all that matters
			return
		}
	}
}

// read answers a client's requests until its socket is closed, by whichever side.
func (in *instance) read(ctx context.Context, ws *websocket.Conn, c *hubkit.Connection) {
	in.welcome(c)
	for {
		kind, data, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			in.reply(c, event{Type: typeError, Text: "messages are text, not binary"})
			continue
		}
		req, err := parseRequest(data)
		if err != nil {
			in.reply(c, event{Type: typeError, Text: err.Error()})
			continue
		}
		in.handle(ctx, c, req)
	}
}

// handle does what a valid request asks for. The next one of this client is read when it is done.
func (in *instance) handle(ctx context.Context, c *hubkit.Connection, req request) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var err error
	switch req.Type {
	case typeHello:
		in.reply(c, event{Type: typeError, Text: "hello is the first message, and only that"})
	case typeJoin:
		if len(c.Groups()) >= maxWards {
			in.reply(c, event{Type: typeError, Text: fmt.Sprintf("a client can be in %d wards at most", maxWards)})
			return
		}
		if err = c.Join(ctx, req.Ward); err == nil {
			in.reply(c, event{Type: typeJoined, Ward: req.Ward})
		}
	case typeAlert:
		alert := event{Type: typeAlert, ID: rand.Text(), Ward: req.Ward, Text: req.Text, By: c.Label(), Instance: in.name, Node: in.node.ID()}
		if err = in.hub.Send(ctx, hubkit.ToGroups(req.Ward), alert.encode()); err == nil {
			alert.Type = typeSent
			in.reply(c, alert)
		}
	case typeHealth:
		in.reply(c, event{Type: typeHealth, Instance: in.name, Node: in.node.ID(), Health: in.healthNow()})
	case typeFence:
		fence := event{Type: typeFence, ID: req.ID, Ward: req.Ward, Instance: in.name, Node: in.node.ID(), Members: in.members()}
		err = in.hub.Send(ctx, hubkit.ToGroups(req.Ward), fence.encode())
	}
	if err != nil {
		// A real server logs the error and tells the client only whether trying again can help: after ErrUncertain a
		// second alert may be a repeat.
		in.reply(c, event{Type: typeError, Ward: req.Ward, Text: err.Error()})
	}
}

func (in *instance) members() []backplane.NodeID {
	var ids []backplane.NodeID
	for _, m := range in.node.Members() {
		ids = append(ids, m.ID)
	}
	return ids
}

// reply puts an event into the client's own outbox. It fails if the client is gone, which read finds out too.
func (in *instance) reply(c *hubkit.Connection, e event) { _ = c.Send(e.encode()) }

// welcome tells the client where it is, and enters it in the list of those who hear of changes.
func (in *instance) welcome(c *hubkit.Connection) {
	e := event{
		Type: typeWelcome, Instance: in.name, Node: in.node.ID(), Members: in.members(),
		Backplane: in.desc.backplane, Other: in.desc.other,
		Resumed: c.Resumed(), Wards: c.Groups(),
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.clients[c] = struct{}{}
	e.State = in.state.String()
	in.reply(c, e) // never blocks
}

// healthNow returns the health of this instance, which HealthHandler serves too.
func (in *instance) healthNow() *hubkit.Health {
	in.mu.Lock()
	defer in.mu.Unlock()
	if time.Since(in.healthAt) >= healthAge {
		in.health, in.healthAt = in.hub.Health(), time.Now()
	}
	h := in.health
	return &h
}

func (in *instance) forget(c *hubkit.Connection) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.clients, c)
}

// stateChanged tells this instance's clients whether the backplane works. A load balancer's health check would answer
// with the same state.
func (in *instance) stateChanged(h backplane.Health) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.state = h.State
	in.healthAt = time.Time{}
	for c := range in.clients {
		in.reply(c, event{Type: typeStatus, State: h.State.String()})
	}
}
