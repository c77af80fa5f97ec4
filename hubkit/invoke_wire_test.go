package hubkit

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestInvokeVectors(t *testing.T) {
	q := invokeQuestion{connection: "a-1", id: "xy", limit: 300 * time.Millisecond, request: []byte("hi")}
	for kind, want := range map[byte]string{askInvoke: "0107 03612d31 027879 ac02 6869", askForget: "0108 03612d31 027879 ac02"} {
		if got := q.encode(kind); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("kind %d: encoded as %x, want %s", kind, got, want)
		}
	}
	if got, err := decodeInvoke(q.encode(askInvoke)[2:]); err != nil || fmt.Sprint(got) != fmt.Sprint(q) {
		t.Errorf("read %+v, %v", got, err)
	}
	if _, err := readAnswer(unhex(t, "010b 6e6f")); err == nil || err.Error() != (&ClientError{Text: "no"}).Error() {
		t.Errorf("a client's error is read as %v", err)
	}
}

// FuzzInvoke: what comes from other instances never panics, and what is read keeps to the bounds.
func FuzzInvoke(f *testing.F) {
	q := invokeQuestion{connection: "a-1", id: "xy", limit: time.Hour, request: []byte("hi")}
	f.Add(q.encode(askInvoke)[2:])
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeInvoke(b)
		if err != nil {
			if !errors.Is(err, errBroken) {
				t.Fatalf("error %v is of no kind", err)
			}
			return
		}
		if len(q.connection) > maxID || len(q.id) > maxID || q.limit <= 0 || q.limit > invokeLongest {
			t.Fatalf("read %+v", q)
		}
		again, err := decodeInvoke(q.encode(askInvoke)[2:])
		if err != nil || fmt.Sprint(again) != fmt.Sprint(q) {
			t.Fatalf("read again %+v, want %+v; %v", again, q, err)
		}
	})
}
