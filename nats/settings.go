package nats

import (
	"context"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/internal/dialing"
	"github.com/gobackplane/backplane/internal/tlsfiles"
	"github.com/gobackplane/backplane/transport"
)

const defaultPort = "4222"

// settings are options that fit, in the form in which connections are made. They are constant.
type settings struct {
	servers []server // at least one
	// base is what nats.go needs at each connect: the plain credentials, or the options of a lent connection.
	base            natsgo.Options
	credentialsFile string
	seedFile        string
	login           string // what helps where the server does not know us
	dial            func(ctx context.Context, network, addr string) (net.Conn, error)
	skipTLS         bool            // dial returns connections that speak TLS already
	tls             *tlsfiles.Files // nil where a tls.Config is not ours to make
	inProcess       natsgo.InProcessConnProvider
	bucket          string
	replicas        int
}

// server is where a connection goes to.
type server struct {
	url  string // for nats.go; it may hold credentials where the connection is lent
	addr string // to show, and for its name in TLS
}

// settings checks the options.
func (o Options) settings() (*settings, error) {
	s, err := o.connection()
	if err != nil {
		return nil, err
	}
	bucket := regexp.MustCompile(`^[a-zA-Z0-9_-]*$`)
	switch {
	case !bucket.MatchString(s.bucket):
		return nil, invalid("Bucket must be of a-z A-Z 0-9 _ -")
	case s.replicas < 0 || s.replicas > 5:
		return nil, invalid("Replicas must be 1 to 5, not %d", s.replicas)
	}
	return s, nil
}

// connection checks the options that say how to connect.
func (o Options) connection() (*settings, error) {
	if o.Conn != nil {
		return o.fromConn()
	}
	secure, err := o.endpoints()
	if err != nil {
		return nil, err
	}
	s := &settings{
		dial: o.Dialer, inProcess: o.InProcess, bucket: o.Bucket, replicas: o.Replicas,
		credentialsFile: o.CredentialsFile, seedFile: o.NKeySeedFile,
	}
	if s.dial == nil {
		s.dial = (&net.Dialer{}).DialContext
	}
	scheme := "nats://"
	if secure {
		scheme = "tls://"
	}
	for _, a := range o.Addresses {
		addr, ok := dialing.Endpoint(a, defaultPort)
		if !ok {
			return nil, invalid("Addresses holds one that is not host:port; write 127.0.0.1:4222 or [::1]:4222")
		}
		s.servers = append(s.servers, server{url: scheme + addr, addr: addr})
	}
	if o.InProcess != nil {
		s.servers = []server{{addr: "in this process"}}
	}
	if err := o.checkCredentials(s); err != nil {
		return nil, err
	}
	if secure {
		s.tls = o.files()
		if _, err := s.tls.Config(s.servers[0].addr); err != nil {
			return nil, invalid("%v", err)
		}
	}
	return s, nil
}

// endpoints reads the URL, and tells whether TLS is wanted.
func (o *Options) endpoints() (secure bool, err error) {
	switch {
	case o.InProcess != nil:
		if o.URL != "" || len(o.Addresses) > 0 || o.Dialer != nil || !o.files().Empty() {
			return false, invalid("InProcess is set beside URL, Addresses, Dialer or TLS; a server in this process needs none of them")
		}
		return false, nil
	case o.URL != "" && len(o.Addresses) > 0:
		return false, invalid("URL and Addresses are both set; write the servers in one of them: nats://a:4222,b:4222")
	case o.URL != "":
		o.Addresses = nil // not even an empty one may be appended to: it is the caller's
		secure, err = o.readURL()
		if err == nil && !secure && !o.files().Empty() {
			err = invalid("options for TLS are set, and the URL starts with nats://; write tls://")
		}
		return secure, err
	case len(o.Addresses) == 0:
		return false, invalid("no server is named; set URL, nats://127.0.0.1:4222 for example, or Addresses, or Conn")
	}
	return !o.files().Empty(), nil
}

// files are the options for TLS.
func (o *Options) files() *tlsfiles.Files {
	return &tlsfiles.Files{Base: o.TLS, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile, ServerName: o.ServerName}
}

