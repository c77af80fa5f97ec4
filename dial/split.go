package dial

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/gobackplane/backplane"
)

// parts is a URL cut at its seams. It is not made by package net/url, whose errors quote what they were given, password
// included, and which refuses the several endpoints that a transport may accept.
type parts struct {
	scheme    string // in lower case
	hierarchy bool   // "//" follows the scheme
	authority string // user, password and endpoints, without the "//"
	path      string // the path with its "/", or all between scheme and query where there is no "//"
	query     string // without the "?"
	hasQuery  bool
}

const example = "write for example redis://HOST:6379?namespace=NAME, nats://HOST:4222?namespace=NAME, or inmem:"

// nextURL finds the second URL of a list, as NATS's programs take them.
var nextURL = regexp.MustCompile(`,[A-Za-z][A-Za-z0-9+.-]*://`)

// invalid makes every error of this package. Its arguments must not come from where a secret could be.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{backplane.ErrInvalidOption}, args...)...)
}

// split cuts a URL. Its errors, like all in this file, tell what is wrong without showing what is there.
func split(rawurl string) (u parts, err error) {
	odd := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	switch {
	case rawurl == "":
		return u, invalid("the URL is empty; " + example)
	case strings.TrimFunc(rawurl, odd) == "":
		return u, invalid("the URL is nothing but white space; " + example)
	case strings.TrimFunc(rawurl, odd) != rawurl:
		return u, invalid("the URL begins or ends with white space or a control character, a line break perhaps; trim it")
	case strings.ContainsFunc(rawurl, odd):
		return u, invalid("the URL holds white space or a control character; percent-encode it, as %%20 for a space")
	}
	scheme, rest, ok := strings.Cut(rawurl, ":")
	if !ok || !isScheme(scheme) {
		return u, invalid("the URL has no scheme; " + example)
	}
	u.scheme = strings.ToLower(scheme)
	rest, u.query, u.hasQuery = strings.Cut(rest, "?")
	u.path = rest
	if rest, u.hierarchy = strings.CutPrefix(rest, "//"); u.hierarchy {
		u.authority, u.path = rest, ""
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			u.authority, u.path = rest[:i], rest[i:]
		}
	}
	return u, nil
}

// isScheme is the rule of RFC 3986.
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20 // lower case, for letters
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(s[i]))) {
			return false
		}
	}
	return s != ""
}

// unknownScheme shows the scheme only where it surely is one: in "name:secret" it could be anything.
func unknownScheme(u parts, known []string) error {
	if !u.hierarchy && u.path != "" {
		return invalid("the URL has no scheme; " + example)
	}
	return invalid("the URL's scheme %q is not known here; known are %s (others can be passed in)", u.scheme, strings.Join(known, ", "))
}

// check refuses what would be read in another way than it was meant. Most of all, a password with a bare '/', '?' or
// '#' ends the authority early, and its rest would pass for a path, or for the name of a parameter, which is shown.
func (u *parts) check() error {
	user, _, hasUser := cutLast(u.authority, "@")
	_, badEscape := url.PathUnescape(user)
	switch {
	case nextURL.MatchString(u.authority + u.path):
		return invalid("the URL is a list of several; write one, %s://HOST,HOST, with user and password once, before the first host", u.scheme)
	case !u.hierarchy && strings.Contains(u.path, "@"):
		return invalid("the URL has a user but no // after the scheme; write %s://USER:PASSWORD@HOST", u.scheme)
	case strings.Contains(u.path, "@"), strings.Contains(u.query, "@"):
		return invalid("the URL holds an @ after the endpoint; percent-encode / ? # @ in user and password, as %%2F %%3F %%23 %%40, and @ elsewhere")
	case strings.Contains(u.authority+u.path+u.query, "#"):
		return invalid("the URL holds a #, which has no meaning here; in a user, password or value write %%23")
	case hasUser && strings.Contains(user, "@"):
		return invalid("the URL holds more than one @ before the endpoint; in user and password write %%40")
	case hasUser && badEscape != nil:
		return invalid("user or password of the URL hold a %% that begins no escape; write %%25")
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// takeOptions moves the options of a node from the query to o, and returns the URL without them, otherwise as written.
func (u *parts) takeOptions(o *backplane.Options) (rest string, err error) {
	values, err := url.ParseQuery(u.query)
	if err != nil {
		return "", invalid("the URL's query does not parse; separate parameters by &, and write %%25 for %% and %%3B for ; in a value")
	}
	others, err := o.SetFromQuery(values)
	if err != nil {
		return "", err
	}
	var pairs []string
	for pair := range strings.SplitSeq(u.query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if key, err = url.QueryUnescape(key); err == nil && others.Has(key) {
			pairs = append(pairs, pair)
		}
	}
	rest = u.scheme + ":"
	if u.hierarchy {
		rest += "//"
	}
	rest += u.authority + u.path
	if len(pairs) > 0 {
		rest += "?" + strings.Join(pairs, "&")
	}
	return rest, nil
}
