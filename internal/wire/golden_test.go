package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/internal/wire"
)

// golden is a frame whose bytes are fixed for ever: testdata/<name>.hex holds them, docs/wire.md shows them. A vector is
// never changed; a new version of the format gets vectors of its own.
type golden struct {
	name      string
	publisher wire.Publisher
	messages  []wire.Message
}

func goldens() []golden {
	publisher := wire.Publisher{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	ward := wire.Message{Type: wire.Data, Kind: 'g', Name: []byte("ward:4B"), Epoch: 1, Number: 1, Payload: []byte("alert")}
	with := func(change func(*wire.Message)) wire.Message {
		m := ward
		change(&m)
		return m
	}
	return []golden{
		{"empty", publisher, nil},
		{"one", publisher, []wire.Message{ward}},
		{"scope", publisher, []wire.Message{{Type: wire.Data, Kind: 'a', Scope: []byte("chat"), Epoch: 2, Number: 300, Payload: []byte{}}}},
		{"coalesced", publisher, []wire.Message{
			ward,
			with(func(m *wire.Message) { m.Same, m.Number, m.Payload = true, 2, []byte("again") }),
			with(func(m *wire.Message) { m.Kind, m.Name, m.Epoch, m.Number = 'u', []byte("u17"), 5, 127 }),
			with(func(m *wire.Message) {
				m.Kind, m.Name, m.Epoch, m.Number, m.Same, m.Payload = 'u', []byte("u17"), 5, 128, true, []byte{0}
			}),
		}},
		{"fields", publisher, []wire.Message{
			with(func(m *wire.Message) { m.Fields = wire.AppendField(wire.AppendField(nil, 2, []byte("hi")), 5, nil) }),
			with(func(m *wire.Message) { m.Same, m.Number, m.Fields = true, 2, wire.AppendField(nil, 256, []byte{1}) }),
			with(func(m *wire.Message) { m.Same, m.Number, m.Payload = true, 3, []byte{} }),
		}},
		{"tail-mark", publisher, []wire.Message{
			with(func(m *wire.Message) { m.Type, m.Number, m.Payload = wire.TailMark, 2, []byte{} }),
		}},
		{"large", wire.Publisher{}, []wire.Message{
			{
				Type: wire.Data, Kind: 'g', Name: []byte("é *\n"), Epoch: math.MaxUint64, Number: math.MaxUint64,
				Payload: bytes.Repeat([]byte{0xff}, 130),
			},
		}},
		{"heartbeat", publisher, []wire.Message{{
			Type: wire.Heartbeat, Kind: 's', Name: []byte("members"),
			Payload: []byte("\x01\x01\x07\x01\x01\x80\xc0\x3f\xd0\x0f\xc0\x3e\xd0\x0f\x06ward-a\x03"),
		}}},
		{"probe", publisher, []wire.Message{{
			Type: wire.Probe, Kind: 's', Name: []byte("probe/0123456789abcdef/0"), Payload: []byte("\xac\x02"),
		}}},
		{"ask", publisher, []wire.Message{{
			Type: wire.Ask, Kind: 's', Name: []byte("members"), Payload: []byte("\x01\x01\x88\x27\x04pinghi"),
		}}},
		{"answer", wire.Publisher{0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}, []wire.Message{{
			Type: wire.Answer, Kind: 's', Name: []byte("inbox/0123456789abcdef"), Payload: []byte("\x01\x01\x00ho"),
		}}},
		{"barrier", publisher, []wire.Message{{
			Type: wire.Barrier, Kind: 's', Name: []byte("members"), Payload: []byte("\x01\x01\x05"),
		}}},
		{"barrier-answer", wire.Publisher{0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}, []wire.Message{{
			Type: wire.BarrierAnswer, Kind: 's', Name: []byte("inbox/0123456789abcdef"),
			Payload: []byte("\x01\x00\x05\x01\xaa\xbb\xcc\xdd\xee\xff\x00\x11\xe8\x07\x07"),
		}}},
		{"barrier-list", publisher, []wire.Message{{
			Type: wire.Barrier, Kind: 's', Name: []byte("members"), Payload: []byte("\x01\x00\x06\x02g\x00\x07ward:4Ba\x04chat\x00"),
		}}},
		{"barrier-numbers", wire.Publisher{0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}, []wire.Message{{
			Type: wire.BarrierAnswer, Kind: 's', Name: []byte("inbox/0123456789abcdef"), Payload: []byte("\x01\x00\x06\x00\x07\x01\x01\x02\xac\x02"),
		}}},
		{"unknown-type", publisher, []wire.Message{{Type: 15, Kind: '?', Epoch: 0, Number: 0, Payload: []byte("later")}, ward}},
	}
}

// encode builds the frame of a vector with the functions that the engine uses.
func encode(publisher wire.Publisher, messages []wire.Message) []byte {
	frame := wire.AppendHeader(nil, publisher)
	for _, m := range messages {
		if m.Same {
			frame = wire.AppendNext(frame, m.Type, m.Fields, m.Payload)
		} else {
			frame = wire.AppendMessage(frame, m.Type, m.Kind, string(m.Scope), string(m.Name), m.Epoch, m.Number, m.Fields, m.Payload)
		}
	}
	return frame
}

// decode reads a whole frame, also the readable beginning of a broken one.
func decode(frame []byte) (publisher wire.Publisher, messages []wire.Message, err error) {
	r, err := wire.NewReader(frame)
	if err != nil {
		return publisher, nil, fmt.Errorf("header: %w", err)
	}
	var m wire.Message
	for r.Next(&m) {
		messages = append(messages, m)
	}
	return r.Publisher, messages, r.Err()
}

// readHex reads a vector: hexadecimal digits, anything after # is comment.
func readHex(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%s.hex: %v", name, err)
	}
	return b
}