// checkCredentials takes the one way to log in that is set.
func (o Options) checkCredentials(s *settings) error {
	var set []string
	for _, way := range []struct{ name, value string }{
		{"Username", o.Username}, {"Token", o.Token}, {"CredentialsFile", o.CredentialsFile}, {"NKeySeedFile", o.NKeySeedFile},
	} {
		if way.value != "" {
			set = append(set, way.name)
		}
	}
	switch {
	case len(set) > 1:
		return invalid("%s are both set; write one way to log in", strings.Join(set[:2], " and "))
	case o.Username != "" && o.Password == "":
		return invalid("Username is set without Password; for a token use Token")
	case o.Username == "" && o.Password != "":
		return invalid("Password is set without Username; for a token use Token")
	case len(set) == 0:
		s.login = "set Username and Password, Token, CredentialsFile or NKeySeedFile"
	default:
		s.login = "check " + set[0]
	}
	if o.Username != "" {
		s.login = "check Username and Password"
	}
	s.base.User, s.base.Password, s.base.Token = o.Username, o.Password, o.Token
	if name, err := s.readCredentials(&natsgo.Options{}); err != nil {
		return invalid("%s: %v", name, err)
	}
	return nil
}

// readCredentials reads the file with credentials, if there is one. The error's text holds no secret.
func (s *settings) readCredentials(o *natsgo.Options) (name string, err error) {
	switch {
	case s.credentialsFile != "":
		if err = natsgo.UserCredentials(s.credentialsFile)(o); err == nil {
			_, err = o.UserJWT()
		}
		if err == nil {
			_, err = o.SignatureCB([]byte("a nonce"))
		}
		return "CredentialsFile", err
	case s.seedFile != "":
		option, err := natsgo.NkeyOptionFromSeed(s.seedFile)
		if err == nil {
			err = option(o)
		}
		return "NKeySeedFile", err
	}
	return "", nil
}

// fromConn takes the options of a lent connection.
func (o Options) fromConn() (*settings, error) {
	other := o
	other.Conn, other.Bucket, other.Replicas = nil, "", 0
	if !other.empty() {
		return nil, invalid("Conn is set beside other options; it brings its own servers, credentials, TLS and dialer")
	}
	lent := o.Conn.Opts
	s := &settings{
		base: lent, inProcess: lent.InProcessServer, bucket: o.Bucket, replicas: o.Replicas, login: "check the credentials of Conn",
		dial: (&net.Dialer{}).DialContext,
	}
	if lent.Dialer != nil {
		s.dial = lent.Dialer.DialContext
	}
	if lent.CustomDialer != nil {
		s.dial = func(ctx context.Context, network, addr string) (net.Conn, error) { // it knows of no ctx
			return dialing.Abandon(ctx, func() (net.Conn, error) { return lent.CustomDialer.Dial(network, addr) })
		}
		skip, ok := lent.CustomDialer.(interface{ SkipTLSHandshake() bool })
		s.skipTLS = ok && skip.SkipTLSHandshake()
	}
	for _, list := range append(slices.Clone(lent.Servers), lent.Url) {
		for raw := range strings.SplitSeq(list, ",") {
			raw = strings.TrimSpace(raw)
			if raw == "" {
				continue
			}
			if !strings.Contains(raw, "://") {
				raw = "nats://" + raw
			}
			u, err := url.Parse(raw)
			switch {
			case err != nil: // its text shows the URL
				return nil, invalid("Conn has a server whose URL does not parse")
			case strings.HasPrefix(u.Scheme, "ws"):
				return nil, &failure{
					class: transport.ErrInvalidOption, text: "Conn is for WebSocket, which is not supported; use a server's nats:// or tls:// port",
					cause: transport.ErrUnsupported,
				}
			}
			s.servers = append(s.servers, server{url: raw, addr: u.Host})
		}
	}
	if len(s.servers) == 0 || s.inProcess != nil {
		s.servers = []server{{addr: "of Conn"}}
	}
	return s, nil
}

func (o *Options) empty() bool {
	return o.URL == "" && len(o.Addresses) == 0 && o.Username == "" && o.Password == "" && o.Token == "" &&
		o.CredentialsFile == "" && o.NKeySeedFile == "" && o.files().Empty() && o.Dialer == nil && o.InProcess == nil && o.Conn == nil
}
