package wire_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/gobackplane/backplane/internal/wire"
)

// FuzzReader throws any bytes at the reader. It must not panic, must allocate nothing beyond an error, must name one of
// its three reasons, and what it read must survive being written and read again.
func FuzzReader(f *testing.F) {
	for _, g := range goldens() {
		f.Add(encode(g.publisher, g.messages))
	}
	for _, c := range brokenFrames() {
		f.Add([]byte(c.frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		original := bytes.Clone(frame)
		publisher, messages, err := decode(frame)
		if !bytes.Equal(frame, original) {
			t.Fatal("the reader changed the frame")
		}
		if err != nil && !errors.Is(err, wire.ErrBroken) && !errors.Is(err, wire.ErrVersion) {
			t.Fatalf("unexpected error %v", err)
		}
		size := wire.HeaderLen
		for _, m := range messages {
			if m.Payload == nil {
				t.Fatal("a payload is nil")
			}
			size += len(m.Fields) + len(m.Payload)
			if !m.Same {
				size += len(m.Scope) + len(m.Name)
			}
			checkFields(t, m.Fields)
		}
		if len(messages) > 0 && size > len(frame) {
			t.Fatalf("%d bytes read out of a frame of %d", size, len(frame))
		}

		again := encode(publisher, messages)
		if err == nil && len(again) > len(frame) {
			t.Fatalf("written anew, %d bytes became %d: the writer's form is not the shortest", len(frame), len(again))
		}
		publisher2, messages2, err := decode(again)
		if err != nil || publisher2 != publisher || !slices.EqualFunc(messages2, messages, equal) {
			t.Fatalf("written and read again: %v\nfrom %x %+v\nto   %x %+v", err, publisher, messages, publisher2, messages2)
		}
	})
}

func checkFields(t *testing.T, fields []byte) {
	t.Helper()
	var again []byte
	err := wire.CheckFields(fields, func(tag uint64, value []byte) bool {
		again = wire.AppendField(again, tag, value)
		return false
	})
	if err != nil && !errors.Is(err, wire.ErrBroken) && !errors.Is(err, wire.ErrField) {
		t.Fatalf("unexpected error %v", err)
	}
	if err == nil && len(again) > len(fields) {
		t.Fatalf("fields of %d bytes became %d", len(fields), len(again))
	}
}

// FuzzWriter writes any message and expects to read the same.
func FuzzWriter(f *testing.F) {
	f.Add(byte(1), byte('g'), "", "ward:4B", uint64(1), uint64(1), []byte{}, []byte("alert"), []byte("next"))
	f.Add(byte(4), byte(0), "chat", "", uint64(1<<63), uint64(1<<64-1), []byte("\x02\x01x"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, kind, addressKind byte, scope, name string, epoch, number uint64, fields, payload, next []byte) {
		first := wire.Message{
			Type: wire.Type(kind & 0x0f), Kind: addressKind, Scope: []byte(scope), Name: []byte(name),
			Epoch: epoch, Number: number, Fields: fields, Payload: payload,
		}
		messages := []wire.Message{first}
		if number+1 != 0 {
			second := first
			second.Same, second.Number, second.Fields, second.Payload = true, number+1, nil, next
			messages = append(messages, second)
		}
		_, got, err := decode(encode(wire.Publisher{9}, messages))
		if err != nil || !slices.EqualFunc(got, messages, equal) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, messages)
		}
	})
}
