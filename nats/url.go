package nats

import (
	"net/url"
	"strconv"
	"strings"
)

// readURL sets the options that the URL gives, and tells whether it asks for TLS. Errors never show a part of the URL
// that may be a secret; those of net/url do, so they are not wrapped, and a URL with several hosts is none for net/url.
func (o *Options) readURL() (secure bool, err error) {
	scheme, rest, ok := strings.Cut(o.URL, "://")
	if !ok {
		return false, invalid("URL is none; write nats://host:4222, or tls:// for TLS")
	}
	switch strings.ToLower(scheme) {
	case "nats":
	case "tls":
		secure = true
	default:
		return false, invalid("URL has a scheme that is not nats or tls; write nats://host:4222, or tls:// for TLS")
	}
	if strings.Contains(rest, ",nats://") || strings.Contains(rest, ",tls://") {
		return false, invalid("URL names its scheme for each server; write it, and the user, once: nats://user:password@a:4222,b:4222")
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.ContainsRune(tail, '@') { // what looks like a path or a query may be part of a password
		return false, invalid("URL has an '@' after the host; in a user, password or token write %%2F for /, %%3F for ?, %%23 for #, elsewhere %%40 for @")
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
			return false, invalid("URL has a host that is not host or host:port; write nats://host:4222, several hosts with commas, IPv6 in brackets")
		}
		o.Addresses = append(o.Addresses, addr)
	}
	return secure, o.readTail(tail)
}

// readUser sets Username and Password, or Token, from what stands before the '@'.
func (o *Options) readUser(userinfo string) error {
	type part struct {
		name, text string
		field      *string
	}
	parts := []part{{"Token", userinfo, &o.Token}}
	if user, password, ok := strings.Cut(userinfo, ":"); ok {
		parts = []part{{"Username", user, &o.Username}, {"Password", password, &o.Password}}
	}
	for _, part := range parts {
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
	if path != "" && path != "/" {
		return invalid("URL has a path, which means nothing here; leave it out: applications are kept apart by Namespace")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return invalid("URL has a query that does not parse; write ?Option=value&Option=value, with %%26 for &, %%25 for %% and %%2B for +")
	}
	replicas := ""
	if o.Replicas != 0 {
		replicas = strconv.Itoa(o.Replicas)
	}
	for key, given := range values {
		name, field := o.plain(key, &replicas)
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
	if replicas != "" {
		if o.Replicas, err = strconv.Atoi(replicas); err != nil {
			return invalid("the URL's parameter Replicas must be a number, 1 to 5")
		}
	}
	return nil
}

// plain finds the field of an option that can stand in a URL's query, under its name in any case.
func (o *Options) plain(key string, replicas *string) (name string, field *string) {
	fields := []*string{
		&o.Username, &o.Password, &o.Token, &o.CredentialsFile, &o.NKeySeedFile, &o.CAFile, &o.CertFile, &o.KeyFile, &o.ServerName,
		&o.Bucket, replicas,
	}
	for i, name := range plainNames() {
		if strings.EqualFold(name, key) {
			return name, fields[i]
		}
	}
	return "", nil
}

func plainNames() []string {
	return []string{
		"Username", "Password", "Token", "CredentialsFile", "NKeySeedFile", "CAFile", "CertFile", "KeyFile", "ServerName",
		"Bucket", "Replicas",
	}
}
