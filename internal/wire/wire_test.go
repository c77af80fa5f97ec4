package wire_test

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/internal/wire"
)

func TestOverheadIsEnough(t *testing.T) {
	for _, c := range []struct{ scope, name string }{{"", ""}, {"chat", "ward:4B"}, {strings.Repeat("s", 64), strings.Repeat("n", 1024)}} {
		payload := make([]byte, 1<<20)
		frame := wire.AppendHeader(nil, wire.Publisher{})
		frame = wire.AppendMessage(frame, wire.Data, 'g', c.scope, c.name, 1<<64-1, 1<<64-1, nil, payload)
		if added, bound := len(frame)-len(payload), wire.Overhead(c.scope, c.name); added > bound {
			t.Errorf("scope of %d, name of %d bytes: %d bytes added, %d promised", len(c.scope), len(c.name), added, bound)
		}
	}
}

// The slices of a message are parts of the frame with nothing behind them: to append to one must not write into the next.
func TestSlicesCannotGrowIntoTheFrame(t *testing.T) {
	for _, g := range goldens() {
		_, messages, err := decode(encode(g.publisher, g.messages))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			for what, s := range map[string][]byte{"scope": m.Scope, "name": m.Name, "fields": m.Fields, "payload": m.Payload} {
				if len(s) != cap(s) {
					t.Errorf("%s: the %s can grow by %d bytes", g.name, what, cap(s)-len(s))
				}
			}
			if m.Payload == nil {
				t.Errorf("%s: a payload is nil", g.name)
			}
		}
	}
}

func TestCodingAllocatesNothing(t *testing.T) {
	fields := wire.AppendField(nil, 2, []byte("trace"))
	payload := make([]byte, 100)
	buffer := make([]byte, 0, 64<<10)
	write := func() []byte {
		b := wire.AppendHeader(buffer, wire.Publisher{})
		for n := range uint64(10) {
			b = wire.AppendMessage(b, wire.Data, 'g', "chat", "ward:4B", 1, n, fields, payload)
			b = wire.AppendNext(b, wire.Data, nil, payload)
		}
		return b
	}
	if n := testing.AllocsPerRun(100, func() { write() }); n != 0 {
		t.Errorf("writing into a large enough buffer: %v allocations", n)
	}

	frame := slices.Clone(write())
	known := func(uint64, []byte) bool { return true }
	var m wire.Message
	read := func() int {
		r, err := wire.NewReader(frame)
		if err != nil {
			return 0
		}
		messages := 0
		for r.Next(&m) {
			messages++
			if wire.CheckFields(m.Fields, known) != nil {
				return 0
			}
		}
		return messages
	}
	if got := read(); got != 20 {
		t.Fatalf("%d messages read, want 20", got)
	}
	if n := testing.AllocsPerRun(100, func() { read() }); n != 0 {
		t.Errorf("reading: %v allocations", n)
	}
}

// A length that lies costs nothing but the error: no buffer is made for it.
func TestLyingLengthsAllocateOnlyTheError(t *testing.T) {
	const runs, bound = 1000, 256 // an error and its text
	for name, c := range brokenFrames() {
		frame := []byte(c.frame)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			var m wire.Message
			r, err := wire.NewReader(frame)
			for err == nil && r.Next(&m) {
				continue
			}
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / runs; each > bound {
			t.Errorf("%s: %d bytes allocated for a frame of %d", name, each, len(frame))
		}
	}
}

func BenchmarkRead(b *testing.B) {
	frame := wire.AppendHeader(nil, wire.Publisher{})
	frame = wire.AppendMessage(frame, wire.Data, 'g', "", "ward:4B", 1, 1, nil, bytes.Repeat([]byte("x"), 100))
	for range 99 {
		frame = wire.AppendNext(frame, wire.Data, nil, bytes.Repeat([]byte("x"), 100))
	}
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	var m wire.Message
	for b.Loop() {
		r, err := wire.NewReader(frame)
		if err != nil {
			b.Fatal(err)
		}
		for r.Next(&m) {
			continue
		}
	}
}
