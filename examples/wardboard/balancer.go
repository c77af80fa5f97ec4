package main

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

// balancer gives each new connection to the next instance in turn, and remembers nothing: no cookie, no hash of the
// client's address. With a backplane that is enough; a client that comes back may land on any instance.
type balancer struct {
	transport *http.Transport
	instances []*httputil.ReverseProxy
	// WebSockets have a turn of their own, so that the requests of a page that is loaded do not shift them: nine
	// sockets are three for each of three instances.
	sockets, requests atomic.Uint64
}

func newBalancer(urls []string) (*balancer, error) {
	b := &balancer{transport: &http.Transport{}}
	for _, raw := range urls {
		target, err := url.Parse(raw)
		if err != nil {
			return nil, err
		}
		b.instances = append(b.instances, &httputil.ReverseProxy{
			Transport: b.transport,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host // the instance compares it with the Origin header of a WebSocket's request
			},
			// A real balancer asks each instance for its health and passes by one that is down.
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				http.Error(w, "this instance does not answer", http.StatusBadGateway)
			},
		})
	}
	return b, nil
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	turn := &b.requests
	if r.Header.Get("Upgrade") != "" {
		turn = &b.sockets
	}
	next := (turn.Add(1) - 1) % uint64(len(b.instances))
	b.instances[next].ServeHTTP(w, r)
}

func (b *balancer) close() { b.transport.CloseIdleConnections() }
