package dial

import (
	"regexp"
	"slices"
	"strings"
)

// checkConnectionString recognizes what ASP.NET programs are configured with, the string of StackExchange.Redis:
//
//	host:6379,password=…,ssl=true,abortConnect=false
//
// and says which URL means the same, without user and password.
func checkConnectionString(s string, haveNamespace bool) error {
	u, ok := fromConnectionString(s)
	if !ok {
		return nil
	}
	if !haveNamespace {
		u.query = append([]string{"namespace=NAME"}, u.query...)
	}
	hint := ""
	if strings.Contains(u.user, "PASSWORD") || strings.Contains(u.user, "USER") {
		hint = ", with user and password percent-encoded"
	}
	return invalid("this is a connection string of StackExchange.Redis, not a URL; write %s%s", u, hint)
}

// translation is the URL for a connection string, with words in place of what must not be shown.
type translation struct {
	scheme    string
	user      string // with the "@"
	endpoints []string
	query     []string
}

func (u translation) String() string {
	s := u.scheme + "://" + u.user + strings.Join(u.endpoints, ",")
	if len(u.query) > 0 {
		s += "?" + strings.Join(u.query, "&")
	}
	return s
}

// connectionOptions are the options of StackExchange.Redis that stand in strings most, in lower case. One suffices to
// know such a string.
func connectionOptions() []string {
	return []string{
		"abortconnect", "allowadmin", "asynctimeout", "channelprefix", "checkcertificaterevocation", "clientname", "configchannel",
		"connectretry", "connecttimeout", "defaultdatabase", "keepalive", "name", "password", "protocol", "proxy", "resolvedns",
		"responsetimeout", "servicename", "ssl", "sslhost", "sslprotocols", "synctimeout", "tiebreaker", "user", "version", "writebuffer",
	}
}

func fromConnectionString(s string) (u translation, ok bool) {
	u.scheme = "redis"
	// Where there is an @, the text may as well be "user:password@host" with commas, so nothing of it is shown.
	showEndpoints := !strings.Contains(s, "@")
	s, _, _ = strings.Cut(s, "?") // behind it, what looks like an option may be a parameter of a URL
	if scheme, rest, isURL := strings.Cut(s, "://"); isURL {
		if strings.Contains(rest, "@") && !strings.Contains(strings.ToLower(rest), ",password=") {
			return u, false
		}
		s = rest
		if strings.EqualFold(scheme, "rediss") {
			u.scheme = "rediss"
		}
	}
	var user, password string
	for segment := range strings.SplitSeq(s, ",") {
		segment = strings.TrimSpace(segment)
		key, value, isOption := strings.Cut(segment, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.ToLower(strings.TrimSpace(value))
		if !isOption || !slices.Contains(connectionOptions(), key) {
			// Endpoints come first. What follows an option, or what is none, may be the rest of a password with a comma.
			showEndpoints = showEndpoints && !ok && endpoint.MatchString(segment)
			if showEndpoints {
				u.endpoints = append(u.endpoints, segment)
			}
			continue
		}
		ok = true
		switch key {
		case "user":
			user, password = "USER", ":PASSWORD" // one without the other is no login
		case "password":
			password = ":PASSWORD"
		case "ssl":
			if value == "true" {
				u.scheme = "rediss"
			}
		case "sslhost":
			u.query = append(u.query, "ServerName=NAME")
		case "abortconnect":
			if value == "true" {
				u.query = append(u.query, "requireBroker=true")
			}
		}
	}
	if user+password != "" {
		u.user = user + password + "@"
	}
	if u.endpoints == nil {
		u.endpoints = []string{"HOST:6379"}
	}
	return u, ok
}

// endpoint matches what may be shown of a connection string.
var endpoint = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)
