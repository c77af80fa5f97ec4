package redis

import (
	"bytes"
	"errors"
	"hash/maphash"
	"runtime"
	"strings"
	"testing"
)

// Whatever bytes come, reading ends with an error, and allocates no more than the input justifies.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		message("ward:a", "hello"), confirmation("subscribe", "ward:a", 1), "-NOPERM x\r\n", "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$536870912\r\nx",
		"*1\r\n$9999999999\r\n", "*0\r\n", "*3\r\n$-1\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		r := newReader(bytes.NewReader(input), receiveBuffer)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range len(input) + 1 {
			n, err := r.array()
			if err != nil {
				if errors.As(err, new(refused)) {
					continue
				}
				break
			}
			if n < 0 || n > maxBulk {
				t.Fatalf("an array of %d", n)
			}
			if _, err := r.bulk(); err != nil {
				break
			}
			if _, err := r.bulk(); err != nil {
				break
			}
			if _, err := r.payload(); err != nil {
				break
			}
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(8*len(input)+4*trusted) {
			t.Errorf("%d bytes allocated for %d", used, len(input))
		}
	})
}

// A frame costs one allocation, its payload's.
func TestReadingAllocatesPayloadsOnly(t *testing.T) {
	const frames = 1000
	r := newReader(strings.NewReader(strings.Repeat(message("ward:some channel", strings.Repeat("x", 256)), 2*frames)), receiveBuffer)
	busy := names{seed: maphash.MakeSeed()}
	busy.get([]byte("ward:some channel"))
	got := testing.AllocsPerRun(frames, func() {
		_, _ = r.array()
		_, _ = r.bulk()
		name, _ := r.bulk()
		if busy.get(name) != "ward:some channel" {
			t.Error("not the channel")
		}
		if data, err := r.payload(); err != nil || len(data) != 256 || cap(data) != 256 {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	})
	if got != 1 {
		t.Errorf("%v allocations for a frame, want 1", got)
	}
}
