package hubkit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

var (
	vectorKey   = ResumeKey{ID: "k1", Secret: []byte("0123456789abcdef0123456789abcdef")}
	vectorScope = newScope("ns", "ward")
	vectorTime  = time.UnixMilli(1_790_000_000_000)
)

// vectorToken is a token whose text is known.
func vectorToken() *resumeToken {
	return &resumeToken{
		scope: vectorScope, session: sessionID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, generation: 300,
		issued: vectorTime, lifetime: 10 * time.Minute, user: "nurse-17", groups: []string{"4B", "ä"},
	}
}

func ring(keys ...ResumeKey) *ResumeOptions {
	return &ResumeOptions{Keys: keys, Lifetime: defaultLifetime, MaxToken: defaultMaxToken}
}

// The text of a token is the format: a change here is a new version.
func TestResumeTokenVector(t *testing.T) {
	want := vectorToken()
	text := want.sign(&vectorKey, defaultMaxToken)
	b, _ := tokenText.DecodeString(text)
	const golden = "01" + "026b31" + "2c851b8905a805aa" + "0102030405060708090a0b0c0d0e0f10" + "ac02" + "80d8c1a28c34" + "c0cf24" + "00" +
		"086e757273652d3137" + "02" + "023442" + "02c3a4"
	if got := hex.EncodeToString(b[:len(b)-32]); got != golden {
		t.Errorf("the signed part is %s", got)
	}
	if got := hex.EncodeToString(b[len(b)-32:]); got != "4d7bcd64358b6aabbc8972292ec33484f7b4bbcbc3bbb98e735e17b0c1bc3420" {
		t.Errorf("the mac is %s", got)
	}
	got, err := ring(vectorKey).open(text, vectorScope, vectorTime.Add(time.Minute))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v; %v", got, want, err)
	}
}

// Every change of a token, wherever, is refused, and nothing of it is in the error.
func TestResumeTokenForged(t *testing.T) {
	text := vectorToken().sign(&vectorKey, defaultMaxToken)
	b, _ := tokenText.DecodeString(text)
	o := ring(vectorKey, ResumeKey{ID: "k2", Secret: bytes.Repeat([]byte("abcdefgh"), 4)})
	for i := range b {
		for _, bit := range []byte{0x01, 0x80} {
			forged := bytes.Clone(b)
			forged[i] ^= bit
			got, err := o.open(tokenText.EncodeToString(forged), vectorScope, vectorTime)
			if got != nil || !errors.Is(err, ErrResume) {
				t.Fatalf("byte %d ^ %#x: %+v, %v", i, bit, got, err)
			}
			if i > 3 && !errors.Is(err, ErrResumeForged) {
				t.Errorf("byte %d ^ %#x: %v, want ErrResumeForged", i, bit, err)
			}
		}
		if got, err := o.open(tokenText.EncodeToString(b[:i]), vectorScope, vectorTime); got != nil || !errors.Is(err, ErrResume) {
			t.Errorf("the first %d bytes: %+v, %v", i, got, err)
		}
	}
	swapped := bytes.Replace(b, []byte("k1"), []byte("k2"), 1)
	if _, err := o.open(tokenText.EncodeToString(swapped), vectorScope, vectorTime); !errors.Is(err, ErrResumeForged) {
		t.Errorf("under another key: %v", err)
	}
	longer := append(bytes.Clone(b), 0)
	if _, err := o.open(tokenText.EncodeToString(longer), vectorScope, vectorTime); !errors.Is(err, ErrResumeForged) {
		t.Errorf("a byte more: %v", err)
	}
}

