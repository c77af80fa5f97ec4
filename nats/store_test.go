package nats

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"
)

// What is in the bucket is read by other versions: these bytes stay.
func TestStoreEnvelope(t *testing.T) {
	at := time.Unix(1_800_000_000, 5)
	for what, row := range map[string]struct {
		written time.Time
		ttl     time.Duration
		hex     string
		age     time.Duration // of the value, a second after the message
		over    time.Time
	}{
		"created":      {time.Time{}, 0, "01" + "0123456789abcdef" + "0000000000000000" + "0000000000000000", time.Second, time.Time{}},
		"with an end":  {time.Time{}, 1500 * time.Millisecond, "01" + "0123456789abcdef" + "0000000000000000" + "0000000059682f00", time.Second, at.Add(1500 * time.Millisecond)},
		"written anew": {at.Add(-time.Minute), 0, "01" + "0123456789abcdef" + "18fae2689b6ca805" + "0000000000000000", time.Minute + time.Second, time.Time{}},
		"with both":    {at.Add(-time.Minute), time.Hour, "01" + "0123456789abcdef" + "18fae2689b6ca805" + "0000034630b8a000", time.Minute + time.Second, at.Add(time.Hour)},
	} {
		t.Run(what, func(t *testing.T) {
			want, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(row.hex), []byte(" "), nil)))
			if err != nil {
				t.Fatal(err)
			}
			value := []byte("value")
			data := envelope(0x0123456789abcdef, row.written, row.ttl, value)
			if !bytes.Equal(data, append(want, value...)) {
				t.Errorf("%x, want %x and the value", data, want)
			}
			var r record
			now := at.Add(time.Second)
			r.read(at, data, now)
			if r.foreign || r.nothing || r.revision != 0x0123456789abcdef || !bytes.Equal(r.value, value) || now.Sub(r.written) != row.age {
				t.Errorf("read as %+v, of age %v", r, now.Sub(r.written))
			}
			r.read(at, data, at.Add(100*365*24*time.Hour))
			if r.nothing == row.over.IsZero() {
				t.Errorf("after a century it is over: %v", r.nothing)
			}
			if row.over.IsZero() {
				return
			}
			if r.read(at, data, row.over.Add(-1)); r.nothing {
				t.Error("it is over too early")
			}
			if r.read(at, data, row.over); !r.nothing {
				t.Error("it is not over in time")
			}
		})
	}
}

// Ages and ends are by the server's clock, whatever ours says.
func TestStoreTellsTheServersTime(t *testing.T) {
	const ahead = 2 * time.Hour
	seen := time.Now()
	v := &view{at: seen.Add(-time.Second), time: seen.Add(ahead)}
	if off := time.Until(v.now()) - ahead; off < time.Second-100*time.Millisecond || off > time.Second {
		t.Errorf("a second after it was seen the server's clock is at %v, want one second", off)
	}
}

func TestStoreNeedsAServerThatEndsValues(t *testing.T) {
	for version, want := range map[string]bool{
		"2.9.25": false, "2.10.22": false, "2.11.0": true, "2.11.0-RC.1": true, "2.15.2": true, "3.0.0": true, "1.4.1": false, "v2.10.1": false, "dev": true,
	} {
		if got := recentServer(version); got != want {
			t.Errorf("%s is recent enough: %v, want %v", version, got, want)
		}
	}
}
