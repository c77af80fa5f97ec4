package dial_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/dial"
	"github.com/gobackplane/backplane/transport"
)

// forms are the places where a password can stand, in good URLs and bad ones.
func forms(user, password, rest string) []string {
	return []string{
		"redis://" + user + ":" + password + "@" + rest,
		"rediss://:" + password + "@" + rest,
		"nats://" + user + ":" + password + "@" + rest,
		"tls://" + user + ":" + password + "@" + rest + ",host",
		"nats://" + password + "@" + rest, // a token
		"nats://" + user + ":" + password + "@" + rest + ",nats://" + user + ":" + password + "@" + rest,
		"inmem://" + user + ":" + password + "@" + rest,
		"nosuch://" + user + ":" + password + "@" + rest,
		"redis:" + user + ":" + password + "@" + rest,
		"nats:" + password + "@" + rest,
		user + ":" + password + "@" + rest,
		"host:6379," + user + "=,password=" + password,
		"host:6379,ssl=true,password=" + password + "," + rest,
		"redis://host:6379,password=" + password,
		"redis://host?password=" + url.QueryEscape(password),
		"nats://host?token=" + url.QueryEscape(password),
		"redis://host?maxPayload=" + url.QueryEscape(password),
		"inmem:?password=" + url.QueryEscape(password),
	}
}

// Whatever a password holds and whatever stands around it, no error shows it.
func FuzzNoErrorShowsAPassword(f *testing.F) {
	const secret = "hunter2"
	for _, around := range []string{
		"", "/", "?", "#", "@", "%", "%2", ":", ",", "&", "=", ";", "[", "]", "\\", " ", "\n", "\x00", "\xff",
		"?a=", "?namespace=", ",ssl=", "]:", "//", "://",
	} {
		f.Add("user", around, around, "host:6379")
		f.Add("", around, "", "host:6379?namespace=ward")
		f.Add(around, "", around, "host:x")
		f.Add("user", around, around, "host:4222,[::1],host")
	}
	f.Add("user", "1,", ",ssl=", "host:6379") // a password that looks like options
	f.Fuzz(func(t *testing.T, user, before, after, rest string) {
		if strings.Contains(user+rest, secret) {
			return
		}
		for _, raw := range forms(user, before+secret+after, rest) {
			open, _, err := dial.Parse(raw, backplane.Options{Namespace: "ward"})
			if err == nil {
				var tr transport.Transport
				if tr, err = open(transport.Config{Node: "0123456789abcdef", Namespace: "ward", Logger: slog.New(slog.DiscardHandler)}); err == nil {
					err = tr.Close()
				}
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, backplane.ErrInvalidOption) {
				t.Errorf("%q: %v, want %v", raw, err, backplane.ErrInvalidOption)
			}
			if strings.Contains(fmt.Sprintf("%v %q %+v", err, err, err), secret) {
				t.Errorf("%q: %v", raw, err)
			}
		}
	})
}