func TestResumeTokenRefused(t *testing.T) {
	o := ring(vectorKey)
	sign := func(f func(*resumeToken)) string {
		token := vectorToken()
		f(token)
		return token.sign(&vectorKey, defaultMaxToken)
	}
	text := sign(func(*resumeToken) {})
	signed := func(b []byte) string { return tokenText.EncodeToString(append(b, vectorKey.mac(b)...)) }
	head := append([]byte{resumeVersion, 2}, "k1"...)
	for _, row := range []struct {
		what, text string
		want       error
	}{
		{"nothing", "x", ErrResumeMalformed},
		{"not base64url", strings.Repeat("+/", 40), ErrResumeMalformed},
		{"padded", text + "=", ErrResumeMalformed},
		{"a line break", text[:10] + "\n" + text[10:], ErrResumeMalformed},
		{"the same in standard base64", base64.RawStdEncoding.EncodeToString(mustDecode(t, text)) + "+", ErrResumeMalformed},
		{"short", tokenText.EncodeToString(make([]byte, 20)), ErrResumeMalformed},
		{"too long", strings.Repeat("A", defaultMaxToken+1), ErrResumeTooLong},
		{"another version", tokenText.EncodeToString(append([]byte{2}, make([]byte, 80)...)), backplane.ErrUnsupported},
		{"an unknown key", vectorToken().sign(&ResumeKey{ID: "k9", Secret: vectorKey.Secret}, defaultMaxToken), ErrResumeForged},
		{"the wrong secret", vectorToken().sign(&ResumeKey{ID: "k1", Secret: bytes.Repeat([]byte("x"), 32)}, defaultMaxToken), ErrResumeForged},
		{"another hub", sign(func(r *resumeToken) { r.scope = newScope("ns", "chat") }), ErrResumeForeign},
		{"another namespace", sign(func(r *resumeToken) { r.scope = newScope("sn", "ward") }), ErrResumeForeign},
		{"the seam between them", sign(func(r *resumeToken) { r.scope = newScope("nsw", "ard") }), ErrResumeForeign},
		{"expired", sign(func(r *resumeToken) { r.issued = vectorTime.Add(-10 * time.Minute) }), ErrResumeExpired},
		{"of tomorrow", sign(func(r *resumeToken) { r.issued = vectorTime.Add(resumeSkew + time.Second) }), ErrResumeExpired},
		{"no generation", sign(func(r *resumeToken) { r.generation = 0 }), ErrResumeMalformed},
		{"a life too long", sign(func(r *resumeToken) { r.lifetime = 25 * time.Hour }), ErrResumeMalformed},
		{"signed, but nothing", signed(head), ErrResumeMalformed},
		{"signed, but a flag", signed(append(bytes.Clone(head), append(make([]byte, 24), 1, 1, 1, 0x80, 0, 0)...)), backplane.ErrUnsupported},
		{"signed, but more groups than bytes", signed(append(bytes.Clone(head), append(make([]byte, 24), 1, 1, 1, 0, 0, 0xff, 0xff, 0x7f)...)), ErrResumeMalformed},
		{"signed, but more than groups", signed(append(bytes.Clone(head), append(make([]byte, 24), 1, 1, 1, 0, 0, 0, 0)...)), ErrResumeMalformed},
	} {
		got, err := o.open(row.text, vectorScope, vectorTime)
		if got != nil || !errors.Is(err, row.want) || !errors.Is(err, ErrResume) {
			t.Errorf("%s: %+v, %v; want %v", row.what, got, err, row.want)
		}
	}
	if _, err := o.open(text, vectorScope, vectorTime.Add(10*time.Minute-time.Millisecond)); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	if _, err := o.open(text, vectorScope, vectorTime.Add(-resumeSkew)); err != nil {
		t.Errorf("by a clock that is late: %v", err)
	}
}

