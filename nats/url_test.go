package nats

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url, addresses, username, password, token string
		tls                                       bool
	}{
		{url: "nats://h", addresses: "h:4222"},
		{url: "NATS://h:1/", addresses: "h:1"},
		{url: "nats://a:1,b,[::1]:3,[fe80::1%25eth0]", addresses: "a:1 b:4222 [::1]:3 [fe80::1%25eth0]:4222"},
		{url: "tls://h", addresses: "h:4222", tls: true},
		{url: "tls://h?servername=x&", addresses: "h:4222", tls: true},
		{url: "nats://secret@h", addresses: "h:4222", token: "secret"},
		{url: "nats://sec%3Aret@h", addresses: "h:4222", token: "sec:ret"},
		{url: "nats://u:s@cr@t@h", addresses: "h:4222", username: "u", password: "s@cr@t"},
		{url: "nats://u%3A:%2F%3F%23%40%25+@h", addresses: "h:4222", username: "u:", password: "/?#@%+"},
		{url: "nats://h?USERNAME=u&password=s%40c", addresses: "h:4222", username: "u", password: "s@c"},
		{url: "nats://h?token=s%40c", addresses: "h:4222", token: "s@c"},
		{url: "nats://u:@h?Password=secret", addresses: "h:4222", username: "u", password: "secret"},
	} {
		s, err := Options{URL: c.url}.settings()
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		var addresses []string
		for _, server := range s.servers {
			addresses = append(addresses, server.addr)
			if scheme, _, _ := strings.Cut(server.url, "://"); (scheme == "tls") != c.tls || strings.Contains(server.url, "@") {
				t.Errorf("%s: nats.go is given %s", c.url, server.url)
			}
		}
		o := s.base
		if got := strings.Join(addresses, " "); got != c.addresses || o.User != c.username || o.Password != c.password || o.Token != c.token || (s.tls != nil) != c.tls {
			t.Errorf("%s: %s, user %q, password %q, token %q, TLS %v", c.url, got, o.User, o.Password, o.Token, s.tls != nil)
		}
	}
	s, err := Options{URL: "nats://h?Bucket=b-1&replicas=3"}.settings()
	if err != nil || s.bucket != "b-1" || s.replicas != 3 {
		t.Errorf("bucket and replicas: %+v, %v", s, err)
	}
}

// What does not fit is refused with a text that says what to write, and that shows no secret.
func TestURLsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, says string }{
		{"", "no server is named"},
		{"h:4222", "nats://host:4222"},
		{"http://h", "tls://"},
		{"ws://h", "tls://"},
		{"nats://", "host"},
		{"nats:///x", "host"},
		{"nats://h:", "host"},
		{"nats://h:0", "host"},
		{"nats://h:65536", "host"},
		{"nats://a,,b", "host"},
		{"nats://::1:4222", "brackets"},
		{"nats://u:secret@a:4222,nats://u:secret@b:4222", "once: nats://user:password@a:4222,b:4222"},
		{"nats://h/ward", "Namespace"},
		{"nats://h#x", "%23"},
		{"nats://h?color=red", `parameter "color" is not known; the transport's parameters are Username, Password, Token, CredentialsFile, `},
		{"nats://h?Password=", "Password must be given once"},
		{"nats://h?Password=secret1&Password=secret2", "Password must be given once"},
		{"nats://h?Password=secret1&password=secret2", "Password is given elsewhere"},
		{"nats://u:secret1@h?Password=secret2", "Password is given elsewhere"},
		{"nats://h?Password=%zzsecret", "does not parse"},
		{"nats://u:%zzsecret@h", "Password is not escaped"},
		{"nats://%zzsecret@h", "Token is not escaped"},
		{"nats://u:sec/ret@h", "%2F"},
		{"nats://u:sec?ret@h", "%3F"},
		{"nats://sec#ret@h", "%23"},
		{"nats://u:secret", "host"},
		{"nats://u:@h", "Username is set without Password"},
		{"nats://:secret@h", "Password is set without Username"},
		{"nats://u:secret@h?Token=secret", "Username and Token are both set"},
		{"nats://secret@h?CredentialsFile=url_test.go", "Token and CredentialsFile are both set"},
		{"nats://h?CredentialsFile=/does/not/exist", "CredentialsFile: "},
		{"nats://h?CredentialsFile=url_test.go", "CredentialsFile: "},
		{"nats://h?NKeySeedFile=/does/not/exist", "NKeySeedFile: "},
		{"nats://h?NKeySeedFile=url_test.go", "NKeySeedFile: "},
		{"nats://h?ServerName=x", "tls://"},
		{"tls://h?CAFile=/does/not/exist", "CAFile"},
		{"tls://h?CAFile=url_test.go", "PEM"},
		{"tls://h?CertFile=/does/not/exist", "KeyFile"},
		{"nats://h?Bucket=a.b", "Bucket"},
		{"nats://h?Replicas=many", "Replicas"},
		{"nats://h?Replicas=6", "Replicas"},
	} {
		_, err := URL(c.url)(transport.Config{})
		if !errors.Is(err, transport.ErrInvalidOption) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		noSecret(t, err.Error())
	}
}

