package integration_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gobackplane/backplane/integration/certificates"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

func TestNATSLogin(t *testing.T) {
	seed, public := natsserver.NewNKey(t)
	strangerSeed, _ := natsserver.NewNKey(t)
	open := natsserver.Start(t, natsserver.Options{})
	locked := natsserver.Start(t, natsserver.Options{Users: []string{"user: ward, password: s3cret", "nkey: " + public}})
	byToken := natsserver.Start(t, natsserver.Options{Token: "s3cret"})
	secured := natsserver.Start(t, natsserver.Options{TLS: true})
	demanding := natsserver.Start(t, natsserver.Options{TLS: true, ClientCert: true})
	creds, strangerCreds, operator := newOperator(t)
	byJWT := natsserver.Start(t, natsserver.Options{Config: operator})
	ca := "?CAFile=" + secured.CAFile
	authority := certificates.Files{CA: secured.CAFile}.Authority(t)
	byConfig := &tls.Config{RootCAs: authority, MinVersion: tls.VersionTLS13}
	tryLogins(t, nats.New, map[string]login[nats.Options]{
		"plain":                  {nats.Options{URL: open.URL()}, nil, ""},
		"unwanted password":      {nats.Options{URL: "nats://ward:s3cret@" + open.Addr}, nil, ""},
		"user":                   {nats.Options{URL: locked.URLAs("ward", "s3cret")}, nil, ""},
		"user in process":        {nats.Options{InProcess: locked.Running(), Username: "ward", Password: "s3cret"}, nil, ""},
		"no password":            {nats.Options{URL: locked.URL()}, transport.ErrDenied, "set Username and Password"},
		"wrong password":         {nats.Options{URL: locked.URLAs("ward", "s3cret2")}, transport.ErrDenied, "check Username and Password"},
		"wrong user":             {nats.Options{URL: locked.URLAs("nobody", "s3cret")}, transport.ErrDenied, "check Username and Password"},
		"token for a user":       {nats.Options{URL: "nats://s3cret@" + locked.Addr}, transport.ErrDenied, "check Token"},
		"wrong in process":       {nats.Options{InProcess: locked.Running(), Username: "ward", Password: "s3cret2"}, transport.ErrDenied, "check Username"},
		"nkey":                   {nats.Options{Addresses: []string{locked.Addr}, NKeySeedFile: seed}, nil, ""},
		"wrong nkey":             {nats.Options{Addresses: []string{locked.Addr}, NKeySeedFile: strangerSeed}, transport.ErrDenied, "check NKeySeedFile"},
		"unwanted nkey":          {nats.Options{URL: open.URL(), NKeySeedFile: seed}, transport.ErrDenied, "leave out NKeySeedFile"},
		"token":                  {nats.Options{URL: byToken.URL()}, nil, ""},
		"wrong token":            {nats.Options{Addresses: []string{byToken.Addr}, Token: "s3cret2"}, transport.ErrDenied, "check Token"},
		"credentials":            {nats.Options{URL: "nats://" + byJWT.Addr, CredentialsFile: creds}, nil, ""},
		"wrong credentials":      {nats.Options{URL: "nats://" + byJWT.Addr, CredentialsFile: strangerCreds}, transport.ErrDenied, "check CredentialsFile"},
		"TLS":                    {nats.Options{URL: secured.URL()}, nil, ""},
		"TLS by Config":          {nats.Options{Addresses: []string{secured.Addr}, TLS: byConfig}, nil, ""},
		"TLS, other name":        {nats.Options{URL: secured.URL() + "&ServerName=localhost"}, nil, ""},
		"TLS, wrong name":        {nats.Options{URL: secured.URL() + "&ServerName=nats.example"}, transport.ErrDenied, "set ServerName"},
		"TLS, unknown authority": {nats.Options{URL: "tls://" + secured.Addr}, transport.ErrDenied, "set CAFile"},
		"TLS, other authority":   {nats.Options{URL: "tls://" + demanding.Addr + ca}, transport.ErrDenied, "set CAFile"},
		"client certificate":     {nats.Options{URL: demanding.URL()}, nil, ""},
		"no client certificate": {
			nats.Options{URL: "tls://" + demanding.Addr + "?CAFile=" + demanding.CAFile},
			transport.ErrDenied, "set CertFile and KeyFile",
		},
		"wrong client certificate": {
			nats.Options{URL: "tls://" + demanding.Addr + "?CAFile=" + demanding.CAFile + "&CertFile=" + secured.CertFile + "&KeyFile=" + secured.KeyFile},
			transport.ErrDenied, "set CertFile and KeyFile",
		},
		"TLS to a plain port": {nats.Options{URL: "tls://" + open.Addr + ca}, transport.ErrDenied, "write nats://"},
		"plain to a TLS port": {nats.Options{URL: "nats://" + secured.Addr}, transport.ErrDenied, "write tls://"},
		"port closed":         {nats.Options{URL: "nats://ward:s3cret@" + closedPort(t)}, transport.ErrUnavailable, "connection refused"},
		"no NATS":             {nats.Options{URL: "nats://ward:s3cret@" + greeter(t, "220 mail.example\r\n")}, transport.ErrDenied, "not a NATS server's"},
		"a mute port":         {nats.Options{URL: "nats://ward:s3cret@" + greeter(t, "")}, transport.ErrUnavailable, "did not answer in time"},
		"all servers refuse": {
			nats.Options{Addresses: []string{locked.Addr, byToken.Addr}, Username: "ward", Password: "s3cret2"},
			transport.ErrDenied, byToken.Addr,
		},
		"one is away": {
			nats.Options{Addresses: []string{locked.Addr, closedPort(t)}, Username: "ward", Password: "s3cret2"},
			transport.ErrUnavailable, "check Username and Password",
		},
		"one of three lets us in": {
			nats.Options{Addresses: []string{closedPort(t), byToken.Addr, greeter(t, "")}, Token: "s3cret"}, nil, "",
		},
	})
}

