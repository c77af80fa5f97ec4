// Package redisserver runs real redis-server processes on 127.0.0.1 for tests. A server belongs to the test that started
// it and ends with it. It can be killed and restarted on its port, frozen and thawed, so that tests can do to it what
// happens to servers.
//
//	server := redisserver.Start(t, redisserver.Options{Users: []string{"ward on >secret &ward:* +@all"}})
//	node, err := backplane.Open(t.Context(), redis.URL(server.URLAs("ward", "secret")), backplane.Options{Namespace: "ward"})
package redisserver

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane/integration"
	"github.com/gobackplane/backplane/integration/certificates"
	"github.com/gobackplane/backplane/integration/serverprocess"
)

// Options say what kind of server to start. The zero value is a plain server without a password.
type Options struct {
	// TLS makes the server speak TLS only, with a certificate for localhost and 127.0.0.1 of an authority of its own.
	TLS bool
	// ClientCert makes a TLS server demand a certificate of its authority from clients.
	ClientCert bool
	// Password is the default user's. Default none.
	Password string
	// Users are further users as ACL rules, for example "ward on >secret &ward:* +@all". Users start without any
	// channel, key or command.
	Users []string
	// ReplicaOf makes the server a replica of another, whose authority it shares; Start returns when it is in step. Both
	// must be plain or both TLS.
	ReplicaOf *Server
	// Config are further lines for the server's configuration file, for example "timeout 5".
	Config []string
}

// Server is a running redis-server process. Its methods may be called concurrently; they fail the test when something
// goes wrong that is not the test's subject.
type Server struct {
	*serverprocess.Process

	// Addr is "127.0.0.1:port". It stays the same over a Restart.
	Addr string
	// CAFile, CertFile and KeyFile are PEM files: the authority, and a client certificate with its key. Set with TLS.
	CAFile, CertFile, KeyFile string

	t    testing.TB
	opts Options
	dir  string

	certs certificates.Files // of a TLS server
}

// Start starts a server on a free port and returns when it answers. The server is killed when the test ends. Without a
// redis-server on the PATH the test is skipped, or fails where BACKPLANE_REQUIRE names redis.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		integration.Missing(t, "redis", "no redis-server on the PATH")
	}
	s := &Server{t: t, opts: o, dir: t.TempDir()}
	if o.TLS {
		if m := o.ReplicaOf; m != nil { // they must accept each other
			s.certs = m.certs
		} else {
			s.certs = certificates.Make(t)
		}
		s.CAFile, s.CertFile, s.KeyFile = s.certs.CA, s.certs.ClientCert, s.certs.ClientKey
	}
	s.Process = serverprocess.New(t, serverprocess.Config{Name: "redisserver", Dir: s.dir, Command: s.command, Answers: s.ready})
	serverprocess.OnFreePort(t, "redisserver", func(addr string) error {
		s.Addr = addr
		return s.TryRestart()
	})
	return s
}

// Authority is what CAFile holds, for a tls.Config.
func (s *Server) Authority() *x509.CertPool {
	s.t.Helper()
	return s.certs.Authority(s.t)
}

// URL is what redis.URL takes to connect as the default user, with the files of TLS in its query. A server that demands
// client certificates gets them.
func (s *Server) URL() string { return s.URLAs("", s.opts.Password) }

// URLAs is URL for another user.
func (s *Server) URLAs(user, password string) string {
	u := url.URL{Scheme: "redis", Host: s.Addr}
	if user != "" || password != "" {
		u.User = url.UserPassword(user, password)
	}
	if s.opts.TLS {
		u.Scheme = "rediss"
		q := url.Values{"CAFile": {s.CAFile}}
		if s.opts.ClientCert {
			q.Set("CertFile", s.CertFile)
			q.Set("KeyFile", s.KeyFile)
		}
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// Do runs one command as the default user on a connection of its own and returns its reply: string, int64, nil, or
// []any of these. It fails the test on any error. A server that is frozen or gone makes it fail after some seconds.
func (s *Server) Do(args ...string) any {
	s.t.Helper()
	reply, err := s.Try(args...)
	if err != nil {
		s.t.Fatalf("redisserver: %s: %v", args[0], err)
	}
	return reply
}

// Try is Do for commands that may fail: an error reply is an error whose text is the server's.
func (s *Server) Try(args ...string) (any, error) {
	const patience = 10 * time.Second
	return s.try(patience, args...)
}

// Version returns what the server calls itself: "redis-server 7.0.15".
func (s *Server) Version() string {
	s.t.Helper()
	info, _ := s.Do("INFO", "server").(string)
	_, version, _ := strings.Cut(info, "redis_version:")
	version, _, _ = strings.Cut(version, "\r\n")
	return "redis-server " + version
}

// command makes the command and its configuration.
func (s *Server) command() (*exec.Cmd, error) {
	file := filepath.Join(s.dir, "redis.conf")
	if err := os.WriteFile(file, []byte(s.config()), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	//nolint:noctx // the process ends by kill, which the test's cleanup calls
	return exec.Command("redis-server", file), nil
}

// ready returns nil when the server answers and, if it is a replica, follows its master.
func (s *Server) ready() error {
	if _, err := s.try(time.Second, "PING"); err != nil {
		return err
	}
	if s.opts.ReplicaOf == nil {
		return nil
	}
	info, err := s.try(time.Second, "INFO", "replication")
	if err != nil {
		return err
	}
	if text, _ := info.(string); !strings.Contains(text, "master_link_status:up") {
		return fmt.Errorf("not in step with its master: %q", text)
	}
	return nil
}

func (s *Server) config() string {
	_, port, _ := net.SplitHostPort(s.Addr)
	lines := []string{"bind 127.0.0.1", "save \"\"", "appendonly no", "daemonize no", "repl-diskless-sync-delay 0"}
	if s.opts.TLS {
		auth := "no"
		if s.opts.ClientCert {
			auth = "yes"
		}
		lines = append(lines, "port 0", "tls-port "+port, "tls-ca-cert-file "+s.CAFile, "tls-cert-file "+s.certs.ServerCert,
			"tls-key-file "+s.certs.ServerKey, "tls-auth-clients "+auth, "tls-replication yes")
	} else {
		lines = append(lines, "port "+port)
	}
	if s.opts.Password != "" {
		lines = append(lines, "requirepass "+strconv.Quote(s.opts.Password))
	}
	for _, user := range s.opts.Users {
		name, rules, _ := strings.Cut(user, " ")
		lines = append(lines, "user "+name+" reset "+rules)
	}
	if master := s.opts.ReplicaOf; master != nil {
		host, port, _ := net.SplitHostPort(master.Addr)
		lines = append(lines, "replicaof "+host+" "+port)
		if master.opts.Password != "" {
			lines = append(lines, "masterauth "+strconv.Quote(master.opts.Password))
		}
	}
	return strings.Join(append(lines, s.opts.Config...), "\n") + "\n"
}
