package integration_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
)

// bareSubscribe2 writes batched SUBSCRIBE commands and counts lines.
func bareSubscribe2(b *testing.B, addr string, channels []string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	go func() {
		var w strings.Builder
		for rest := channels; len(rest) > 0; rest = rest[min(512, len(rest)):] {
			batch := rest[:min(512, len(rest))]
			w.Reset()
			fmt.Fprintf(&w, "*%d\r\n$9\r\nSUBSCRIBE\r\n", len(batch)+1)
			for _, c := range batch {
				fmt.Fprintf(&w, "$%d\r\n%s\r\n", len(c), c)
			}
			_, _ = conn.Write([]byte(w.String()))
		}
	}()
	r := bufio.NewReaderSize(conn, 64<<10)
	for range len(channels) * 6 {
		if _, err := r.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
	}
}
