package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// server is an HTTP server that leaves nothing behind. net/http forgets a connection that became a WebSocket: neither
// Shutdown nor Close ends it, or waits for its handler. This one remembers.
type server struct {
	http        http.Server
	connections connections
	serving     sync.WaitGroup // the goroutine of Serve
	handlers    sync.WaitGroup // runs of the handler; none is added once stop has returned
}

// listen takes the address. The errors name the flag.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("-listen %s: the port is taken; choose another one, or port 0 for any that is free", address)
	case err != nil:
		return nil, fmt.Errorf("-listen %s: %w", address, err)
	}
	return l, nil
}

// serveOn serves a handler until stop.
func serveOn(l net.Listener, h http.Handler) *server {
	s := &server{connections: connections{open: make(map[*connection]struct{})}}
	s.http.ReadHeaderTimeout = 10 * time.Second
	s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handlers.Add(1)
		defer s.handlers.Done()
		h.ServeHTTP(w, r)
	})
	s.serving.Go(func() { _ = s.http.Serve(listener{l, &s.connections}) }) // always http.ErrServerClosed: stop is the only end
	return s
}

// stop takes no new requests, and waits a little for those that are no WebSockets.
func (s *server) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // browsers open connections that they may use later; Shutdown would wait for them
	}
	s.serving.Wait()
}

// crash closes everything at once, as the end of a process does. Nobody is told.
func (s *server) crash() {
	_ = s.http.Close() // what it cannot close is closed already
	s.serving.Wait()
	s.connections.closeAll()
}

// end closes what is left, and returns when the last handler has. Whoever calls it after stop has said goodbye on
// the WebSockets; what is left now are clients that did not answer.
func (s *server) end() {
	s.connections.closeAll()
	s.handlers.Wait()
}

// connections are those that a server has accepted and not closed.
type connections struct {
	mu   sync.Mutex
	open map[*connection]struct{} // guarded by mu
}

func (c *connections) closeAll() {
	c.mu.Lock()
	var left []*connection
	for one := range c.open {
		left = append(left, one)
	}
	c.mu.Unlock()
	for _, one := range left {
		_ = one.Close() // it is to be gone, and is
	}
}

// listener enters what it accepts in a list.
type listener struct {
	net.Listener

	list *connections
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	one := &connection{Conn: c, list: l.list}
	l.list.mu.Lock()
	defer l.list.mu.Unlock()
	l.list.open[one] = struct{}{}
	return one, nil
}

// connection takes itself off the list when it is closed.
type connection struct {
	net.Conn

	list *connections
}

func (c *connection) Close() error {
	c.list.mu.Lock()
	delete(c.list.open, c)
	c.list.mu.Unlock()
	return c.Conn.Close()
}