// newOperator makes an account with a user, the file of his credentials, those of somebody whom another operator knows, and
// what a server's configuration says of the operator and the account.
func newOperator(t *testing.T) (creds, stranger string, config []string) {
	t.Helper()
	pair := func(kind nkeys.PrefixByte) (nkeys.KeyPair, string) {
		p, err := nkeys.CreatePair(kind)
		if err != nil {
			t.Fatal(err)
		}
		public, err := p.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return p, public
	}
	encode := func(c jwt.Claims, by nkeys.KeyPair) string {
		text, err := c.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	operator, operatorID := pair(nkeys.PrefixByteOperator)
	system, systemID := pair(nkeys.PrefixByteAccount)
	_ = system
	account, accountID := pair(nkeys.PrefixByteAccount)
	other, _ := pair(nkeys.PrefixByteAccount)
	user := func(by nkeys.KeyPair) string {
		p, id := pair(nkeys.PrefixByteUser)
		seed, err := p.Seed()
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.FormatUserConfig(encode(jwt.NewUserClaims(id), by), seed)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "user.creds")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	o := jwt.NewOperatorClaims(operatorID)
	o.SystemAccount = systemID
	return user(account), user(other), []string{
		"operator: " + encode(o, operator),
		"system_account: " + systemID,
		"resolver: MEMORY",
		"resolver_preload: {",
		systemID + ": " + encode(jwt.NewAccountClaims(systemID), operator),
		accountID + ": " + encode(jwt.NewAccountClaims(accountID), operator),
		"}",
	}
}

// greeter listens, says a word to whom it accepts, and nothing else.
func greeter(t *testing.T, word string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(word))
			go func() {
				_, _ = bufio.NewReader(conn).WriteTo(nowhere{}) // until the other side has gone
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// A user who may use the subjects of the namespace only is served there, and refused elsewhere for each frame and channel.
func TestNATSUserOfANamespace(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{Users: []string{
		`user: ward, password: s3cret, permissions: {publish: ["ward.>"], subscribe: ["ward.>"]}`,
	}})
	r := connected(t, nats.URL(server.URLAs("ward", "s3cret")))
	r.subscribed(t, "ward.first")
	names := make([]string, 5000)
	forbidden := []int{0, 1, 700, 2047, 2048, 4999}
	for i := range names {
		names[i] = fmt.Sprintf("ward.%d", i)
		if slices.Contains(forbidden, i) {
			names[i] = fmt.Sprintf("ward2.%d", i)
		}
	}
	check := func(what string, errs []error) {
		t.Helper()
		var refused []int
		for i, err := range errs {
			if err == nil {
				continue
			}
			refused = append(refused, i)
			if !errors.Is(err, transport.ErrDenied) || strings.Contains(err.Error(), names[i]) || !strings.Contains(err.Error(), `"ward.>"`) {
				t.Errorf("%s %d: %v", what, i, err)
			}
		}
		if !slices.Equal(refused, forbidden) {
			t.Errorf("%s: %v were refused, want %v", what, refused, forbidden)
		}
	}
	check("channel", r.Subscribe(t.Context(), transport.OnlyLink, names))
	frames := make([]transport.Frame, len(names))
	for i, name := range names {
		frames[i] = transport.Frame{Channel: name, Data: []byte(name)}
	}
	check("frame", r.Publish(t.Context(), transport.OnlyLink, frames))
	r.awaitFrame(t, names[4998], names[4998])
	if n := len(r.sink.take()); n != len(names)-len(forbidden) {
		t.Errorf("%d frames were heard", n)
	}
	forbidden = []int{0, 1, 37, 99} // a hundred calls of a hundred frames: an answer never belongs to the wrong one
	for i := range frames[:100] {
		frames[i].Channel = fmt.Sprintf("ward.x%d", i)
	}
	for _, i := range forbidden {
		frames[i].Channel = fmt.Sprintf("ward2.x%d", i)
	}
	for range 100 {
		check("frame", r.Publish(t.Context(), transport.OnlyLink, frames[:100]))
		if errs := r.Publish(t.Context(), transport.OnlyLink, frames[100:200]); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
	}
	if errs := r.Unsubscribe(t.Context(), transport.OnlyLink, names); errs != nil { // also of what it was refused
		t.Fatal(errors.Join(errs...))
	}
	if len(r.sink.gaps)+len(r.sink.downs) > 0 {
		t.Errorf("gaps %v, downs %v", r.sink.gaps, r.sink.downs)
	}
}

// A permission that is taken away ends subscriptions, and each is told; one that comes back can be used at once.
func TestNATSPermissionTakenAway(t *testing.T) {
	user := func(more string) string {
		return `user: ward, password: s3cret, permissions: {publish: ["ward.>"], subscribe: {allow: ["ward.>"]` + more + `}}`
	}
	server := natsserver.Start(t, natsserver.Options{Users: []string{user("")}})
	r := connected(t, nats.URL(server.URLAs("ward", "s3cret")))
	r.subscribed(t, "ward.a", "ward.b", "ward.c")
	if err := server.SetUsers(user(`, deny: ["ward.b"]`)); err != nil {
		t.Fatal(err)
	}
	r.sink.await(t, "the gap", func() bool { return len(r.sink.gaps)+len(r.sink.downs) > 0 })
	if got := fmt.Sprint(r.sink.gaps, r.sink.downs); got != "[true [ward.b]] []" {
		t.Fatalf("gaps and downs: %s", got)
	}
	errs := r.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.b", "ward.d"})
	if len(errs) != 2 || !errors.Is(errs[0], transport.ErrDenied) || errs[1] != nil {
		t.Errorf("Subscribe: %v", errs)
	}
	if err := server.SetUsers(user("")); err != nil {
		t.Fatal(err)
	}
	r.subscribed(t, "ward.b")
	for _, name := range []string{"ward.a", "ward.b", "ward.d"} {
		r.published(t, name, "hello")
		r.awaitFrame(t, name, "hello")
	}
	if len(r.sink.gaps) != 1 {
		t.Errorf("gaps: %v", r.sink.gaps)
	}
}

// A server that permits only so many subscriptions refuses more of them, and none that it refused counts as confirmed.
func TestNATSTooManySubscriptions(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{Config: []string{"max_subscriptions: 10"}})
	r := connected(t, nats.URL(server.URL()))
	r.subscribed(t, "ward.0", "ward.1", "ward.2", "ward.3", "ward.4", "ward.5", "ward.6", "ward.7")
	for range 3 {
		more := make([]string, 500)
		for i := range more {
			more[i] = fmt.Sprintf("ward.more%d", i)
		}
		for i, err := range r.Subscribe(t.Context(), transport.OnlyLink, more) {
			if !errors.Is(err, transport.ErrDenied) || !strings.Contains(err.Error(), "max_subscriptions") {
				t.Fatalf("channel %d: %v", i, err)
			}
		}
	}
	r.subscribed(t, "ward.8", "ward.9")
	if errs := r.Subscribe(t.Context(), transport.OnlyLink, []string{"ward.10"}); errs == nil || !errors.Is(errs[0], transport.ErrDenied) {
		t.Errorf("one more: %v", errs)
	}
	for i := range 10 {
		name := fmt.Sprintf("ward.%d", i)
		r.published(t, name, "hello")
		r.awaitFrame(t, name, "hello")
	}
	if len(r.sink.gaps)+len(r.sink.downs) > 0 {
		t.Errorf("gaps %v, downs %v", r.sink.gaps, r.sink.downs)
	}
}

