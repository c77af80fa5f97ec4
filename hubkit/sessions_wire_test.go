package hubkit

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
)

var (
	vectorSession = sessionID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	vectorRank    = rank{generation: 300, since: 1, id: "a-1"}
)

const (
	sessionHex = "0102030405060708090a0b0c0d0e0f10"
	rankHex    = "ac02" + "0000000000000001" + "03612d31"
)

// What instances ask and tell one another of sessions is for good.
func TestSessionVectors(t *testing.T) {
	now := vectorTime
	for golden, q := range map[string]sessionQuestion{
		"010a" + sessionHex + "00":                      {session: vectorSession},
		"010a" + sessionHex + "01" + rankHex + "c0cf24": {session: vectorSession, take: true, rank: vectorRank, keep: 10 * time.Minute},
	} {
		b := unhex(t, golden)
		if got := hex.EncodeToString(q.encode()); got != golden {
			t.Errorf("%+v: %s, want %s", q, got, golden)
		}
		if got, err := decodeSessionQuestion(b[2:]); err != nil || got != q {
			t.Errorf("%s: %+v, want %+v; %v", golden, got, q, err)
		}
	}
	for golden, v := range map[string]sessionView{
		"00": {},
		"03": {state: sessionEnded},
		"01" + rankHex + "ac02" + "02" + "023442" + "02c3a4": {state: sessionHere, rank: vectorRank, had: 300, groups: []string{"4B", "ä"}},
		"02" + rankHex + "00" + "00":                         {state: sessionAbsent, rank: vectorRank},
	} {
		if got := hex.EncodeToString(v.encode(nil)); got != golden {
			t.Errorf("%+v: %s, want %s", v, got, golden)
		}
		if got, err := decodeSessionView(unhex(t, golden)); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%s: %+v, want %+v; %v", golden, got, v, err)
		}
	}
	list := []notice{
		{session: vectorSession, ended: true, until: now.Add(time.Second)},
		{session: sessionID{}, rank: vectorRank, until: now.Add(10 * time.Minute)},
	}
	golden := "02" + sessionHex + "03" + "e807" + "00000000000000000000000000000000" + "01" + rankHex + "c0cf24"
	if got := hex.EncodeToString(appendNotices(nil, list, now)); got != golden {
		t.Errorf("notices: %s, want %s", got, golden)
	}
	if got, err := decodeNotices(unhex(t, golden), now); err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("notices: %+v, want %+v; %v", got, list, err)
	}
}

// What is broken is refused, and what a later version says is unsupported.
func TestSessionsBroken(t *testing.T) {
	now := vectorTime
	question := func(b []byte) error { _, err := decodeSessionQuestion(b); return err }
	view := func(b []byte) error { _, err := decodeSessionView(b); return err }
	notices := func(b []byte) error { _, err := decodeNotices(b, now); return err }
	zero := "00" + "0000000000000001" + "03612d31"
	long := hex.EncodeToString(append([]byte{maxID + 1}, make([]byte, maxID+1)...))
	for _, row := range []struct {
		read func([]byte) error
		hex  string
		want error
	}{
		{question, "", errBroken},
		{question, sessionHex, errBroken},
		{question, sessionHex + "02", errBroken},
		{question, sessionHex + "01", errBroken},
		{question, sessionHex + "01" + rankHex, errBroken},
		{question, sessionHex + "01" + zero + "00", errBroken},
		{question, sessionHex + "01" + "01" + "0000000000000001" + long + "00", errBroken},
		{view, "", errBroken},
		{view, "04", backplane.ErrUnsupported},
		{view, "01", errBroken},
		{view, "01" + rankHex, errBroken},
		{view, "01" + rankHex + "01", errBroken},
		{view, "01" + rankHex + "01" + "ffffff7f", errBroken},
		{view, "01" + rankHex + "01" + "01" + "0041", errBroken},
		{notices, "", errBroken},
		{notices, "01", errBroken},
		{notices, "01" + sessionHex + "03", errBroken},
		{notices, "01" + sessionHex + "0100", errBroken},
		{notices, "01" + sessionHex + "01" + zero + "00", errBroken},
		{notices, "01" + sessionHex + "0200", errBroken},
		{notices, "01" + sessionHex + "0900", backplane.ErrUnsupported},
		{notices, "ffffffff0f" + sessionHex + "0300", errBroken},
		{notices, "f503" + sessionHex + "0300", errBroken}, // 501
	} {
		if err := row.read(unhex(t, row.hex)); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.hex, err, row.want)
		}
	}
	// Nobody makes an instance remember anything for longer than a token can live.
	list, err := decodeNotices(unhex(t, "01"+sessionHex+"03"+"ffffffffffffffff7f"), now)
	if err != nil || list[0].until.Sub(now) != longestLifetime+resumeSkew {
		t.Errorf("%+v, %v", list, err)
	}
}

func FuzzSessions(f *testing.F) {
	f.Add([]byte{})
	f.Add(append([]byte{1}, append(vectorSession[:], 3, 1)...))
	v := sessionView{state: sessionHere, rank: vectorRank, had: 300, groups: []string{"4B", "ä"}}
	f.Add(v.encode(nil))
	q := sessionQuestion{session: vectorSession, take: true, rank: vectorRank, keep: time.Minute}
	f.Add(q.encode()[2:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := decodeSessionQuestion(b); err == nil {
			if again, err := decodeSessionQuestion(q.encode()[2:]); err != nil || again != q {
				t.Fatalf("%+v, written and read: %+v, %v", q, again, err)
			}
		}
		if v, err := decodeSessionView(b); err == nil {
			if again, err := decodeSessionView(v.encode(nil)); err != nil || !reflect.DeepEqual(again, v) {
				t.Fatalf("%+v, written and read: %+v, %v", v, again, err)
			}
			if len(v.groups) > len(b)/2 {
				t.Fatalf("%d groups of %d bytes", len(v.groups), len(b))
			}
		}
		if list, err := decodeNotices(b, vectorTime); err == nil {
			if again, err := decodeNotices(appendNotices(nil, list, vectorTime), vectorTime); err != nil || !reflect.DeepEqual(again, list) {
				t.Fatalf("%+v, written and read: %+v, %v", list, again, err)
			}
		}
	})
}
