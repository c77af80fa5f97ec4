package embedded

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/transport"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ url, host, peers, advertise, cluster string }{
		{url: "nats+embedded:", cluster: "backplane"},
		{url: "NATS+embedded://", cluster: "backplane"},
		{url: "nats+embedded:?name=hub-0", cluster: "backplane"},
		{url: "nats+embedded://0.0.0.0:6222?secret=s", host: "0.0.0.0:6222", cluster: "backplane"},
		{url: "nats+embedded://:7000?secret=s", host: "0.0.0.0:7000", cluster: "backplane"},
		{url: "nats+embedded://[::1]/?secret=s&peers=A,b:1,[::2]:3", host: "[::1]:6222", peers: "a:6222 b:1 [::2]:3", cluster: "backplane"},
		{url: "nats+embedded://h?SECRETFILE=" + file + "&advertise=out:1&Cluster=c", host: "h:6222", advertise: "out:1", cluster: "c"},
	} {
		s, err := Options{URL: c.url}.settings()
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		want := Options{Listen: c.host}
		host, port, _ := splitListen(want.Listen)
		if s.host != host || s.port != port || strings.Join(s.peers, " ") != c.peers || s.advertise != c.advertise || s.cluster != c.cluster {
			t.Errorf("%s: listens on %s port %d, peers %v, advertises %q, cluster %q", c.url, s.host, s.port, s.peers, s.advertise, s.cluster)
		}
	}
}

// What does not fit is refused by the opener with a text that names the setting and shows no secret.
func TestOptionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	certFile, keyFile := ca.issue(t, "hub.example")
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fits := Options{Listen: "0.0.0.0:6222", Secret: "hush"}
	with := func(change func(*Options)) Options {
		o := fits
		change(&o)
		return o
	}
	for _, c := range []struct {
		o    Options
		says string
	}{
		{Options{URL: "nats://h"}, "nats+embedded://0.0.0.0:6222"},
		{Options{URL: "hush"}, "nats+embedded://0.0.0.0:6222"},
		{Options{URL: "nats+embedded:h:6222"}, "//"},
		{Options{URL: "nats+embedded://hush@h:6222"}, "'@'"},
		{Options{URL: "nats+embedded://h:6222/hush?secret=hush"}, "path"},
		{Options{URL: "nats+embedded://a,b?secret=hush"}, "several hosts"},
		{Options{URL: "nats+embedded://h?secret=hush#"}, "'#'"},
		{Options{URL: "nats+embedded://h?secret=%zzhush"}, "query"},
		{Options{URL: "nats+embedded://h?secret=hush&secret=hush"}, "Secret must be given once"},
		{Options{URL: "nats+embedded://h?secret=hush&peers="}, "Peers must be given once"},
		{Options{URL: "nats+embedded://h?secret=hush&peer=x"}, `"peer"`},
		{Options{URL: "nats+embedded://h?secret=hush", Listen: "h"}, "Listen, its host, and the Options do as well"},
		{Options{URL: "nats+embedded://h?secret=hush&peers=x", Peers: []string{"x"}}, "Peers is given elsewhere"},
		{Options{URL: "nats+embedded://h?peers=x"}, "Secret is missing"},
		{Options{URL: "nats+embedded:?peers=x&secret=hush"}, "without Listen"},
		{Options{Peers: []string{"h:1"}}, "Peers is set without Listen"},
		{Options{Secret: "hush"}, "Secret is set without Listen"},
		{Options{Name: "two words"}, "Name must"},
		{with(func(o *Options) { o.Cluster = "a b" }), "Cluster must"},
		{with(func(o *Options) { o.Listen = "h:0" }), "Listen"},
		{with(func(o *Options) { o.Listen = "h:65536" }), "Listen"},
		{with(func(o *Options) { o.Advertise = "a:b" }), "Advertise"},
		{with(func(o *Options) { o.Peers = []string{"a", "http://b"} }), "Peers"},
		{with(func(o *Options) { o.SecretFile = empty }), "Secret and SecretFile"},
		{with(func(o *Options) { o.Secret, o.SecretFile = "", empty }), "SecretFile is empty"},
		{with(func(o *Options) { o.Secret, o.SecretFile = "", filepath.Join(dir, "none") }), "SecretFile"},
		{with(func(o *Options) { o.CAFile = ca.certFile }), "CertFile and KeyFile are missing"},
		{with(func(o *Options) { o.CertFile, o.KeyFile = certFile, keyFile }), "CAFile is missing"},
		{with(func(o *Options) { o.CAFile, o.CertFile = ca.certFile, certFile }), "go together"},
		{with(func(o *Options) { o.CAFile, o.CertFile, o.KeyFile = empty, certFile, keyFile }), "CAFile"},
		{with(func(o *Options) { o.CAFile, o.CertFile, o.KeyFile = ca.certFile, keyFile, certFile }), "CertFile and KeyFile"},
		{with(func(o *Options) { o.TLS = &tls.Config{RootCAs: x509.NewCertPool()} }), "CertFile and KeyFile are missing"},
	} {
		_, err := New(c.o)(transport.Config{})
		if !errors.Is(err, transport.ErrInvalidOption) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want ErrInvalidOption and %q", c.o, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%q shows a secret", err)
		}
	}
}