// A server that takes less than the engine will send is refused, with both numbers.
func TestNATSMaxPayload(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{MaxPayload: 100_000})
	open := func(most int) transport.Opener {
		return func(c transport.Config) (transport.Transport, error) {
			c.MaxFrame = most
			return nats.URL(server.URL())(c)
		}
	}
	r := newRig(t, open(100_001))
	err := r.Connect(t.Context(), transport.OnlyLink)
	if !errors.Is(err, transport.ErrDenied) || !errors.Is(err, transport.ErrInvalidOption) {
		t.Errorf("Connect: %v", err)
	}
	for _, want := range []string{"max_payload", "MaxPayload", "100000", "100001", "95904"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	r = connected(t, open(100_000))
	r.subscribed(t, "ward.a")
	frames := []transport.Frame{
		{Channel: "ward.a", Data: make([]byte, 100_000)}, {Channel: "ward.a", Data: make([]byte, 100_001)}, {Channel: "ward.a"},
	}
	errs := r.Publish(t.Context(), transport.OnlyLink, frames)
	if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], transport.ErrTooLarge) || errs[2] != nil {
		t.Errorf("Publish: %v", errs)
	}
	r.awaitFrame(t, "ward.a", "")
	if n := len(r.sink.take()); n != 2 {
		t.Errorf("%d frames were heard", n)
	}
}