func mustDecode(t *testing.T, text string) []byte {
	t.Helper()
	b, err := tokenText.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A key is changed without anybody noticing: the new one verifies before it signs, the old one after it signed.
func TestResumeKeysRotate(t *testing.T) {
	k1, k2 := vectorKey, ResumeKey{ID: "k2", Secret: bytes.Repeat([]byte("abcdefgh"), 4)}
	steps := [][]ResumeKey{{k1}, {k1, k2}, {k2, k1}, {k2}}
	for i, signs := range steps {
		text := vectorToken().sign(&signs[0], defaultMaxToken)
		for _, j := range []int{i - 1, i, i + 1} {
			if j < 0 || j >= len(steps) {
				continue
			}
			if i == 2 && j == 1 || i == 1 && j == 2 || i == j {
				if _, err := ring(steps[j]...).open(text, vectorScope, vectorTime); err != nil {
					t.Errorf("signed in step %d, read in step %d: %v", i, j, err)
				}
			}
		}
	}
	if _, err := ring(k2).open(vectorToken().sign(&k1, defaultMaxToken), vectorScope, vectorTime); !errors.Is(err, ErrResumeForged) {
		t.Errorf("by a key that was taken away: %v", err)
	}
}

// A token is never larger than allowed, whatever the groups; those that fit are named, and that there were more is said.
func TestResumeTokenIsBounded(t *testing.T) {
	for _, limit := range []int{leastMaxToken, defaultMaxToken, largestMaxToken} {
		for _, size := range []int{1, 2, 17, 127, 128, 129, 1000, backplane.MaxName} {
			for _, user := range []string{"", strings.Repeat("u", backplane.MaxName)} {
				token := vectorToken()
				token.user, token.groups = user, nil
				for i := range 2 * limit / (size + 1) {
					token.groups = append(token.groups, fmt.Sprintf("%0*d", size, i)[:size])
				}
				long := ResumeKey{ID: strings.Repeat("k", maxKeyID), Secret: vectorKey.Secret}
				text := token.sign(&long, limit)
				if len(text) > limit {
					t.Errorf("limit %d, groups of %d: %d bytes", limit, size, len(text))
				}
				o := ring(long)
				o.MaxToken = limit
				got, err := o.open(text, vectorScope, vectorTime)
				if err != nil {
					t.Fatalf("limit %d, groups of %d: %v", limit, size, err)
				}
				if !got.trimmed || !slices.Equal(got.groups, token.groups[:len(got.groups)]) {
					t.Errorf("limit %d, groups of %d: trimmed %v, %d groups", limit, size, got.trimmed, len(got.groups))
				}
				if room := limit - len(text); size > 3 && room > (size+3)*4/3+8 {
					t.Errorf("limit %d, groups of %d: there was room for %d bytes more", limit, size, room)
				}
			}
		}
	}
}

func TestResumeOptionsRefused(t *testing.T) {
	good := vectorKey
	other := bytes.Repeat([]byte("abcdefgh"), 4)
	many := make([]ResumeKey, maxResumeKeys+1)
	for i := range many {
		many[i] = ResumeKey{ID: strconv.Itoa(i), Secret: append(bytes.Clone(good.Secret), byte(i))}
	}
	restore := func(r *ResumeOptions) *ResumeOptions { r.Keys = nil; return r }
	for setting, o := range map[string]*ResumeOptions{
		"Resume.Keys must hold a key":     restore(&ResumeOptions{Lifetime: time.Minute}),
		"Resume.Keys must hold at most":   {Keys: many},
		"Resume.Keys[0].ID must be":       {Keys: []ResumeKey{{Secret: good.Secret}}},
		"Resume.Keys[1].ID must be 1":     {Keys: []ResumeKey{good, {ID: strings.Repeat("x", 33), Secret: other}}},
		"Resume.Keys[1].ID must be 1 ":    {Keys: []ResumeKey{good, {ID: "K 2", Secret: other}}},
		"Resume.Keys[1].ID must not be":   {Keys: []ResumeKey{good, {ID: "k1", Secret: other}}},
		"Resume.Keys[1].Secret must not":  {Keys: []ResumeKey{good, {ID: "k2", Secret: good.Secret}}},
		"Resume.Keys[0].Secret must be 3": {Keys: []ResumeKey{{ID: "k1", Secret: good.Secret[:31]}}},
		"Resume.Keys[0].Secret must be":   {Keys: []ResumeKey{{ID: "k1", Secret: bytes.Repeat(good.Secret, 40)}}},
		"Resume.Keys[0].Secret must be r": {Keys: []ResumeKey{{ID: "k1", Secret: make([]byte, 32)}}},
		"Resume.Lifetime must":            {Keys: []ResumeKey{good}, Lifetime: time.Second},
		"Resume.Lifetime must be":         {Keys: []ResumeKey{good}, Lifetime: 25 * time.Hour},
		"Resume.MaxToken must":            {Keys: []ResumeKey{good}, MaxToken: 2047},
		"Resume.MaxToken must be":         {Keys: []ResumeKey{good}, MaxToken: 65537},
	} {
		node, err := backplane.Open(t.Context(), inmem.NewBroker().Opener(), backplane.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(node, Options{Name: "ward", Resume: *o})
		if !errors.Is(err, backplane.ErrInvalidOption) || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: %v", setting, err)
		} else if strings.Contains(err.Error(), "0123") || strings.Contains(err.Error(), "abcd") {
			t.Errorf("%s: the error shows a secret: %v", setting, err)
		}
		if err = node.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A key that is printed, logged or encoded, by itself or in its options, does not show its secret.
func TestResumeKeyIsNotShown(t *testing.T) {
	o := Options{Name: "ward", Resume: *ring(vectorKey)}
	var shown strings.Builder
	h := &Hub{name: "ward", opts: &o}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&shown, verb+verb+verb+verb+verb+"\n", vectorKey, &vectorKey, o, h, struct{ hub *Hub }{h})
	}
	slog.New(slog.NewTextHandler(&shown, nil)).Info("x", "key", vectorKey, "options", o)
	slog.New(slog.NewJSONHandler(&shown, nil)).Info("x", "key", vectorKey, "keys", o.Resume.Keys)
	for _, text := range []string{
		string(vectorKey.Secret), hex.EncodeToString(vectorKey.Secret), base64.StdEncoding.EncodeToString(vectorKey.Secret),
		strings.Trim(fmt.Sprintf("%d", vectorKey.Secret), "[]"), "0x30, 0x31, 0x32", "30313233343536",
	} {
		if strings.Contains(shown.String(), text) {
			t.Errorf("%q is shown: %s", text, shown.String())
		}
	}
	if !strings.Contains(shown.String(), "ResumeKey(k1)") {
		t.Errorf("the key is not shown at all: %s", shown.String())
	}
}

func FuzzResumeToken(f *testing.F) {
	f.Add(vectorToken().sign(&vectorKey, defaultMaxToken))
	f.Add("")
	o := ring(vectorKey)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := o.open(text, vectorScope, vectorTime)
		if (got == nil) != errors.Is(err, ErrResume) {
			t.Fatalf("%+v, %v", got, err)
		}
		// What is signed is read without panic too, and what was read is written as it was.
		body := mustCut(text)
		r, err := decodeResumeToken(body)
		if err != nil {
			if !errors.Is(err, ErrResume) {
				t.Fatal(err)
			}
			return
		}
		if n := 0; len(r.groups) > len(body)/2 {
			t.Fatalf("%d groups of %d bytes, %d", len(r.groups), len(body), n)
		}
		again, err := ring(vectorKey).open(r.sign(&vectorKey, largestMaxToken), r.scope, r.issued)
		if r.lifetime > 0 && len(text) < defaultMaxToken/2 && (err != nil || !reflect.DeepEqual(again, r)) {
			t.Fatalf("%+v, written and read again: %+v, %v", r, again, err)
		}
	})
}

// mustCut takes any text as the part of a token that decodeResumeToken reads.
func mustCut(text string) []byte {
	if b, err := tokenText.DecodeString(text); err == nil {
		return b
	}
	return []byte(text)
}
