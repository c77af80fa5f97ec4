package embedded

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gobackplane/backplane/internal/dialing"
)

const (
	defaultPort    = "6222"
	defaultCluster = "backplane"
	maxName        = 64
)

// settings are options that fit. They are constant.
type settings struct {
	name      string
	host      string // to listen on for routes
	port      int    // 0: no peers, no port
	advertise string
	peers     []string // "host:port"
	cluster   string
	secret    string
	secretIn  string // a file; "" for none
	tls       *routeTLS
	logger    *slog.Logger // nil: the first node's

	// What tests replace.
	resolve func(ctx context.Context, peer string) (addrs []string, err error) // all "host:port"
	wire    func(net.Conn) (net.Conn, error)                                   // of a node to the server; nil for none
	forget  time.Duration                                                      // how long an address is tried that was connected and is not in Peers any more
}

func (s *settings) clustered() bool { return s.port != 0 }

// settings checks the options.
func (o Options) settings() (*settings, error) {
	if o.URL != "" {
		if err := o.readURL(); err != nil {
			return nil, err
		}
	}
	s := &settings{
		name: o.Name, cluster: o.Cluster, secret: o.Secret, secretIn: o.SecretFile, logger: o.Logger,
		resolve: resolve, forget: time.Hour,
	}
	if err := o.checkAlone(); err != nil {
		return nil, err
	}
	if s.name == "" {
		s.name = ownName()
	}
	if s.cluster == "" {
		s.cluster = defaultCluster
	}
	for setting, name := range map[string]string{"Name": s.name, "Cluster": s.cluster} {
		if !isName(name) {
			return nil, invalid("%s must be 1 to %d letters, digits and - _ .", setting, maxName)
		}
	}
	if o.Listen == "" {
		return s, nil
	}
	var ok bool
	if s.host, s.port, ok = splitListen(o.Listen); !ok {
		return nil, invalid("Listen is not host:port; write 0.0.0.0:6222, IPv6 in brackets")
	}
	if o.Advertise != "" {
		if s.advertise, ok = endpoint(o.Advertise); !ok {
			return nil, invalid("Advertise is not host:port; write the address under which peers reach this instance")
		}
	}
	for _, p := range o.Peers {
		peer, ok := endpoint(p)
		if !ok {
			return nil, invalid("Peers holds one that is not host:port; write hub.default.svc:6222 or 10.0.0.1:6222")
		}
		s.peers = append(s.peers, peer)
	}
	switch {
	case s.secret != "" && s.secretIn != "":
		return nil, invalid("Secret and SecretFile are both set; write one of them")
	case s.secret == "" && s.secretIn == "":
		return nil, invalid("Secret is missing; with Listen there must be one that all instances know, such as openssl rand -hex 32 makes, or a SecretFile")
	}
	if _, err := s.password(); err != nil {
		return nil, err
	}
	var err error
	s.tls, err = o.routeTLS(s.peers)
	return s, err
}

// checkAlone refuses what means nothing without Listen.
func (o Options) checkAlone() error {
	if o.Listen != "" {
		return nil
	}
	for setting, given := range map[string]bool{
		"Peers": len(o.Peers) > 0, "Advertise": o.Advertise != "", "Secret": o.Secret != "", "SecretFile": o.SecretFile != "",
		"CAFile": o.CAFile != "", "CertFile": o.CertFile != "", "KeyFile": o.KeyFile != "", "ServerName": o.ServerName != "", "TLS": o.TLS != nil,
	} {
		if given {
			return invalid("%s is set without Listen; peers need an address to connect to: write 0.0.0.0:6222, or nats+embedded://0.0.0.0:6222", setting)
		}
	}
	return nil
}

// password is what routes log in with: the secret itself is not shown to whoever happens to listen on a peer's address,
// and no form that it may have means something to the server (a bcrypt hash would).
func (s *settings) password() (string, error) {
	secret := s.secret
	if s.secretIn != "" {
		text, err := os.ReadFile(s.secretIn)
		if err != nil {
			return "", unreadable("SecretFile", err)
		}
		if secret = strings.TrimSpace(string(text)); secret == "" {
			return "", invalid("SecretFile is empty; write a secret into it that all instances know, such as openssl rand -hex 32 makes")
		}
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("backplane route"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// resolve returns the addresses that a peer's name stands for at this moment.
func resolve(ctx context.Context, peer string) (addrs []string, err error) {
	host, port, err := net.SplitHostPort(peer)
	if err != nil {
		return nil, err
	}
	if ip, ipErr := netip.ParseAddr(host); ipErr == nil {
		return []string{net.JoinHostPort(ip.Unmap().String(), port)}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range ips {
		addrs = append(addrs, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return addrs, err
}

// ownName is a name that nobody else has.
func ownName() string {
	host, err := os.Hostname()
	if host, _, _ = strings.Cut(host, "."); err != nil || !isName(host) || len(host) > maxName/2 {
		host = "instance"
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return host + "-" + hex.EncodeToString(random[:])
}

func isName(s string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	}
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, odd)
}

// splitListen takes apart "host:port", "host", ":port" and "[v6]:port".
func splitListen(s string) (host string, port int, ok bool) {
	if strings.HasPrefix(s, ":") {
		s = "0.0.0.0" + s
	}
	addr, ok := endpoint(s)
	if !ok {
		return "", 0, false
	}
	host, text, _ := net.SplitHostPort(addr)
	port, err := strconv.Atoi(text)
	return host, port, err == nil
}

// endpoint completes and checks "host:port", "host", "[v6]:port" and "[v6]".
func endpoint(s string) (addr string, ok bool) {
	addr, ok = dialing.Endpoint(s, defaultPort)
	return strings.ToLower(addr), ok
}
