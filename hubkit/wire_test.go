package hubkit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// vectors are messages and their bytes. They are the format: a change here is a new version.
var vectors = []struct {
	name   string
	parcel parcel
	hex    string
}{
	{"payload only", parcel{payload: []byte("hi")}, "0100 6869"},
	{"empty payload", parcel{payload: []byte{}}, "0100"},
	{
		"several copies",
		parcel{send: sendID{origin{1, 2, 3, 4, 5, 6, 7, 8}, 300}, payload: []byte("hi")},
		"0101 0102030405060708 ac02 6869",
	},
	{"key", parcel{key: "bed", payload: []byte("hi")}, "0102 03626564 6869"},
	{"except", parcel{except: newIDList([]string{"a-1", "b"}), payload: []byte("hi")}, "0104 02 03612d31 0162 6869"},
	{"connections", parcel{connections: newIDList([]string{"a-1"}), payload: []byte("hi")}, "0108 01 03612d31 6869"},
	{
		"everything",
		parcel{
			send: sendID{origin{0xff}, 1}, key: "k", except: newIDList([]string{"x"}),
			connections: newIDList([]string{"y", "z"}), payload: []byte{0},
		},
		"010f ff00000000000000 01 016b 01 0178 02 0179 017a 00",
	},
}

func TestWireVectors(t *testing.T) {
	for _, v := range vectors {
		want, err := hex.DecodeString(strings.ReplaceAll(v.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := v.parcel.encode(); !bytes.Equal(got, want) {
			t.Errorf("%s: encoded as %x, want %x", v.name, got, want)
		}
		got, err := decode(want)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		sameParcel(t, v.name, got, v.parcel)
	}
}

func sameParcel(t *testing.T, name string, got, want parcel) {
	t.Helper()
	if got.send != want.send || got.key != want.key || !bytes.Equal(got.except, want.except) ||
		!bytes.Equal(got.connections, want.connections) || !bytes.Equal(got.payload, want.payload) {
		t.Errorf("%s: read %+v, want %+v", name, got, want)
	}
}

func TestWireRefuses(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"nothing", "", errBroken},
		{"a version alone", "01", errBroken},
		{"version 0", "0000", errVersion},
		{"the next version", "0200", errVersion},
		{"an unknown flag", "0110", errVersion},
		{"a short origin", "0101 01020304", errBroken},
		{"a send without number", "0101 0102030405060708", errBroken},
		{"number 0", "0101 0102030405060708 00", errBroken},
		{"a number that overflows", "0101 0102030405060708 ffffffffffffffffff7f", errBroken},
		{"a short key", "0102 05 6162", errBroken},
		{"an empty key", "0102 00", errBroken},
		{"a key that no sender would send", "0102 8108" + strings.Repeat("61", maxKey+1), errBroken},
		{"a list of none", "0104 00", errBroken},
		{"a list that ends early", "0104 02 0161", errBroken},
		{"a huge count", "0104 ffffffff0f 0161", errBroken},
		{"an empty id", "0108 01 00", errBroken},
		{"an id that ends early", "0108 01 05 61", errBroken},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(c.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(b); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
}

func TestWireReadsWithoutAllocating(t *testing.T) {
	p := parcel{
		send: sendID{origin{1}, 7}, except: newIDList([]string{"a", "b"}), connections: newIDList([]string{"c"}),
		payload: make([]byte, 100),
	}
	b := p.encode()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := decode(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("decode allocates %v times", n)
	}
}

// FuzzWire: decoding never panics, and what it reads is written as the same bytes again (but for the lengths that a
// writer would have made shorter).
func FuzzWire(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.parcel.encode())
	}
	f.Add([]byte{1, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b)
		if err != nil {
			if !errors.Is(err, errBroken) && !errors.Is(err, errVersion) {
				t.Fatalf("error %v is of no kind", err)
			}
			return
		}
		for id := range p.connections.all() {
			if len(id) == 0 {
				t.Fatal("an empty id")
			}
		}
		again, err := decode(p.encode())
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		sameParcel(t, "read again", again, p)
	})
}
