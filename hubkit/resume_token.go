package hubkit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/gobackplane/backplane"
)

// A resume token is base64url, without padding, of
//
//	version     1 byte    resumeVersion
//	key         uvarint length, the id of the key that signed it
//	scope       8 bytes   of the namespace and the hub, see newScope
//	session     16 bytes
//	generation  uvarint   of the connection in its session, from 1
//	issued      uvarint   Unix time in milliseconds
//	lifetime    uvarint   milliseconds
//	flags       1 byte    tokenTrimmed: there were more groups
//	user        uvarint length, bytes
//	groups      uvarint count, then for each: uvarint length, bytes
//	mac         32 bytes  HMAC-SHA-256 of tokenDomain and all that stands before
//
// It is signed, not encrypted.
const resumeVersion = 1

const tokenTrimmed = 0x01

// tokenDomain keeps what the key signs here apart from whatever else it signs.
const tokenDomain = "backplane hubkit resume token\x00"

// tokenText is the text of tokens. Strict: a token has one spelling only.
var tokenText = base64.RawURLEncoding.Strict() //nolint:gochecknoglobals // a constant

// sessionID names a session: what a client's connections are one of, as long as it comes back.
type sessionID [16]byte

// scope stands for a namespace and a hub in it.
type scope [8]byte

func newScope(namespace, hub string) scope {
	sum := sha256.Sum256([]byte("backplane hubkit resume scope\x00" + namespace + "\x00" + hub))
	return scope(sum[:])
}

// resumeToken is what a token says.
type resumeToken struct {
	scope      scope
	session    sessionID
	generation uint64
	issued     time.Time
	lifetime   time.Duration
	trimmed    bool
	user       string
	groups     []string
}

func (t *resumeToken) expires() time.Time { return t.issued.Add(t.lifetime) }

// sign makes the text of a token. Groups beyond the limit are left out, the last ones first.
func (t *resumeToken) sign(key *ResumeKey, limit int) string {
	b := append(make([]byte, 0, 256), resumeVersion) //nolint:mnd // most are smaller
	b = appendID(b, key.ID)
	b = append(b, t.scope[:]...)
	b = append(b, t.session[:]...)
	b = binary.AppendUvarint(b, t.generation)
	b = binary.AppendUvarint(b, uint64(max(t.issued.UnixMilli(), 0)))
	b = binary.AppendUvarint(b, uint64(max(t.lifetime.Milliseconds(), 0)))
	flags := len(b)
	b = append(b, 0)
	b = appendID(b, t.user)
	room := tokenText.DecodedLen(limit) - len(b) - sha256.Size - binary.MaxVarintLen16
	var fitting idList
	n := 0
	for _, g := range t.groups {
		longer := appendID(fitting, g)
		if len(longer) > room {
			break
		}
		fitting = longer
		n++
	}
	if t.trimmed = t.trimmed || n < len(t.groups); t.trimmed {
		b[flags] |= tokenTrimmed
	}
	b = append(binary.AppendUvarint(b, uint64(n)), fitting...)
	return tokenText.EncodeToString(append(b, key.mac(b)...))
}

// mac signs.
func (k *ResumeKey) mac(b []byte) []byte {
	h := hmac.New(sha256.New, k.Secret)
	h.Write([]byte(tokenDomain))
	h.Write(b)
	return h.Sum(nil)
}

// open reads a token and checks everything that needs no other instance. Errors hold nothing of it.
func (o *ResumeOptions) open(text string, here scope, now time.Time) (*resumeToken, error) {
	if len(text) > o.MaxToken {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrResumeTooLong, len(text), o.MaxToken)
	}
	b, err := tokenText.DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return nil, fmt.Errorf("%w: it is not base64url", ErrResumeMalformed) // the error quotes it
	}
	signed, err := o.verify(b)
	if err != nil {
		return nil, err
	}
	t, err := decodeResumeToken(signed)
	switch {
	case err != nil:
		return nil, err
	case t.scope != here:
		return nil, ErrResumeForeign
	case !now.Before(t.expires()):
		return nil, ErrResumeExpired
	case t.issued.After(now.Add(resumeSkew)):
		return nil, fmt.Errorf("%w, or not yet valid: the clocks of two instances disagree by %v", ErrResumeExpired, t.issued.Sub(now))
	}
	return t, nil
}

// verify returns what was signed, without version and key.
func (o *ResumeOptions) verify(b []byte) ([]byte, error) {
	switch {
	case len(b) < sha256.Size+2:
		return nil, fmt.Errorf("%w: %d bytes", ErrResumeMalformed, len(b))
	case b[0] != resumeVersion:
		return nil, fmt.Errorf("%w: %w: version %d", ErrResume, backplane.ErrUnsupported, b[0])
	}
	signed, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	id, rest, ok := cutBytes(signed[1:])
	if !ok {
		return nil, fmt.Errorf("%w: its key", ErrResumeMalformed)
	}
	for i := range o.Keys {
		if k := &o.Keys[i]; k.ID == string(id) {
			if !hmac.Equal(mac, k.mac(signed)) {
				return nil, ErrResumeForged
			}
			return rest, nil
		}
	}
	return nil, fmt.Errorf("%w: nor is its key known", ErrResumeForged)
}

// decodeResumeToken reads what stands between the key and the mac.
func decodeResumeToken(b []byte) (*resumeToken, error) {
	var t resumeToken
	if len(b) < len(t.scope)+len(t.session) {
		return nil, fmt.Errorf("%w: it ends early", ErrResumeMalformed)
	}
	b = b[copy(t.scope[:], b):]
	b = b[copy(t.session[:], b):]
	generation, b, ok1 := cutUvarint(b)
	issued, b, ok2 := cutUvarint(b)
	lifetime, b, ok3 := cutUvarint(b)
	const latest = 1 << 50 // milliseconds: 35,000 years
	if !ok1 || !ok2 || !ok3 || generation == 0 || issued > latest || lifetime > uint64(longestLifetime/time.Millisecond) || len(b) == 0 {
		return nil, fmt.Errorf("%w: its generation or times", ErrResumeMalformed)
	}
	flags := b[0]
	if flags&^tokenTrimmed != 0 {
		return nil, fmt.Errorf("%w: %w: flags %#x", ErrResume, backplane.ErrUnsupported, flags)
	}
	user, b, ok := cutBytes(b[1:])
	if !ok || len(user) > backplane.MaxName {
		return nil, fmt.Errorf("%w: its user", ErrResumeMalformed)
	}
	groups, b, ok := cutNames(b)
	if !ok || len(b) > 0 {
		return nil, fmt.Errorf("%w: its groups", ErrResumeMalformed)
	}
	t.generation, t.issued, t.lifetime = generation, time.UnixMilli(int64(issued)), time.Duration(lifetime)*time.Millisecond
	t.trimmed, t.user, t.groups = flags&tokenTrimmed != 0, string(user), groups
	return &t, nil
}

// appendNames appends a list of names, which may be empty.
func appendNames(b []byte, names []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = appendID(b, name)
	}
	return b
}

// cutNames reads a list of names.
func cutNames(b []byte) (names []string, rest []byte, ok bool) {
	n, rest, ok := cutUvarint(b)
	if !ok || n > uint64(len(rest))/2 { // none is shorter than its length and a byte
		return nil, nil, false
	}
	if n > 0 {
		names = make([]string, 0, n)
	}
	for range n {
		var name []byte
		if name, rest, ok = cutBytes(rest); !ok || len(name) == 0 || len(name) > backplane.MaxName {
			return nil, nil, false
		}
		names = append(names, string(name))
	}
	return names, rest, true
}