func TestGoldenFramesAreWrittenToTheByte(t *testing.T) {
	for _, g := range goldens() {
		if got, want := encode(g.publisher, g.messages), readHex(t, g.name); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", g.name, got, want)
		}
	}
}

func TestGoldenFramesAreRead(t *testing.T) {
	for _, g := range goldens() {
		publisher, messages, err := decode(readHex(t, g.name))
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		if publisher != g.publisher {
			t.Errorf("%s: publisher %x, want %x", g.name, publisher, g.publisher)
		}
		if !slices.EqualFunc(messages, g.messages, equal) {
			t.Errorf("%s:\n got %+v\nwant %+v", g.name, messages, g.messages)
		}
	}
}

func TestEveryGoldenFrameIsInTheVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hex")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(goldens()) {
		t.Errorf("%d files in testdata, %d vectors in this test", len(files), len(goldens()))
	}
}

// The document shows each vector's bytes exactly as the file does, so neither can be changed alone.
func TestDocumentShowsTheVectors(t *testing.T) {
	doc, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range goldens() {
		text, err := os.ReadFile(filepath.Join("testdata", g.name+".hex"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(doc, text) {
			t.Errorf("docs/wire.md does not contain testdata/%s.hex", g.name)
		}
	}
}

// A frame that was cut off anywhere is either whole up to a message's end, or broken: never something else, and what
// was read before the cut is right.
func TestFramesCutOffAnywhere(t *testing.T) {
	for _, g := range goldens() {
		frame := encode(g.publisher, g.messages)
		whole := map[int]int{} // length up to a message's end → how many messages that is
		for n := range len(g.messages) + 1 {
			whole[len(encode(g.publisher, g.messages[:n]))] = n
		}
		for length := range frame {
			_, messages, err := decode(frame[:length])
			n, isWhole := whole[length]
			switch {
			case isWhole && (err != nil || len(messages) != n):
				t.Errorf("%s cut at %d: %d messages, %v; want %d", g.name, length, len(messages), err, n)
			case !isWhole && !errors.Is(err, wire.ErrBroken):
				t.Errorf("%s cut at %d: %v, want a broken frame", g.name, length, err)
			}
			if n := len(messages); !slices.EqualFunc(messages, g.messages[:n], equal) {
				t.Errorf("%s cut at %d: wrong messages before the cut", g.name, length)
			}
		}
	}
}

func equal(a, b wire.Message) bool {
	return a.Type == b.Type && a.Kind == b.Kind && a.Epoch == b.Epoch && a.Number == b.Number && a.Same == b.Same &&
		bytes.Equal(a.Scope, b.Scope) && bytes.Equal(a.Name, b.Name) && bytes.Equal(a.Fields, b.Fields) && bytes.Equal(a.Payload, b.Payload)
}
