package relay

import (
	"bufio"
	"context"
	"net"
	"sync"
)

// maxWaiting is how many packets may wait for a client that does not read. Beyond it the relay closes the connection: the
// client knows then that it has missed something.
const maxWaiting = 16 << 10

// Server is the relay: what is published on a channel it hands to every connection that is subscribed, in one order for
// all. It remembers nothing.
type Server struct {
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	clients  map[*client]struct{}
	channels map[string]map[*client]struct{} // no empty entries
}

// client is one connection.
type client struct {
	sock net.Conn
	out  chan []byte
	gone chan struct{} // closed when its reader has ended
}

// Listen starts a relay on "host:port"; port 0 means any.
func Listen(ctx context.Context, address string) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: listener, clients: map[*client]struct{}{}, channels: map[string]map[*client]struct{}{}}
	s.running.Go(s.accept)
	return s, nil
}

// Address is where it listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close closes all connections and waits for the goroutines.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.clients {
		_ = c.sock.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	return err
}

func (s *Server) accept() {
	for {
		sock, err := s.listener.Accept()
		if err != nil {
			return
		}
		c := &client{sock: sock, out: make(chan []byte, maxWaiting), gone: make(chan struct{})}
		s.mu.Lock()
		if s.closed {
			_ = sock.Close()
		}
		s.clients[c] = struct{}{}
		s.mu.Unlock()
		c.out <- appendPacket(nil, packet{kind: welcome})
		s.running.Go(func() { s.serve(c) })
		s.running.Go(c.write)
	}
}

// serve reads a client's requests until its connection ends, and answers them in order.
func (s *Server) serve(c *client) {
	defer close(c.gone)
	defer s.forget(c)
	for in := bufio.NewReader(c.sock); ; {
		p, err := readPacket(in)
		if err != nil {
			return
		}
		answer := packet{kind: yes}
		if len(p.name) == 0 || len(p.name) > maxChannel || len(p.data) > maxFrame || !s.do(c, p) {
			answer = packet{kind: no, data: []byte("it is no request, or beyond the limits")}
		}
		select {
		case c.out <- appendPacket(nil, answer):
		default: // it sends and sends, and reads no answer
			return
		}
	}
}

// do carries out one request.
func (s *Server) do(c *client, p packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	members := s.channels[p.name]
	switch p.kind {
	case publish:
		m := appendPacket(nil, packet{message, p.name, p.data})
		for member := range members {
			select {
			case member.out <- m:
			default: // too slow
				_ = member.sock.Close()
			}
		}
	case subscribe:
		if members == nil {
			members = map[*client]struct{}{}
			s.channels[p.name] = members
		}
		members[c] = struct{}{}
	case unsubscribe:
		s.leave(c, p.name)
	default:
		return false
	}
	return true
}

// leave takes a client off a channel. mu is held.
func (s *Server) leave(c *client, channel string) {
	delete(s.channels[channel], c)
	if len(s.channels[channel]) == 0 {
		delete(s.channels, channel)
	}
}

func (s *Server) forget(c *client) {
	_ = c.sock.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
	for channel := range s.channels {
		s.leave(c, channel)
	}
}

// write sends what waits for the client, and what has gathered meanwhile with it.
func (c *client) write() {
	defer func() { _ = c.sock.Close() }()
	w := bufio.NewWriter(c.sock)
	for {
		select {
		case b := <-c.out:
			if _, err := w.Write(b); err != nil {
				return
			}
			if len(c.out) > 0 {
				continue
			}
			if w.Flush() != nil {
				return
			}
		case <-c.gone:
			return
		}
	}
}
