package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/internal/wire"
)

const header = "\x01ABCDEFGH"

// brokenFrames are frames that must be refused, with what is said about them and how many messages are readable before.
func brokenFrames() map[string]struct {
	frame    string
	want     error
	says     string
	readable int
} {
	const (
		ten   = "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80" // a varint that does not end
		eight = "\xff\xff\xff\xff\xff\xff\xff\xff\x7f"     // a length of 2^63 - 1
		max64 = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" // 2^64 - 1
		whole = header + "\x01g\x00\x01x\x01\x01\x01p"     // one message, complete
	)
	return map[string]struct {
		frame    string
		want     error
		says     string
		readable int
	}{
		"nothing":                {"", wire.ErrBroken, "empty", 0},
		"version 0":              {"\x00ABCDEFGH", wire.ErrVersion, "unknown frame version 0", 0},
		"version 2":              {"\x02ABCDEFGH", wire.ErrVersion, "unknown frame version 2", 0},
		"a JSON text":            {`{"hello":1}`, wire.ErrVersion, "unknown frame version 123", 0},
		"half a header":          {"\x01ABCDEFG", wire.ErrBroken, "8 bytes are less than a header", 0},
		"flag 0x40":              {header + "\x41g\x00\x01x\x01\x01\x00", wire.ErrBroken, "unknown flags", 0},
		"flag 0x80":              {header + "\x81g\x00\x01x\x01\x01\x00", wire.ErrBroken, "unknown flags", 0},
		"first is a repetition":  {header + "\x11\x01p", wire.ErrBroken, "the first message has no address", 0},
		"only a head":            {header + "\x01", wire.ErrBroken, "a message ends early", 0},
		"no scope":               {header + "\x01g", wire.ErrBroken, "a scope ends early", 0},
		"scope too long":         {header + "\x01g\x05abc", wire.ErrBroken, "a scope ends early", 0},
		"scope of 2^63 bytes":    {header + "\x01g" + eight + "abc", wire.ErrBroken, "a scope ends early", 0},
		"scope of 2^64 bytes":    {header + "\x01g" + max64 + "abc", wire.ErrBroken, "a scope ends early", 0},
		"no name":                {header + "\x01g\x00", wire.ErrBroken, "a name ends early", 0},
		"name too long":          {header + "\x01g\x00\x08ward:4B", wire.ErrBroken, "a name ends early", 0},
		"name of endless length": {header + "\x01g\x00" + ten + "\x01", wire.ErrBroken, "a name ends early", 0},
		"no epoch":               {header + "\x01g\x00\x01x", wire.ErrBroken, "an epoch ends early", 0},
		"endless epoch":          {header + "\x01g\x00\x01x" + ten, wire.ErrBroken, "an epoch ends early", 0},
		"epoch over 64 bits":     {header + "\x01g\x00\x01x\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x01\x00", wire.ErrBroken, "an epoch ends early", 0},
		"no number":              {header + "\x01g\x00\x01x\x01", wire.ErrBroken, "a number ends early", 0},
		"no fields":              {header + "\x21g\x00\x01x\x01\x01", wire.ErrBroken, "fields end early", 0},
		"fields of no length":    {header + "\x21g\x00\x01x\x01\x01\x00\x01p", wire.ErrBroken, "fields end early", 0},
		"fields too long":        {header + "\x21g\x00\x01x\x01\x01\x04\x02\x00", wire.ErrBroken, "fields end early", 0},
		"no payload":             {header + "\x01g\x00\x01x\x01\x01", wire.ErrBroken, "a payload ends early", 0},
		"payload too long":       {header + "\x01g\x00\x01x\x01\x01\x02p", wire.ErrBroken, "a payload ends early", 0},
		"payload of 2^63 bytes":  {header + "\x01g\x00\x01x\x01\x01" + eight + "p", wire.ErrBroken, "a payload ends early", 0},
		"rubbish after a whole":  {whole + "\xff", wire.ErrBroken, "unknown flags", 1},
		"second has no payload":  {whole + "\x11", wire.ErrBroken, "a payload ends early", 1},
		"number overflows":       {header + "\x01g\x00\x01x\x01" + max64 + "\x00\x11\x00", wire.ErrBroken, "a number overflows", 1},
	}
}

func TestBrokenFrames(t *testing.T) {
	for name, c := range brokenFrames() {
		_, messages, err := decode([]byte(c.frame))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want %q", name, err, c.says)
		}
		if len(messages) != c.readable {
			t.Errorf("%s: %d messages read before it, want %d", name, len(messages), c.readable)
		}
	}
}

// After a break the reader stays broken: what follows a length that is not true cannot be trusted.
func TestNothingIsReadAfterABreak(t *testing.T) {
	r, err := wire.NewReader([]byte(header + "\xff" + "\x01g\x00\x01x\x01\x01\x01p"))
	if err != nil {
		t.Fatal(err)
	}
	var m wire.Message
	for range 3 {
		if r.Next(&m) {
			t.Fatal("a message was read after the break")
		}
	}
	if !errors.Is(r.Err(), wire.ErrBroken) {
		t.Errorf("error %v", r.Err())
	}
}

func TestFields(t *testing.T) {
	type field struct {
		tag   uint64
		value string
	}
	var list []byte
	want := []field{{2, "trace"}, {4, ""}, {7, "must"}, {1 << 40, "far"}}
	for _, f := range want {
		list = wire.AppendField(list, f.tag, []byte(f.value))
	}
	var got []field
	err := wire.CheckFields(list, func(tag uint64, value []byte) bool {
		got = append(got, field{tag, string(value)})
		return tag == 7
	})
	if err != nil {
		t.Errorf("with the one field known that must be: %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d fields, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("field %d is %v, want %v", i, got[i], want[i])
		}
	}

	err = wire.CheckFields(list, func(uint64, []byte) bool { return false })
	if !errors.Is(err, wire.ErrField) || !strings.Contains(err.Error(), "tag 7") {
		t.Errorf("with a field unknown that must be understood: %v", err)
	}
	if err := wire.CheckFields(nil, func(uint64, []byte) bool { return false }); err != nil {
		t.Errorf("no fields: %v", err)
	}
}

func TestBrokenFields(t *testing.T) {
	for name, fields := range map[string]string{
		"a tag without an end": "\x80",
		"no length":            "\x02",
		"a value too short":    "\x02\x03ab",
		"a length of 2^63":     "\x02\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
		"after a whole field":  "\x02\x00\x04",
	} {
		if err := wire.CheckFields([]byte(fields), func(uint64, []byte) bool { return true }); !errors.Is(err, wire.ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
