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

// server is an HTTP server that leaves nothing behind. net/http forgets a handler whose connection became a WebSocket:
// Shutdown does not wait for it. This one counts them.
type server struct {
	http     http.Server
	serving  sync.WaitGroup // the goroutine of Serve
	handlers sync.WaitGroup // runs of the handler; none is added once stop has returned
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
	s := &server{}
	s.http.ReadHeaderTimeout = 10 * time.Second
	s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handlers.Add(1)
		defer s.handlers.Done()
		h.ServeHTTP(w, r)
	})
	s.serving.Go(func() { _ = s.http.Serve(l) }) // always http.ErrServerClosed: stop is the only end
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

// wait returns when the handlers of the WebSockets have ended too: whoever calls it has closed those.
func (s *server) wait() { s.handlers.Wait() }
