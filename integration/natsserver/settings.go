package natsserver

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gobackplane/backplane/integration/certificates"
	"github.com/gobackplane/backplane/integration/serverprocess"
)

// Options say what kind of server to start. The zero value is a plain server that lets everybody in.
type Options struct {
	// TLS makes the server speak TLS only, with a certificate for localhost and 127.0.0.1 of an authority of its own.
	TLS bool
	// ClientCert makes a TLS server demand a certificate of its authority from clients.
	ClientCert bool
	// Token is what clients must show. Not together with Users.
	Token string
	// Users are the users, as they stand in the server's configuration between braces, for example
	// `user: ward, password: secret, permissions: {publish: "ward.>", subscribe: "ward.>"}`.
	Users []string
	// Namespaces lets in whoever has the password "secret", to the subjects below the user's name and to no others; instead of
	// Token and Users, for a server in this process. It is for tests that make up names as they go: a server that gets new
	// users by SetUsers cuts off clients that are just connecting.
	Namespaces bool
	// MaxPayload is the largest message that the server takes. Default 1 MiB.
	MaxPayload int
	// JetStream turns it on, with a store in a folder that ends with the test.
	JetStream bool
	// Config are further lines for the server's configuration file, for example "ping_interval: 1".
	Config []string
}

// operator is a user beside Options.Users with all rights, and its password: a test is served by no network but its own.
const operator = "operator"

// settings are what a server in this process and one of its own have in common.
type settings struct {
	// Addr is "127.0.0.1:port". It stays the same over a restart.
	Addr string
	// CAFile, CertFile and KeyFile are PEM files: the authority, and a client certificate with its key. Set with TLS.
	CAFile, CertFile, KeyFile string

	t       testing.TB
	opts    Options
	dir     string
	certs   certificates.Files
	cluster string // what the configuration says of it, if there is one
}

func newSettings(t testing.TB, o Options) settings {
	t.Helper()
	s := settings{t: t, opts: o, dir: t.TempDir()}
	if o.TLS {
		s.useCertificates(certificates.Make(t))
	}
	return s
}

func (s *settings) common() *settings { return s }

func (s *settings) useCertificates(certs certificates.Files) {
	s.certs = certs
	s.CAFile, s.CertFile, s.KeyFile = certs.CA, certs.ClientCert, certs.ClientKey
}

// URL is what nats.URL takes to connect without a user, with the token if the server wants one, and with the files of TLS
// in its query. A server that demands client certificates gets them.
func (s *settings) URL() string {
	if s.opts.Token != "" {
		return s.url(url.User(s.opts.Token))
	}
	return s.url(nil)
}

// URLAs is URL for a user.
func (s *settings) URLAs(user, password string) string {
	return s.url(url.UserPassword(user, password))
}

func (s *settings) url(user *url.Userinfo) string {
	u := url.URL{Scheme: "nats", User: user, Host: s.Addr}
	if s.opts.TLS {
		u.Scheme = "tls"
		q := url.Values{"CAFile": {s.CAFile}}
		if s.opts.ClientCert {
			q.Set("CertFile", s.CertFile)
			q.Set("KeyFile", s.KeyFile)
		}
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// NewNKey makes an nkey: the file of its seed, and what stands as `nkey: …` among the users.
func NewNKey(t testing.TB) (seedFile, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatalf("natsserver: nkey: %v", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatalf("natsserver: nkey: %v", err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatalf("natsserver: nkey: %v", err)
	}
	seedFile = filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatalf("natsserver: nkey: %v", err)
	}
	return seedFile, public
}

// write writes the configuration file, with more lines, and returns its path.
func (s *settings) write(more ...string) (string, error) {
	// The times that a server gives a client to say who it is are meant for networks, not for machines under load.
	lines := []string{"listen: " + strconv.Quote(s.Addr), "server_name: " + strconv.Quote(s.Addr)}
	if s.opts.MaxPayload > 0 {
		lines = append(lines, "max_payload: "+strconv.Itoa(s.opts.MaxPayload))
	}
	if s.opts.JetStream {
		lines = append(lines, fmt.Sprintf("jetstream { store_dir: %q, max_mem: 64MB, max_file: 256MB }", s.file("jetstream")))
	}
	if s.opts.TLS {
		lines = append(lines, fmt.Sprintf("tls { ca_file: %q, cert_file: %q, key_file: %q, verify: %v, timeout: 20 }",
			s.CAFile, s.certs.ServerCert, s.certs.ServerKey, s.opts.ClientCert))
	}
	switch {
	case s.opts.Token != "":
		lines = append(lines, fmt.Sprintf("authorization { timeout: 20, token: %q }", s.opts.Token))
	case len(s.opts.Users) > 0:
		lines = append(lines, "authorization {", "  timeout: 20", "  users: [")
		for _, user := range append([]string{"user: " + operator + ", password: " + operator}, s.opts.Users...) {
			lines = append(lines, "    {"+user+"}")
		}
		lines = append(lines, "  ]", "}")
	}
	lines = append(append(lines, s.opts.Config...), more...)
	path := s.file("nats.conf")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	return path, nil
}

func (s *settings) file(name string) string { return filepath.Join(s.dir, name) }

// connected connects as a user with all rights, however the server asks who it is.
func (s *settings) connected(url string, o ...natsgo.Option) (*natsgo.Conn, error) {
	as := natsgo.UserInfo(operator, operator)
	if s.opts.Token != "" {
		as = natsgo.Token(s.opts.Token)
	}
	conn, err := natsgo.Connect(url, append(o, as, natsgo.NoReconnect(), natsgo.Timeout(serverprocess.StartTimeout))...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// onFreePort starts a server on a port that nobody listens on.
func (s *settings) onFreePort(start func() error) {
	s.t.Helper()
	serverprocess.OnFreePort(s.t, "natsserver", func(addr string) error {
		s.Addr = addr
		return start()
	})
}
