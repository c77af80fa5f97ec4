package hubkit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const someHome = "0123456789abcdef"

var someID = someHome + "-" + strings.Repeat("a", 16)

func TestListVectors(t *testing.T) {
	q := listQuestion{limit: 300, bytes: 5, after: "a-1", of: selection{groups: newIDList([]string{"4B"})}}
	want := unhex(t, "0106 ac02 05 03612d31 02 01 023442")
	if got := q.encode(); !bytes.Equal(got, want) {
		t.Errorf("encoded as %x, want %x", got, want)
	}
	if got, err := decodeListQuestion(want[2:]); err != nil || fmt.Sprint(got) != fmt.Sprint(q) {
		t.Errorf("read %+v, %v", got, err)
	}
	if got := countQuestion(&selection{all: true}); !bytes.Equal(got, unhex(t, "0105 01")) {
		t.Errorf("a count is asked with %x", got)
	}

	list := []*Connection{{id: someID, user: "u", label: "bed", since: -1, metadata: map[string]string{"k": "v"}}}
	want = append(append([]byte{0, byte(len(someID))}, someID...), unhex(t, "0175 03626564 01 01 016b 0176")...)
	if got := encodeList(list, &listQuestion{limit: 1}); !bytes.Equal(got, want) {
		t.Errorf("encoded as %x, want %x", got, want)
	}
	got, err := decodeList(want, someHome, 1)
	if err != nil || got.more || len(got.list) != 1 || got.list[0].ID != someID || got.list[0].User != "u" || got.list[0].Label != "bed" ||
		got.list[0].Since.UnixNano() != -1 || got.list[0].Metadata["k"] != "v" {
		t.Errorf("read %+v, %v", got, err)
	}

	f := fingerprint{1, 2, 3, 4, 5, 6, 7, 8}
	if got, want := f.token(someID), "AQECAwQFBgcIMDEyMzQ1Njc4OWFiY2RlZi1hYWFhYWFhYWFhYWFhYWFh"; got != want {
		t.Errorf("the token is %s, want %s", got, want)
	}
	if got, err := readToken(f.token(someID), f); err != nil || got != (place{someHome, someID}) {
		t.Errorf("read %v, %v", got, err)
	}
	longest := strings.Repeat("h", maxID-17) + "-" + strings.Repeat("a", 16)
	if got, err := readToken(f.token(longest), f); err != nil || got.id != longest {
		t.Errorf("the longest id: %v, %v", got, err)
	}
	s := selection{groups: newIDList([]string{"a", "b"}), users: newIDList([]string{"c"})}
	if got, want := fmt.Sprintf("%x", s.fingerprint("ward")), "37a83ce72719d1ee"; got != want {
		t.Errorf("the fingerprint is %s, want %s", got, want)
	}
}

// FuzzList: what comes from other instances never panics, and what is read keeps to the bounds.
func FuzzList(f *testing.F) {
	f.Add(encodeList([]*Connection{{id: someID, metadata: map[string]string{"k": "v"}}}, &listQuestion{limit: 1}))
	q := listQuestion{limit: 1, after: someID, of: selection{all: true}}
	f.Add(q.encode()[2:])
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeList(b, someHome, 3)
		if err != nil && !errors.Is(err, errBroken) {
			t.Fatalf("error %v is of no kind", err)
		}
		if len(a.list) > 3 {
			t.Fatalf("%d connections", len(a.list))
		}
		q, err := decodeListQuestion(b)
		if err != nil && !errors.Is(err, errBroken) && !errors.Is(err, errVersion) {
			t.Fatalf("error %v is of no kind", err)
		}
		if err == nil && (q.limit < 1 || q.limit > MaxPage || q.bytes > listBytes || len(q.after) > maxID) {
			t.Fatalf("the question %+v", q)
		}
		if _, err := readToken(string(b), fingerprint{}); err != nil && !errors.Is(err, ErrInvalidToken) {
			t.Fatalf("error %v is of no kind", err)
		}
	})
}
