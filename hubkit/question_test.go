package hubkit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gobackplane/backplane"
)

// operationVectors are operations and their bytes. They are the format: a change here is a new version.
var operationVectors = []struct {
	name string
	op   operation
	hex  string
}{
	{
		"join", operation{
			kind: askJoin, origin: origin{1, 2, 3, 4, 5, 6, 7, 8}, number: 300, floor: 2,
			of: selection{connections: newIDList([]string{"a-1"})}, group: "4B",
		},
		"0101 0102030405060708 ac02 02 08 01 03612d31 3442",
	},
	{
		"leave", operation{
			kind: askLeave, origin: origin{0xff}, number: 1, floor: 1,
			of: selection{groups: newIDList([]string{"x", "y"}), users: newIDList([]string{"u"}), except: newIDList([]string{"b-2"})}, group: "g",
		},
		"0102 ff00000000000000 01 01 16 02 0178 0179 01 0175 01 03622d32 67",
	},
	{"leave all", operation{kind: askLeaveAll, number: 1, floor: 1, of: selection{all: true}}, "0103 0000000000000000 01 01 01"},
	{
		"disconnect", operation{kind: askDisconnect, number: 7, floor: 7, of: selection{all: true}, reason: Reason{Code: ReasonRefused, Text: "bye"}},
		"0104 0000000000000000 07 07 01 04 627965",
	},
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOperationVectors(t *testing.T) {
	for _, v := range operationVectors {
		want := unhex(t, v.hex)
		if got := v.op.encode(); !bytes.Equal(got, want) {
			t.Errorf("%s: encoded as %x, want %x", v.name, got, want)
		}
		got, err := decodeOperation(want[1], want[2:])
		if err != nil || fmt.Sprint(got) != fmt.Sprint(v.op) {
			t.Errorf("%s: read %v, want %v; %v", v.name, got, v.op, err)
		}
	}
	for _, v := range []struct {
		a   applied
		hex string
	}{
		{applied{}, "0100 00"},
		{applied{changed: 300, absent: newIDList([]string{"a-1"})}, "0100 ac02 01 03612d31"},
	} {
		want := unhex(t, v.hex)
		if got := v.a.encode(); !bytes.Equal(got, want) {
			t.Errorf("encoded as %x, want %x", got, want)
		}
		rest, err := readAnswer(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeApplied(rest); err != nil || fmt.Sprint(got) != fmt.Sprint(v.a) {
			t.Errorf("read %v, want %v; %v", got, v.a, err)
		}
	}
}

func TestOperationsRefused(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"nothing", "01", errBroken},
		{"a short origin", "01 01020304", errBroken},
		{"number 0", "03 0000000000000000 00 00 01", errBroken},
		{"a floor above the number", "03 0000000000000000 01 02 01", errBroken},
		{"no number", "03 0000000000000000", errBroken},
		{"no selection", "03 0000000000000000 01 01", errBroken},
		{"an unknown selection", "03 0000000000000000 01 01 20", errVersion},
		{"an empty list", "03 0000000000000000 01 01 02 00", errBroken},
		{"a list that ends early", "03 0000000000000000 01 01 02 02 0161", errBroken},
		{"a long group", "01 0000000000000000 01 01 01" + strings.Repeat("61", backplane.MaxName+1), errBroken},
		{"no reason", "04 0000000000000000 01 01 01", errBroken},
		{"a long reason", "04 0000000000000000 01 01 01 00" + strings.Repeat("61", maxReasonText+1), errBroken},
	} {
		b := unhex(t, c.hex)
		if _, err := decodeOperation(b[0], b[1:]); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// Each error that has a status comes back as itself, and no other.
func TestStatusesAreTheErrors(t *testing.T) {
	seen := map[status]bool{statusOK: true}
	for _, s := range statuses {
		if seen[s.status] {
			t.Errorf("status %d stands twice", s.status)
		}
		seen[s.status] = true
		if got := statusOf(fmt.Errorf("somewhere: %w", s.err)); got != s.status {
			t.Errorf("%v has status %d, want %d", s.err, got, s.status)
		}
		if err := s.status.err(); !errors.Is(err, s.err) {
			t.Errorf("status %d is %v, want %v", s.status, err, s.err)
		}
	}
	if statusOf(nil) != statusOK || statusOK.err() != nil {
		t.Error("no error is one")
	}
	if statusOf(errors.New("odd")) != statusUnavailable || statusOf(errVersion) != statusUnsupported {
		t.Error("what has no status of its own")
	}
	if err := status(200).err(); !errors.Is(err, backplane.ErrUnsupported) {
		t.Errorf("an unknown status is %v", err)
	}
}

// FuzzOperation: decoding never panics, and what it reads is written as the same again.
func FuzzOperation(f *testing.F) {
	for _, v := range operationVectors {
		f.Add(v.op.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 {
			return
		}
		op, err := decodeOperation(b[1], b[2:])
		if err != nil {
			if !errors.Is(err, errBroken) && !errors.Is(err, errVersion) {
				t.Fatalf("error %v is of no kind", err)
			}
			return
		}
		again, err := decodeOperation(b[1], op.encode()[2:])
		if err != nil || fmt.Sprint(again) != fmt.Sprint(op) {
			t.Fatalf("read again %v, want %v; %v", again, op, err)
		}
	})
}
