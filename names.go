package backplane

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// hashMark stands behind the kind where a hash follows: a byte that every broker carries, and that is neither a delimiter nor
// the '@' before a scope.
const hashMark = "_"

// hashedName is the length of a hashed rest of a channel name: the kind, the mark, and 26 characters for 128 bits.
const hashedName = 2 + 26

// namer turns addresses into channel names: the namespace, a delimiter, the kind, the scope if there is one, and the
// name. A name that the broker cannot carry is hashed; the full address rides in the frame and decides.
type namer struct {
	prefix  string // namespace and delimiter
	delim   byte
	longest int               // 0 for no limit
	allowed func(b byte) bool // nil for any byte
	tokens  bool              // no empty token between delimiters
}

// channel returns, for example, "ward:g:ward:4B", "ward:g@chat:ward:4B" for the scope "chat", and "ward:a:" for All
// ("ward.a" where names are tokens). The kind is one letter and a scope holds no delimiter, so that no two addresses share
// a name.
func (m *namer) channel(a Address) string {
	var b strings.Builder
	b.Grow(len(m.prefix) + 3 + len(a.scope) + len(a.name))
	b.WriteString(m.prefix)
	b.WriteByte(byte(a.kind))
	if a.scope != "" {
		b.WriteByte('@')
		b.WriteString(a.scope)
	}
	if a.name != "" || !m.tokens {
		b.WriteByte(m.delim)
	}
	b.WriteString(a.name)
	if name := b.String(); m.fits(name) && (!m.tokens || strings.IndexByte(a.name, m.delim) < 0) {
		return name
	}
	sum := sha256.Sum256([]byte(a.scope + "\x00" + a.name)) // a scope holds no NUL
	return m.prefix + string(rune(a.kind)) + hashMark + channelHash.EncodeToString(sum[:16])
}

func (m *namer) fits(name string) bool {
	if m.longest > 0 && len(name) > m.longest {
		return false
	}
	if m.allowed == nil {
		return true
	}
	for i := range len(name) {
		if !m.allowed(name[i]) {
			return false
		}
	}
	return true
}

// channelHash is what every broker allows in a name: letters and digits, and no difference of case.
//
//nolint:gochecknoglobals // a constant, but for the language
var channelHash = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// owned returns the address with its name pointing into the channel name where it stands there, so that an address that
// is kept does not keep a second copy of its name alive.
func (m *namer) owned(a Address, channel string) Address {
	if rest, ok := strings.CutSuffix(channel, a.name); ok && len(rest) > 0 {
		a.name = channel[len(rest):]
	}
	return a
}

// show formats an address with the given text in place of its name.
func (a Address) show(name string) string {
	s := a.kind.String()
	if a.kind != KindAll {
		s += fmt.Sprintf(" %q", name)
	}
	if a.scope != "" {
		s += fmt.Sprintf(" in %q", strings.TrimPrefix(a.scope, emptyScope))
	}
	return s
}

// display is String, with the name as a short hash where names are not to be shown.
func (a Address) display(hashed bool) string {
	if !hashed || a.name == "" {
		return a.String()
	}
	sum := sha256.Sum256([]byte(a.name))
	return a.show("#" + hex.EncodeToString(sum[:4]))
}

func itoa(i int) string { return strconv.Itoa(i) }