// noSecret fails the test if a text holds one of the passwords that the tests of this package use.
func noSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"secret", "s3cret", "sec?", "sec/", "ret@", "sec#", "zz"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q shows a secret", text)
		}
	}
}

type noServer struct{}

func (noServer) InProcessConn() (net.Conn, error) { return nil, errors.New("there is none") }

func TestOptionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	lent := &natsgo.Conn{Opts: natsgo.Options{Servers: []string{"nats://h"}}}
	for i, c := range []struct {
		o    Options
		says string
	}{
		{Options{}, "no server is named"},
		{Options{URL: "nats://h", Addresses: []string{"h:1"}}, "URL and Addresses are both set"},
		{Options{Addresses: []string{"h:1", "nats://h"}}, "host:port"},
		{Options{URL: "nats://u:secret@h", Username: "u"}, "Username, and the Options do as well"},
		{Options{URL: "nats://secret@h", Token: "secret"}, "Token, and the Options do as well"},
		{Options{URL: "nats://h", TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, "write tls://"},
		{Options{URL: "nats://h?Replicas=2", Replicas: 3}, "Replicas is given elsewhere"},
		{Options{Addresses: []string{"h:1"}, Replicas: -1}, "Replicas"},
		{Options{Conn: lent, URL: "nats://h"}, "Conn is set beside other options"},
		{Options{Conn: lent, InProcess: noServer{}}, "Conn is set beside other options"},
		{Options{Conn: &natsgo.Conn{Opts: natsgo.Options{Url: "ws://u:secret@h"}}}, "WebSocket"},
		{Options{Conn: &natsgo.Conn{Opts: natsgo.Options{Url: "nats://u:sec%ret@h"}}}, "does not parse"},
		{Options{InProcess: noServer{}, URL: "nats://h"}, "InProcess is set beside"},
		{Options{InProcess: noServer{}, CAFile: "x"}, "InProcess is set beside"},
	} {
		_, err := New(c.o)(transport.Config{})
		if !errors.Is(err, transport.ErrInvalidOption) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d: %v", i, err)
			continue
		}
		noSecret(t, err.Error())
	}
}

// A file that was fine when the node was opened and is not any more is what an attempt to connect tells of.
func TestFilesAreReadAtEachConnect(t *testing.T) {
	t.Parallel()
	seed := filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(seed, []byte("SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY"), 0o600); err != nil { // of nats.go's examples
		t.Fatal(err)
	}
	b, err := New(Options{InProcess: noServer{}, NKeySeedFile: seed})(transport.Config{Namespace: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(t.Context(), transport.OnlyLink); !errors.Is(err, transport.ErrUnavailable) || !strings.Contains(err.Error(), "there is none") {
		t.Errorf("Connect: %v", err)
	}
	if err := os.Remove(seed); err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(t.Context(), transport.OnlyLink); !errors.Is(err, transport.ErrDenied) || !strings.Contains(err.Error(), "NKeySeedFile") {
		t.Errorf("Connect without the file: %v", err)
	}
}

func TestOpenDoesNotConnect(t *testing.T) {
	t.Parallel()
	b, err := URL("nats://127.0.0.1:1")(transport.Config{Namespace: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	if errs := b.Publish(t.Context(), transport.OnlyLink, []transport.Frame{{Channel: "ward.a"}}); len(errs) != 1 || !errors.Is(errs[0], transport.ErrUnavailable) {
		t.Errorf("Publish: %v", errs)
	}
	if errs := b.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.a"}); len(errs) != 1 || !errors.Is(errs[0], transport.ErrUnavailable) {
		t.Errorf("Subscribe: %v", errs)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
