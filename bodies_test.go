package backplane

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// The bodies of the engine's own messages are fixed by the same vectors as the frames: docs/wire.md shows them.

func TestHeartbeatBodyIsWrittenToTheByte(t *testing.T) {
	n := &Node{o: Options{Label: "ward-a"}, settings: settings{
		wireMin: 1, wireMax: 1, maxPayload: 1_040_384,
		heartbeat: 2 * time.Second, memberTimeout: 8 * time.Second, tailMark: 2 * time.Second,
	}}
	n.epochClock.Store(7)
	got := n.heartbeat(flagHello, 3)
	if want := vectorBody(t, "heartbeat"); string(got) != string(want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
}

func TestAnswerBodyIsWrittenToTheByte(t *testing.T) {
	got := answerBody(1, answerOK, []byte("ho"))
	if want := vectorBody(t, "answer"); string(got) != string(want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
}

func TestBarrierBodyIsWrittenToTheByte(t *testing.T) {
	if got, want := barrierQuestion(barrierGate, 5), vectorBody(t, "barrier"); string(got) != string(want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
	var members memberTable
	members.m = map[wire.Publisher]*member{{0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00, 0x11}: {heard: time.Now().Add(-time.Second)}}
	got := members.appendList(barrierQuestion(0, 5), listMost)
	if want := vectorBody(t, "barrier-answer"); string(got[:12]) != string(want[:12]) {
		t.Errorf("got %x\nwant %x", got, want)
	}
	if got := members.appendList(nil, 0); string(got) != "\x00" {
		t.Errorf("a list of none is %x", got)
	}
	_, nonce, rest, err := barrierBody(vectorBody(t, "barrier-answer"))
	named, rest, err2 := namedIn(rest)
	epoch, _, err3 := uint64At(rest)
	if err != nil || err2 != nil || err3 != nil || epoch != 7 || nonce != 5 || len(named) != 1 || named[wire.Publisher{0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00, 0x11}] != time.Second {
		t.Errorf("read as %d, %v, %v, %v", nonce, named, err, err2)
	}
}

// A body that was cut off anywhere before its last obligatory byte is refused, and so is one of another version.
func TestBrokenBodiesAreRefused(t *testing.T) {
	n := &Node{}
	for name, c := range map[string]struct {
		hear       func(wire.Publisher, []byte) error
		obligatory int // bytes that must be there
	}{
		"heartbeat":      {n.heartbeatHeard, 22},
		"ask":            {n.questionHeard, 9},
		"answer":         {n.answerHeard, 3},
		"barrier":        {func(p wire.Publisher, b []byte) error { return n.barrierHeard(nil, p, b) }, 3},
		"barrier-answer": {func(p wire.Publisher, b []byte) error { return n.barrierAnswerHeard(nil, p, b) }, 15},
	} {
		body := vectorBody(t, name)
		for length := range c.obligatory {
			err := c.hear(wire.Publisher{1}, body[:length])
			refused := errors.Is(err, wire.ErrBroken) || length == 0 && errors.Is(err, wire.ErrVersion)
			if !refused {
				t.Errorf("%s of %d bytes: %v, want a broken body", name, length, err)
			}
		}
		body[0]++
		if err := c.hear(wire.Publisher{1}, body); !errors.Is(err, wire.ErrVersion) {
			t.Errorf("%s of version %d: %v", name, body[0], err)
		}
	}
}

// vectorBody returns the payload of the one message of a vector.
func vectorBody(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("internal/wire/testdata/" + name + ".hex")
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	frame, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	r, err := wire.NewReader(frame)
	if err != nil {
		t.Fatal(err)
	}
	var m wire.Message
	if !r.Next(&m) {
		t.Fatalf("no message: %v", r.Err())
	}
	return m.Payload
}
