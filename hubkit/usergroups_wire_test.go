package hubkit

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
)

// The bytes of a user's record in the store, and of the question that follows a change of it, are for good.
func TestUserGroupsGolden(t *testing.T) {
	for what, row := range map[string]struct {
		record userRecord
		golden string
	}{
		"none": {userRecord{}, "0100"},
		"two": {
			userRecord{groups: []UserGroup{{Group: "4B", Left: time.Second}, {Group: "ä", Left: MaxUserTTL}}},
			"0102" + "023442" + "e807" + "02c3a4" + "80d8c4bd75",
		},
	} {
		if got := hex.EncodeToString(row.record.encode()); got != row.golden {
			t.Errorf("%s: %s, want %s", what, got, row.golden)
		}
		b, _ := hex.DecodeString(row.golden)
		if got, err := decodeUserRecord(b); err != nil || !reflect.DeepEqual(got, row.record) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	for golden, c := range map[string]userChange{
		"0109" + "0275" + "37" + "01" + "3442": {user: "u7", group: "4B", join: true},
		"0109" + "0275" + "37" + "00" + "3442": {user: "u7", group: "4B"},
	} {
		if got := hex.EncodeToString(c.encode()); got != golden {
			t.Errorf("%+v: %s, want %s", c, got, golden)
		}
		b, _ := hex.DecodeString(golden)
		if got, err := decodeUserChange(b[2:]); err != nil || got != c {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}

// What a later version has written is left alone, and what is broken is nobody's group.
func TestUserGroupsBroken(t *testing.T) {
	for text, want := range map[string]error{
		"":                           errBroken,
		"0200":                       backplane.ErrUnsupported,
		"01":                         errBroken,
		"0165":                       errBroken, // 101 groups
		"0101":                       errBroken,
		"01010001":                   errBroken, // a name of no bytes
		"0101023442":                 errBroken,
		"0101023442ffffffffffffff7f": errBroken, // longer than a time can be
		"010000":                     errBroken,
	} {
		b, _ := hex.DecodeString(text)
		if _, err := decodeUserRecord(b); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	for _, text := range []string{"", "00", "0175", "017501", "01750234", "0275"} {
		b, _ := hex.DecodeString(text)
		if c, err := decodeUserChange(b); !errors.Is(err, errBroken) {
			t.Errorf("%q: %+v, %v, want errBroken", text, c, err)
		}
	}
}

func FuzzUserRecord(f *testing.F) {
	f.Add([]byte{userVersion, 0})
	f.Add((&userRecord{groups: []UserGroup{{"4B", time.Hour}, {"5A", time.Millisecond}}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeUserRecord(b)
		if err != nil {
			return
		}
		again, err := decodeUserRecord(r.encode())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
