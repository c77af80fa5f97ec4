package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/gobackplane/backplane"
)

// What a message carries.

func payloadProperties() []Property {
	return []Property{
		{
			ID:    "payload/intact",
			Says:  "payloads arrive byte for byte as they were sent.",
			Why:   "a payload is the application's, and may be compressed, encrypted or binary.",
			Often: "text encodings, C strings, fixed buffers, a marker that is looked for in the payload, JSON that is parsed and written anew.",
			Since: "v1", about: []string{"intact", "must", "origin", "noFalseAlarm"}, run: payloadIntact,
		},
		{
			ID:    "payload/empty",
			Says:  "an empty payload is a message.",
			Why:   "the address alone can be the news.",
			Often: "a length of zero taken for nothing.",
			Since: "v1", about: []string{"must", "intact", "origin"}, run: payloadEmpty,
		},
		{
			ID:    "payload/reuse",
			Says:  "a publisher may overwrite its buffer as soon as Publish has returned.",
			Why:   "buffers are pooled.",
			Often: "the caller's slice handed to a queue or to local subscriptions.",
			Since: "v1", about: []string{"origin", "intact", "must"}, run: payloadReuse,
		},
		{
			ID:    "payload/kept",
			Says:  "a message that a handler keeps does not change later, nor does its payload.",
			Why:   "messages are queued for clients after the handler has returned.",
			Often: "a read buffer or a message that is used again.",
			Since: "v1", about: []string{"intact", "must"}, run: payloadKept,
		},
		{
			ID:    "limits/payload",
			Says:  "a payload of exactly the largest size works; one byte more gets ErrTooLarge, is heard by nobody, and the next message works.",
			Why:   "a limit found in production is an outage.",
			Often: "the limit counted with or without the envelope, a connection that breaks on the large one.",
			Since: "v1", about: []string{"must", "mustNot", "errors", "intact"}, run: limitsPayload,
		},
	}
}

// gzipped is a whole one, of the text "gzip".
const gzipped = "\x1f\x8b\b\x00\x00\x00\x00\x00\x02\x03\x4b\xaf\xca\x2c\x00\x00\xf2\x5c\xe9\x3a\x04\x00\x00\x00"

func payloadIntact(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	payloads := [][]byte{
		all, {0}, {0, 0}, {0xff}, []byte("\n"), []byte("a\x00b"), []byte("\xff\xfe\x00"), []byte(`{"a":"\u0000é"}`), []byte("é"), []byte("e\u0301"),
		[]byte("a\r\nb"), []byte("*1\r\n$4\r\nPING\r\n"), []byte("MSG a 1 1\r\nx\r\n"), []byte("%00%"), []byte(" lead and trail "), []byte("null"), []byte(`"`),
		{0x1f, 0x8b, 8, 0, 0, 0, 0, 0}, {0x28, 0xb5, 0x2f, 0xfd}, {0x78, 0x9c}, {1}, {1, 0, 0, 0}, {1, 2, 3, 4, 5, 6, 7, 8, 9},
		[]byte(`{ "b" : [1.0, 2e0],  "a" : 9007199254740993 }` + "\n"), []byte(`"<b>&\u2028\u003c"`), []byte(`{"a":1,"a":2}`), []byte(" 7"), []byte("007"),
		[]byte(gzipped), []byte(headerMark), []byte("\ufeffa"), []byte(strings.Repeat("=", 77)), []byte("AA=="), []byte("+,/"),
	}
	for _, p := range payloads {
		crew[0].publishRaw(room, p)
	}
	sizes := []int{headerLen, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025}
	for k := 12; 1<<k < w.suite.largest(); k++ {
		sizes = append(sizes, 1<<k-1, 1<<k, 1<<k+1)
	}
	for _, size := range sizes {
		if size <= w.suite.largest() {
			crew[0].publishSize(room, size)
		}
	}
	noise := make([]byte, 100<<10)
	for i := 0; i < len(noise); i += 8 {
		binary.LittleEndian.PutUint64(noise[i:], w.rand.Uint64())
	}
	for _, size := range slices.Compact([]int{9, 1000, 32 << 10, min(len(noise), w.suite.largest())}) {
		if size <= w.suite.largest() {
			crew[1].publishRaw(room, noise[:size])
		}
	}
}

func payloadEmpty(w *world) {
	crew := w.crew()
	nothing := [][]byte{nil, {}}
	for i := range w.count(20) {
		a := group(fmt.Sprintf("room-%d", i))
		crew[0].subscribeWith(a, func(_ context.Context, e backplane.Event, _ int) {
			if m, is := e.(*backplane.Message); is && m.Payload == nil {
				w.fail(fmt.Errorf("%s heard a message with a nil payload; an empty one is empty, not nil", crew[0].name), false)
			}
		})
		crew[1].subscribe(a)
		crew[i%len(crew)].publish(a)
		crew[i%len(crew)].publishRaw(a, nothing[i%len(nothing)])
		crew[i%len(crew)].publish(a)
	}
}

func payloadReuse(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		_, release := w.stalled(n, room)
		defer release()
	}
	const messages, size = 64, 1 << 10
	buffer := make([]byte, size)
	for range messages {
		ctx, cancel := w.patient()
		pub := w.rec.nextPublish(crew[0].id, crew[0].at(room))
		copy(buffer, w.rec.payload(pub, size))
		err := crew[0].send(ctx, pub, room, buffer, false)
		for i := range buffer {
			buffer[i] = 0xa5
		}
		cancel()
		crew[0].mustPublish(room, err)
	}
}

func payloadKept(w *world) {
	crew, room := w.crew(), group("room")
	type kept struct {
		message *backplane.Message
		then    backplane.Message // what it was
		copied  []byte
		longer  []byte // the payload and a mark behind it
	}
	mark := []byte("behind it")
	var mu sync.Mutex
	var all []kept
	keep := func(_ context.Context, e backplane.Event, _ int) {
		if m, is := e.(*backplane.Message); is {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, kept{m, *m, bytes.Clone(m.Payload), append(m.Payload, mark...)})
		}
	}
	for _, n := range crew {
		n.subscribeWith(room, keep)
	}
	for i := range w.count(1000) {
		crew[i%2].publishSize(room, headerLen+i)
	}
	w.settle()
	mu.Lock()
	defer mu.Unlock()
	for _, k := range all {
		if !bytes.Equal(k.then.Payload, k.copied) {
			w.fatalf("a payload of %d bytes that a handler kept has changed since", len(k.copied))
		}
		if m := k.message; m.Address != k.then.Address || m.Publisher != k.then.Publisher || !bytes.Equal(m.Payload, k.copied) {
			w.fatalf("a message with a payload of %d bytes that a handler kept is another one since", len(k.copied))
		}
		if !bytes.HasSuffix(k.longer, mark) {
			w.fatalf("what a handler appended to a payload of %d bytes has changed since: there was room behind it that is others'", len(k.copied))
		}
	}
}

func limitsPayload(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	largest := w.suite.largest()
	for _, size := range []int{largest - 1, largest, headerLen} {
		crew[0].publishSize(room, size)
		ctx, cancel := w.patient()
		for _, over := range []int{1, 2, 64 << 10} {
			_, err := crew[0].tryPublish(ctx, room, largest+over)
			if classify(err).Class != tooLarge {
				cancel()
				w.check()
				w.fatalf("Publish of %d bytes, %d more than the largest payload, returned %v, not ErrTooLarge", largest+over, over, err)
			}
		}
		cancel()
		crew[0].publish(room)
	}
}
