package backplane

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// letters is the least that a broker may allow, with '.' as its delimiter.
func letters(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-' || b == '.'
}

var namers = map[string]*namer{
	"redis":  {prefix: "ward:", delim: ':'},
	"narrow": {prefix: "ward.", delim: '.', longest: 60, allowed: letters},
	"short":  {prefix: "ward:", delim: ':', longest: 60},
	"tokens": {prefix: "ward.", delim: '.', tokens: true},
}

func TestChannelNames(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		namer string
		to    Address
		want  string
	}{
		{"redis", Group("ward:4B"), "ward:g:ward:4B"},
		{"redis", Group("ward:4B").In("chat"), "ward:g@chat:ward:4B"},
		{"redis", User("ü \n*{}"), "ward:u:ü \n*{}"},
		{"redis", All(), "ward:a:"},
		{"redis", All().In("chat"), "ward:a@chat:"},
		{"redis", Inbox("0123456789abcdef"), "ward:n:0123456789abcdef"},
		{"redis", Group(long), "ward:g:" + long},
		{"short", Group("4B"), "ward:g:4B"},
		{"narrow", Group("4B"), "ward.g.4B"},
		{"tokens", All(), "ward.a"},
		{"tokens", All().In("chat"), "ward.a@chat"},
		{"tokens", Group("4B"), "ward.g.4B"},
	} {
		if got := namers[c.namer].channel(c.to); got != c.want {
			t.Errorf("%s: %v has channel %q, want %q", c.namer, c.to, got, c.want)
		}
	}
	for _, c := range []struct {
		namer string
		to    Address
	}{
		{"short", Group(long)}, {"short", Group(long).In("chat")}, {"short", Group("x").In(long[:64])},
		{"narrow", Group("ward:4B")}, {"narrow", Group("a b")}, {"narrow", Group("x").In("chat")}, {"narrow", User("ü")},
		{"tokens", Group("a.b")}, {"tokens", Group(".")}, {"tokens", Group("a.")}, {"tokens", User(".a").In("chat")},
	} {
		got := namers[c.namer].channel(c.to)
		plain := namers[c.namer].prefix + string(rune(c.to.kind)) + "_"
		if rest, ok := strings.CutPrefix(got, plain); !ok || len(rest) != 26 || len(got) > 60 {
			t.Errorf("%s: %v has channel %q, want %s and a hash", c.namer, c.to, got, plain)
		}
	}
}

// FuzzChannelNames takes two addresses: their channels are equal only if they are, whatever the broker's limits; and each
// channel fits, and begins with the namespace and the delimiter.
func FuzzChannelNames(f *testing.F) {
	kinds := []Kind{KindAll, KindGroup, KindUser, KindConnection, KindInbox, kindSystem}
	f.Add(byte(1), "", "ward:4B", byte(1), "ward", "4B")
	f.Add(byte(1), "a", "b:c", byte(1), "", "a:b:c")
	f.Add(byte(1), "", "@a:b", byte(1), "a", "b")
	f.Add(byte(0), "", "", byte(0), "g", "")
	f.Add(byte(1), "", "_abc", byte(2), "", "_abc")
	f.Add(byte(1), "", strings.Repeat("x", 200), byte(1), "", strings.Repeat("x", 201))
	f.Fuzz(func(t *testing.T, k1 byte, scope1, name1 string, k2 byte, scope2, name2 string) {
		one := Address{kind: kinds[int(k1)%len(kinds)], scope: scope1, name: name1}
		two := Address{kind: kinds[int(k2)%len(kinds)], scope: scope2, name: name2}
		for _, a := range []*Address{&one, &two} {
			if a.kind == KindAll {
				a.name = ""
			}
			if err := a.Validate(); err != nil && a.kind != kindSystem || a.scope != "" && !plainName(a.scope) {
				return
			}
		}
		for name, m := range namers {
			c1, c2 := m.channel(one), m.channel(two)
			if (c1 == c2) != (one == two) {
				t.Errorf("%s: %#v and %#v have channels %q and %q", name, one, two, c1, c2)
			}
			if !m.fits(c1) || !strings.HasPrefix(c1, m.prefix) {
				t.Errorf("%s: channel %q", name, c1)
			}
			if m.tokens && slices.Contains(strings.Split(c1, string(rune(m.delim))), "") {
				t.Errorf("%s: channel %q has an empty token", name, c1)
			}
			if owned := m.owned(one, c1); owned != one {
				t.Errorf("%s: %#v became %#v", name, one, owned)
			}
		}
	})
}

func TestHashedNamesInTexts(t *testing.T) {
	secret := Group("patient 4711").In("chat")
	err := &Error{Op: "publish", Address: secret, Err: ErrUnavailable, hashNames: true}
	if text := err.Error(); strings.Contains(text, "4711") || !strings.Contains(text, `group "#`) || !strings.Contains(text, `"chat"`) {
		t.Errorf("hashed: %s", text)
	}
	err.hashNames = false
	if text := err.Error(); !strings.Contains(text, `group "patient 4711" in "chat"`) {
		t.Errorf("plain: %s", text)
	}
	if Group("a").display(true) == Group("b").display(true) {
		t.Error("two names have one hash")
	}
	if All().display(true) != "all" {
		t.Errorf("all is %q", All().display(true))
	}
}

func TestValidate(t *testing.T) {
	for _, a := range []Address{
		All(), Group("x"), User("*"), Connection(" "), Inbox("0123456789abcdef"), Group(strings.Repeat("x", MaxName)), Group("a\x00\n{}é"),
		Group("x").In("a"), Group("x").In(strings.Repeat("a-_9", 16)),
	} {
		if err := a.Validate(); err != nil {
			t.Errorf("%#v: %v", a, err)
		}
	}
	for _, a := range []Address{
		{}, Group(""), User(""), Connection(""), Inbox(""), Group(strings.Repeat("x", MaxName+1)), Group("\xff"), Group("a\xc3"),
		Group("x").In(""), Group("x").In("A"), Group("x").In("a b"), Group("x").In("ä"), Group("x").In(strings.Repeat("a", 65)), Group("x").In("\x00"),
		{kind: KindAll, name: "x"}, {kind: kindSystem, name: "members"}, {kind: 'z', name: "x"},
	} {
		err := a.Validate()
		if !errors.Is(err, ErrInvalidAddress) {
			t.Errorf("%#v: %v", a, err)
		}
		if err != nil && a.name != "" && len(a.name) < 20 && utf8.ValidString(a.name) && len(a.name) > 1 && strings.Contains(err.Error(), a.name) {
			t.Errorf("%#v: the error shows the name: %v", a, err)
		}
	}
}
