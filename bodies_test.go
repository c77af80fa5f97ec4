package backplane

import (
	"encoding/hex"
	"errors"
	"os"
	"reflect"
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
	a, err := barrierReplyIn(vectorBody(t, "barrier-answer"))
	named := map[wire.Publisher]time.Duration{{0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00, 0x11}: time.Second}
	if want := (barrierReply{nonce: 5, named: named, epoch: 7}); err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("read as %+v, %v, want %+v", a, err, want)
	}
}

func TestBarrierListIsWrittenToTheByte(t *testing.T) {
	addresses := []Address{Group("ward:4B"), All().In("chat")}
	r := newRound()
	r.nonce = 6
	for _, a := range addresses {
		r.ins = append(r.ins, &interest{addr: a})
	}
	question := r.asks()
	if want := vectorBody(t, "barrier-list"); string(question) != string(want) {
		t.Errorf("got %x\nwant %x", question, want)
	}
	n := &Node{}
	n.epochClock.Store(7)
	n.outlets.m = map[Address]*outlet{addresses[1]: {epoch: 2, last: 300}}
	queued := appendBytes(nil, append(barrierQuestion(0, 6), 0))
	answer := n.barrierAnswer(append(queued, question[3:]...))
	if want := vectorBody(t, "barrier-numbers"); string(answer) != string(want) {
		t.Errorf("got %x\nwant %x", answer, want)
	}
	a, err := barrierReplyIn(answer)
	want := barrierReply{nonce: 6, named: map[wire.Publisher]time.Duration{}, epoch: 7, numbers: []baseline{{index: 1, epoch: 2, last: 300}}}
	if err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("read as %+v, %v, want %+v", a, err, want)
	}
	for length := len(answer) - 4; length < len(answer); length++ {
		if a, err := barrierReplyIn(answer[:length]); !errors.Is(err, wire.ErrBroken) {
			t.Errorf("%d bytes of an answer were read as %+v, %v", length, a, err)
		}
	}
}

// What is sent again later, since its fate is not known, is still to be heard: numbers stand before it.
func TestBaselineIsBeforeWhatIsSentAgain(t *testing.T) {
	n := &Node{}
	room := Group("room")
	o := &outlet{epoch: 2, last: 300, retry: &parcel{before: position{2, 297}}}
	n.outlets.m = map[Address]*outlet{room: o}
	list := appendAddresses(nil, []*interest{{addr: Group("nobody")}, {addr: room}})
	told, err := baselinesIn(n.appendBaselines(nil, list))
	if want := []baseline{{index: 1, epoch: 2, last: 297}}; err != nil || !reflect.DeepEqual(told, want) {
		t.Errorf("%+v, %v, want %+v", told, err, want)
	}
	o.retry.before = position{} // the epoch begins with it
	if told, err := baselinesIn(n.appendBaselines(nil, list)); err != nil || told != nil {
		t.Errorf("%+v, %v, want none", told, err)
	}
}

// Lists that do not keep what they promise are answered with what is known by then.
func TestBrokenListsOfAddresses(t *testing.T) {
	n := &Node{}
	room := Group("room")
	n.outlets.m = map[Address]*outlet{room: {epoch: 2, last: 3}}
	list := appendAddresses(nil, []*interest{{addr: room}, {addr: Group("another")}})
	for length := range list {
		want := 0
		if length >= 8 {
			want = 1
		}
		if told, err := baselinesIn(n.appendBaselines(nil, list[:length])); err != nil || len(told) != want {
			t.Errorf("%d bytes: %+v, %v, want %d", length, told, err, want)
		}
	}
	if _, err := baselinesIn(appendUint64(nil, listBytes)); !errors.Is(err, wire.ErrBroken) {
		t.Errorf("numbers of %d addresses: %v", listBytes, err)
	}
	if told, err := baselinesIn([]byte("\x01\xff\xff\xff\xff\x0f\x02\x03")); err != nil || told[0].index != listBytes {
		t.Errorf("an index beyond every list: %+v, %v", told, err)
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
