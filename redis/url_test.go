package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/transport"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url, addresses, username, password string
		tls                                bool
	}{
		{url: "redis://h", addresses: "h:6379"},
		{url: "REDIS://h:1/", addresses: "h:1"},
		{url: "redis://h/0", addresses: "h:6379"},
		{url: "redis://a:1,b,[::1]:3,[fe80::1%25eth0]", addresses: "a:1 b:6379 [::1]:3 [fe80::1%25eth0]:6379"},
		{url: "rediss://h", addresses: "h:6379", tls: true},
		{url: "rediss://h?servername=x&", addresses: "h:6379", tls: true},
		{url: "redis://:secret@h", addresses: "h:6379", password: "secret"},
		{url: "redis://u:s@cr@t@h", addresses: "h:6379", username: "u", password: "s@cr@t"},
		{url: "redis://u%3A:%2F%3F%23%40%25+@h", addresses: "h:6379", username: "u:", password: "/?#@%+"},
		{url: "redis://h?USERNAME=u&password=s%40c", addresses: "h:6379", username: "u", password: "s@c"},
		{url: "redis://u@h?Password=secret", addresses: "h:6379", username: "u", password: "secret"},
	} {
		s, err := Options{URL: c.url}.settings()
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		username, password, err := s.credentials(t.Context())
		got := strings.Join(s.addresses, " ")
		if got != c.addresses || username != c.username || password != c.password || (s.tls != nil) != c.tls || err != nil {
			t.Errorf("%s: %s, user %q, password %q, TLS %v, error %v", c.url, got, username, password, s.tls != nil, err)
		}
	}
}

// What does not fit is refused with a text that says what to write, and that shows no secret.
func TestURLsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, says string }{
		{"", "no server is named"},
		{"h:6379", "redis://host:6379"},
		{"http://h", "rediss://"},
		{"redis://", "host"},
		{"redis:///0", "host"},
		{"redis://h:", "host"},
		{"redis://h:0", "host"},
		{"redis://h:65536", "host"},
		{"redis://a,,b", "host"},
		{"redis://::1:6379", "brackets"},
		{"redis://u:secret@a:6379,redis://u:secret@b:6379", "once: redis://user:password@a:6379,b:6379"},
		{"redis://h/1", "Namespace"},
		{"redis://h/0/x", "Namespace"},
		{"redis://h#x", "%23"},
		{"redis://h?color=red", `parameter "color" is not known; the transport's parameters are Username, Password, CAFile, CertFile, KeyFile, ServerName`},
		{"redis://h?Password=", "Password must be given once"},
		{"redis://h?Password=secret1&Password=secret2", "Password must be given once"},
		{"redis://h?Password=secret1&password=secret2", "Password is given elsewhere"},
		{"redis://:secret1@h?Password=secret2", "Password is given elsewhere"},
		{"redis://h?Password=%zzsecret", "does not parse"},
		{"redis://:%zzsecret@h", "Password is not escaped"},
		{"redis://:sec/ret@h", "%2F"},
		{"redis://:sec?ret@h", "%3F"},
		{"redis://:sec#ret@h", "%23"},
		{"redis://u:1?secret@h", "%3F"},
		{"redis://u:s@a?secret@h", "%3F"},
		{"redis://u:secret", "host"},
		{"redis://u:secret,h", "host"},
		{"redis://u@h", "Username is set without Password"},
		{"redis://h?ServerName=x", "rediss://"},
		{"rediss://h?CAFile=/does/not/exist", "CAFile"},
		{"rediss://h?CAFile=url_test.go", "PEM"},
		{"rediss://h?CertFile=/does/not/exist", "KeyFile"},
		{"rediss://h?CertFile=/does/not/exist&KeyFile=/neither", "CertFile and KeyFile"},
		{"h:6379,password=secret,ssl=true", "write rediss://:PASSWORD@h:6379"},
		{"h:1, g ,user=bob,password=sec,ret,abortConnect=false", "write redis://USER:PASSWORD@h:1,g:6379"},
	} {
		_, err := URL(c.url)(transport.Config{})
		if class(t, err) != "invalid" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		noSecret(t, err.Error())
	}
}

// noSecret fails the test if a text holds one of the passwords that the tests of this package use.
func noSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"secret", "s3cret", "sec?", "sec/", "ret@", "sec#", "zz", "bob"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q shows a secret", text)
		}
	}
}

func TestOptionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	ask := func(context.Context) (string, string, error) { return "", "", nil }
	client := goredis.NewClient(&goredis.Options{Addr: "h:1"})
	cluster := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{"h:1"}})
	ring := goredis.NewRing(&goredis.RingOptions{Addrs: map[string]string{"a": "h:1"}})
	sentinel := goredis.NewFailoverClient(&goredis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"h:1"}})
	t.Cleanup(func() { _ = errors.Join(client.Close(), cluster.Close(), ring.Close(), sentinel.Close()) })
	for i, c := range []struct {
		o    Options
		says string
	}{
		{Options{}, "no server is named"},
		{Options{Client: (*goredis.Client)(nil)}, "no server is named"},
		{Options{URL: "redis://h", Addresses: []string{"h:1"}}, "URL and Addresses"},
		{Options{URL: "redis://:secret@h", Password: "secret"}, "Password"},
		{Options{URL: "redis://h", TLS: &tls.Config{}}, "rediss://"},
		{Options{Addresses: []string{"h:x"}}, "host:port"},
		{Options{Addresses: []string{"h"}, Username: "u"}, "Password"},
		{Options{Addresses: []string{"h"}, Credentials: ask, Password: "secret"}, "Credentials"},
		{Options{Addresses: []string{"h"}, CAFile: "/does/not/exist"}, "CAFile"},
		{Options{Client: client, URL: "redis://h"}, "Client is set beside other options"},
		{Options{Client: client, Credentials: ask}, "Client is set beside other options"},
		{Options{Client: cluster}, "cluster"},
		{Options{Client: ring}, "ring"},
		{Options{Client: sentinel}, "Sentinel"},
	} {
		_, err := New(c.o)(transport.Config{})
		if class(t, err) != "invalid" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d: %v", i, err)
			continue
		}
		noSecret(t, err.Error())
	}
	if _, err := New(Options{Client: cluster})(transport.Config{}); !errors.Is(err, transport.ErrUnsupported) {
		t.Errorf("a cluster client: %v does not wrap ErrUnsupported", err)
	}
}

func TestClientLendsItsOptions(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var logins []string
	f.on("HELLO", func(c *fakeConn, args []string) string {
		logins = append(logins, strings.Join(args[1:], " "))
		return ordinary(c, args)
	})
	dialed, welcomed := 0, 0
	client := goredis.NewClient(&goredis.Options{
		Addr: "redis.example:6379", Username: "u", Password: "s3cret", DB: 3,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialed++
			if addr != "redis.example:6379" {
				return nil, fmt.Errorf("asked for %s", addr)
			}
			var d net.Dialer
			return d.DialContext(ctx, network, f.addr)
		},
		OnConnect: func(context.Context, *goredis.Conn) error { welcomed++; return nil },
	})
	defer func() { _ = client.Close() }()
	n := connect(t, Options{Client: client})
	if err := n.send(t.Context(), "hello")[0]; err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(logins, ";"), "2 auth u s3cret;2 auth u s3cret"; got != want || dialed != 2 || welcomed != 2 {
		t.Errorf("logins %s, %d dials, %d calls of OnConnect", got, dialed, welcomed)
	}
}

// The URL of a server may come from anywhere: no URL may make the parser fail in another way than by its error, or show
// what stands where a password does.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{"redis://h", "rediss://u:p@h:1,[::1]:2/0?CAFile=x&ServerName=y#z", "h:1,password=p,ssl=true", "redis://%zz@", ""} {
		f.Add(seed)
	}
	const marker = "hunter2secret"
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := (Options{URL: text}).settings(); err != nil && !errors.Is(err, transport.ErrInvalidOption) {
			t.Errorf("%q: %v", text, err)
		}
		if strings.ContainsAny(text, "?&=") { // a parameter's name is shown
			return
		}
		for _, with := range []string{
			"redis://u:" + marker + text + "@h", "redis://u:" + text + marker + "@h", "h:1,password=" + text + marker,
			"redis://" + url.UserPassword("u", marker+text).String() + "@h:x",
		} {
			if _, err := (Options{URL: with}).settings(); err != nil && strings.Contains(err.Error(), marker) {
				t.Errorf("%q: %v", with, err)
			}
		}
	})
}

// A connection string with an '@' may hold a password in a part that looks like a host.
func TestTextWithAnAtShowsNothing(t *testing.T) {
	for _, text := range []string{"redis:user:,hunter2,@host:6379", "user:hunter2@host:6379,hunter2", "hunter2,a@b,password=x"} {
		if _, err := URL(text)(transport.Config{}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
