package redis

import (
	"strings"

	"github.com/gobackplane/backplane/internal/dialing"
)

// readURL sets the options that the URL gives, and tells whether it asks for TLS.
func (o *Options) readURL() (secure bool, err error) {
	if !strings.Contains(o.URL, "://") {
		if err = notURL(o.URL); err != nil {
			return false, err
		}
	}
	u, err := dialing.Form{Plain: "redis", Secure: "rediss", Port: defaultPort}.Read(o.URL, dialing.Options{
		dialing.Text("Username", &o.Username), dialing.Text("Password", &o.Password),
		dialing.Text("CAFile", &o.CAFile), dialing.Text("CertFile", &o.CertFile), dialing.Text("KeyFile", &o.KeyFile),
		dialing.Text("ServerName", &o.ServerName),
	})
	switch {
	case err != nil:
		return false, invalid("%v", err)
	case u.Path != "" && u.Path != "/" && u.Path != "/0":
		return false, invalid("URL has a path; pub/sub ignores database numbers, so leave it out: applications are kept apart by Namespace")
	}
	o.Addresses = u.Addresses
	return u.Secure, nil
}

// notURL makes the error for text that is not a URL where there is more to say than that. The connection strings of
// StackExchange.Redis are common enough, "host:6379,password=secret,ssl=true", to say what to write instead.
func notURL(text string) error {
	if strings.ContainsRune(text, '@') { // a part of it may be a password, even one that looks like a host
		return invalid("URL is none; write redis://user:password@host:6379, or rediss:// for TLS")
	}
	parts := strings.Split(text, ",")
	var hosts []string
	scheme, user, password := "redis", "", ""
	for _, part := range parts {
		key, value, setting := strings.Cut(strings.TrimSpace(part), "=")
		addr, isEndpoint := dialing.Endpoint(key, defaultPort)
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
		return nil
	}
	return invalid("URL is a connection string of StackExchange.Redis; write %s://%s%s%s", scheme, user, password, strings.Join(hosts, ","))
}
