package dialing

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Form is what the URLs of a transport look like:
//
//	scheme://[user[:password]@]host[:port][,host[:port]...][?Option=value...]
type Form struct {
	Plain, Secure string // schemes, without TLS and with it
	Port          string // where the URL has none
	Token         bool   // what stands alone before the '@' is a token, not a user
}

// URL is what a URL says beside options.
type URL struct {
	Secure    bool
	Addresses []string // "host:port", at least one
	Path      string   // means nothing, if it is not "" or "/"
}

// Read takes a URL apart, and sets the options that it gives. Among them are Username and Password, and Token where the
// form has one. Several hosts in a URL are none for net/url.
func (f Form) Read(text string, options Options) (URL, error) {
	var u URL
	scheme, rest, ok := strings.Cut(text, "://")
	switch {
	case !ok:
		return u, fmt.Errorf("URL is none; write %s", f.example())
	case strings.EqualFold(scheme, f.Secure):
		u.Secure = true
	case !strings.EqualFold(scheme, f.Plain):
		return u, fmt.Errorf("URL has a scheme that is not %s or %s; write %s", f.Plain, f.Secure, f.example())
	}
	if strings.Contains(rest, ","+f.Plain+"://") || strings.Contains(rest, ","+f.Secure+"://") {
		return u, fmt.Errorf("URL names its scheme for each server; write it, and the user, once: %s://user:password@a:%s,b:%[2]s", f.Plain, f.Port)
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.ContainsRune(tail, '@') { // what looks like a path or a query may be part of a password
		secrets := "user or password"
		if f.Token {
			secrets = "user, password or token"
		}
		return u, fmt.Errorf("URL has an '@' after the host; in a %s write %%2F for /, %%3F for ?, %%23 for #, elsewhere %%40 for @", secrets)
	}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		hosts = authority[i+1:]
		if err := f.readUser(authority[:i], options); err != nil {
			return u, err
		}
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, ok := Endpoint(host, f.Port)
		if !ok {
			return u, fmt.Errorf("URL has a host that is not host or host:port; write %s://host:%s, several hosts with commas, IPv6 in brackets",
				f.Plain, f.Port)
		}
		u.Addresses = append(u.Addresses, addr)
	}
	tail, _, fragment := strings.Cut(tail, "#")
	if fragment {
		return u, errors.New("URL has a '#', which means nothing here; in a password write %23")
	}
	u.Path, tail, _ = strings.Cut(tail, "?")
	return u, options.ReadQuery(tail)
}

func (f Form) example() string {
	return fmt.Sprintf("%s://host:%s, or %s:// for TLS", f.Plain, f.Port, f.Secure)
}

// readUser sets what stands before the '@'.
func (f Form) readUser(userinfo string, options Options) error {
	user, password, two := strings.Cut(userinfo, ":")
	parts := []struct{ name, text string }{{"Username", user}, {"Password", password}}
	if f.Token && !two {
		parts[0].name = "Token"
	}
	for _, part := range parts {
		text, err := url.PathUnescape(part.text)
		if err != nil {
			return fmt.Errorf("URL: the %s is not escaped properly; write %%25 for %%", part.name)
		}
		if text == "" {
			continue
		}
		o := options.find(part.name)
		if o.given() {
			return fmt.Errorf("URL gives a %s, and the Options do as well; write it in one place only", part.name)
		}
		if err := o.set(text); err != nil {
			return err
		}
	}
	return nil
}
