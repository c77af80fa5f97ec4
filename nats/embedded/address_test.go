package embedded

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// ports are given out once, from below those that the system gives out: an address at which there was a server must not
// be another one's a moment later, since its peers still try it.
var ports atomic.Int64

// FreeAddress returns an address that nobody listens on, and that is not given out again.
func FreeAddress(t *testing.T) string {
	t.Helper()
	const first, many = 10000, 20000
	for range many {
		addr := "127.0.0.1:" + strconv.Itoa(first+(os.Getpid()*97+int(ports.Add(1)))%many)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free address")
	return ""
}
