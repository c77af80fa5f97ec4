package redis

import (
	"net/url"
	"strings"
)

// readURL sets the options that the URL gives, and tells whether it asks for TLS. Errors never show a part of the URL
// that may be a secret; those of net/url do, so they are not wrapped, and a URL with several hosts is none for net/url.
func (o *Options) readURL() (secure bool, err error) {
	scheme, rest, ok := strings.Cut(o.URL, "://")
	if !ok {
		return false, notURL(o.URL)
	}
	switch strings.ToLower(scheme) {
	case "redis":
	case "rediss":
		secure = true
	default:
		return false, invalid("URL has a scheme that is not redis or rediss; write redis://host:6379, or rediss:// for TLS")
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.ContainsRune(tail, '@') { // what looks like a path or a query may be part of a password
		return false, invalid("URL has an '@' after the host; in a user or password write %%2F for /, %%3F for ?, %%23 for #, elsewhere %%40 for @")
	}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		hosts = authority[i+1:]
		if err := o.readUser(authority[:i]); err != nil {
			return false, err
		}
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, ok := endpoint(host)
		if !ok {
			return false, invalid("URL has a host that is not host or host:port; write redis://host:6379, several hosts with commas, IPv6 in brackets")
		}
		o.Addresses = append(o.Addresses, addr)
	}
	return secure, o.readTail(tail)
}

// readUser sets Username and Password from what stands before the '@'.
func (o *Options) readUser(userinfo string) error {
	user, password, _ := strings.Cut(userinfo, ":")
	for _, part := range []struct {
		name, text string
		field      *string
	}{{"Username", user, &o.Username}, {"Password", password, &o.Password}} {
		text, err := url.PathUnescape(part.text)
		if err != nil {
			return invalid("URL: the %s is not escaped properly; write %%25 for %%", part.name)
		}
		if text == "" {
			continue
		}
		if *part.field != "" {
			return invalid("URL gives a %s, and the Options do as well; write it in one place only", part.name)
		}
		*part.field = text
	}
	return nil
}

// readTail reads path and query.
func (o *Options) readTail(tail string) error {
	tail, _, fragment := strings.Cut(tail, "#")
	if fragment {
		return invalid("URL has a '#', which means nothing here; in a password write %%23")
	}
	path, query, _ := strings.Cut(tail, "?")
	if path != "" && path != "/" && path != "/0" {
		return invalid("URL has a path; pub/sub ignores database numbers, so leave it out: applications are kept apart by Namespace")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return invalid("URL has a query that does not parse; write ?Option=value&Option=value, with %%26 for &, %%25 for %% and %%2B for +")
	}
	for key, given := range values {
		name, field := o.plain(key)
		switch {
		case field == nil:
			return invalid("the URL's parameter %q is not known; the transport's parameters are %s", key, strings.Join(plainNames(), ", "))
		case len(given) != 1 || given[0] == "":
			return invalid("the URL's parameter %s must be given once, with a value", name)
		case *field != "":
			return invalid("the URL's parameter %s is given elsewhere as well; write it in one place only", name)
		}
		*field = given[0]
	}
	return nil
}

// plain finds the field of an option that can stand in a URL's query, under its name in any case.
func (o *Options) plain(key string) (name string, field *string) {
	fields := []*string{&o.Username, &o.Password, &o.CAFile, &o.CertFile, &o.KeyFile, &o.ServerName}
	for i, name := range plainNames() {
		if strings.EqualFold(name, key) {
			return name, fields[i]
		}
	}
	return "", nil
}

func plainNames() []string {
	return []string{"Username", "Password", "CAFile", "CertFile", "KeyFile", "ServerName"}
}

// notURL makes the error for text that is not a URL. The connection strings of StackExchange.Redis are common enough,
// "host:6379,password=secret,ssl=true", to say what to write instead.
func notURL(text string) error {
	if strings.ContainsRune(text, '@') { // a part of it may be a password, even one that looks like a host
		return invalid("URL is none; write redis://user:password@host:6379, or rediss:// for TLS")
	}
	parts := strings.Split(text, ",")
	var hosts []string
	scheme, user, password := "redis", "", ""
	for _, part := range parts {
		key, value, setting := strings.Cut(strings.TrimSpace(part), "=")
		addr, isEndpoint := endpoint(key)
		switch {
		case !setting && isEndpoint && password == "": // later it could be the rest of a password with a comma
			hosts = append(hosts, addr)
		case strings.EqualFold(key, "ssl") && strings.EqualFold(value, "true"):
			scheme = "rediss"
		case strings.EqualFold(key, "password"):
			password = ":PASSWORD@"
		case strings.EqualFold(key, "user"):
			user = "USER"
		}
	}
	if len(parts) == 1 || len(hosts) == 0 {
		return invalid("URL is none; write redis://host:6379, or rediss:// for TLS")
	}
	return invalid("URL is a connection string of StackExchange.Redis; write %s://%s%s%s", scheme, user, password, strings.Join(hosts, ","))
}
