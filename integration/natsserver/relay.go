package natsserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/gobackplane/backplane/internal/faultnet"
)

// relay stands between two servers and passes on what they say to each other, through a link that can fail.
type relay struct {
	link   *faultnet.Link
	addr   string
	listen net.Listener
	work   sync.WaitGroup

	stop context.CancelFunc // ends dials

	mu     sync.Mutex
	target string                // guarded by mu
	conns  map[net.Conn]struct{} // both sides; nil when closed; guarded by mu
}

// newRelay listens for the one server; aim says where the other is.
func newRelay() (*relay, error) {
	//nolint:noctx // does not wait
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &relay{link: faultnet.New(nil), addr: l.Addr().String(), listen: l, stop: stop, conns: map[net.Conn]struct{}{}}
	r.work.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				r.work.Go(func() { r.serve(ctx, conn) })
			}
		}
	})
	return r, nil
}

// serve passes bytes in both directions until one side is closed.
func (r *relay) serve(ctx context.Context, near net.Conn) {
	defer func() { _ = near.Close() }()
	if !r.keep(near) {
		return
	}
	defer r.forget(near)
	far, err := r.link.Dial(ctx, "tcp", r.aimed())
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	if !r.keep(far) {
		return
	}
	defer r.forget(far)
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // whatever ends it ends both directions
		_ = to.Close()
		_ = from.Close()
	}
	both.Go(func() { pass(near, far) })
	pass(far, near)
	both.Wait()
}

func (r *relay) aim(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

func (r *relay) aimed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.target
}

func (r *relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *relay) forget(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

// close ends the relay and returns when nothing of it runs any more.
func (r *relay) close() {
	r.stop()
	_ = r.listen.Close()
	r.mu.Lock()
	conns := r.conns
	r.conns = nil
	r.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	r.work.Wait()
}
