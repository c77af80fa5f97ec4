package redis

import (
	"context"
	"net"
	"reflect"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/internal/dialing"
	"github.com/gobackplane/backplane/internal/tlsfiles"
	"github.com/gobackplane/backplane/transport"
)

const defaultPort = "6379"

// settings are options that fit, in the form in which connections are made. They are constant.
type settings struct {
	network   string
	addresses []string // "host:port", at least one
	// credentials returns the user and the password to log in with; both empty for none.
	credentials func(context.Context) (username, password string, err error)
	dial        func(ctx context.Context, network, addr string) (net.Conn, error)
	// tls is nil where dial returns connections that are ready: plain ones, or those of a lent client.
	tls       *tlsfiles.Files
	onConnect func(context.Context, *goredis.Conn) error // of a lent client; may be nil
}

// settings checks the options.
func (o Options) settings() (*settings, error) {
	if o.lent() {
		return o.fromClient()
	}
	useTLS := !o.files().Empty()
	switch {
	case o.URL != "" && len(o.Addresses) > 0:
		return nil, invalid("URL and Addresses are both set; write the endpoints in one of them: redis://a:6379,b:6379")
	case o.URL != "":
		o.Addresses = nil // not even an empty one may be appended to: it is the caller's
		secure, err := o.readURL()
		if err != nil {
			return nil, err
		}
		if !secure && !o.files().Empty() {
			return nil, invalid("options for TLS are set, and the URL starts with redis://; write rediss://")
		}
		useTLS = secure
	case len(o.Addresses) == 0:
		return nil, invalid("no server is named; set URL, redis://127.0.0.1:6379 for example, or Addresses, or Client")
	}
	s := &settings{network: "tcp", dial: o.Dialer}
	if s.dial == nil {
		s.dial = (&net.Dialer{}).DialContext
	}
	for _, a := range o.Addresses {
		addr, ok := dialing.Endpoint(a, defaultPort)
		if !ok {
			return nil, invalid("Addresses holds one that is not host:port; write 127.0.0.1:6379 or [::1]:6379")
		}
		s.addresses = append(s.addresses, addr)
	}
	if err := o.checkCredentials(); err != nil {
		return nil, err
	}
	s.credentials = o.Credentials
	if s.credentials == nil {
		s.credentials = fixed(o.Username, o.Password)
	}
	if useTLS {
		s.tls = o.files()
		if _, err := s.tls.Config(s.addresses[0]); err != nil {
			return nil, invalid("%v", err)
		}
	}
	return s, nil
}

// files are the options for TLS.
func (o *Options) files() *tlsfiles.Files {
	return &tlsfiles.Files{Base: o.TLS, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile, ServerName: o.ServerName}
}

func fixed(username, password string) func(context.Context) (string, string, error) {
	return func(context.Context) (string, string, error) { return username, password, nil }
}

func (o Options) checkCredentials() error {
	switch {
	case o.Credentials != nil && (o.Username != "" || o.Password != ""):
		return invalid("Credentials and Username or Password are both set; write one of them")
	case o.Username != "" && o.Password == "":
		return invalid("Username is set without Password; a user without a password (nopass) is logged in with any")
	}
	return nil
}

// lent reports whether there is a client to take the options of. A nil pointer in the interface is none.
func (o Options) lent() bool {
	if o.Client == nil {
		return false
	}
	v := reflect.ValueOf(o.Client)
	return v.Kind() != reflect.Pointer || !v.IsNil()
}

// fromClient takes the options of a lent client.
func (o Options) fromClient() (*settings, error) {
	if o.URL != "" || len(o.Addresses) > 0 || o.Username != "" || o.Password != "" || o.Credentials != nil || !o.files().Empty() || o.Dialer != nil {
		return nil, invalid("Client is set beside other options; it brings its own address, dialer, TLS and credentials")
	}
	unsupported := func(what string) error {
		return &failure{
			class: transport.ErrInvalidOption, text: "Client is " + what + "; use a client for the one server that is the master, or Addresses",
			cause: transport.ErrUnsupported,
		}
	}
	client, ok := o.Client.(*goredis.Client)
	if !ok {
		return nil, unsupported("for a cluster, a ring or several servers, which is not supported yet")
	}
	lent := client.Options()
	switch {
	case lent.Addr == "FailoverClient": // what go-redis puts there
		return nil, unsupported("for Sentinel, which is not supported yet")
	case lent.StreamingCredentialsProvider != nil:
		return nil, invalid("Client has a StreamingCredentialsProvider, which is not supported; set Addresses and Credentials instead of Client")
	}
	s := &settings{network: lent.Network, addresses: []string{lent.Addr}, onConnect: lent.OnConnect}
	// The dialer that go-redis makes for TLS does not return when ctx ends, and others cannot be told from it.
	s.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialing.Abandon(ctx, func() (net.Conn, error) { return lent.Dialer(ctx, network, addr) })
	}
	switch {
	case lent.CredentialsProviderContext != nil:
		s.credentials = lent.CredentialsProviderContext
	case lent.CredentialsProvider != nil:
		s.credentials = func(context.Context) (string, string, error) {
			username, password := lent.CredentialsProvider()
			return username, password, nil
		}
	default:
		s.credentials = fixed(lent.Username, lent.Password)
	}
	return s, nil
}
