package embedded

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/gobackplane/backplane/internal/faultnet"
)

// relay stands between one instance and another, and can be cut.
type relay struct {
	*faultnet.Link

	addr string
}

// newRelay forwards connections to an address.
func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Link: faultnet.New((&net.Dialer{}).DialContext), addr: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = in.Close() }()
				out, err := r.Dial(ctx, "tcp", to)
				if err != nil {
					return
				}
				defer context.AfterFunc(ctx, func() { _ = in.Close() })()
				back := make(chan struct{})
				go func() {
					_, _ = io.Copy(in, out)
					_ = in.Close()
					close(back)
				}()
				_, _ = io.Copy(out, in)
				_ = out.Close()
				<-back
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		r.Cut()
		running.Wait()
	})
	return r
}
