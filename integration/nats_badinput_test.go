package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/dial"
	"github.com/gobackplane/backplane/integration/natsserver"
)

// withOption adds an option to a URL.
func withOption(rawurl, name, value string) string {
	sep := "?"
	if strings.Contains(rawurl, "?") {
		sep = "&"
	}
	return rawurl + sep + name + "=" + url.QueryEscape(value)
}

// Whatever is wrong between a URL and a NATS server fails Open in its first attempt, says which setting to look at, and shows no
// secret.
func TestNATSBadInput(t *testing.T) {
	const user = `user: ward, password: s3cret, permissions: {publish: "ward.>", subscribe: "ward.>"}`
	seed, public := natsserver.NewNKey(t)
	stranger, _ := natsserver.NewNKey(t)
	open := natsserver.Start(t, natsserver.Options{})
	small := natsserver.Start(t, natsserver.Options{MaxPayload: 65536})
	token := natsserver.Start(t, natsserver.Options{Token: "s3cret"})
	locked := natsserver.Start(t, natsserver.Options{Users: []string{user, "nkey: " + public}})
	secured := natsserver.Start(t, natsserver.Options{TLS: true})
	demanding := natsserver.Start(t, natsserver.Options{TLS: true, ClientCert: true})
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(addr, option, value string) string { return withOption("nats://"+addr, option, value) }
	tls := func(addr string, options ...string) string {
		u := "tls://" + addr
		for i := 0; i < len(options); i += 2 {
			u = withOption(u, options[i], options[i+1])
		}
		return u
	}
	for name, c := range map[string]struct {
		url   string
		class error // nil: let in
		says  []string
	}{
		"plain":    {open.URL(), nil, nil},
		"token":    {token.URL(), nil, nil},
		"password": {locked.URLAs("ward", "s3cret"), nil, nil},
		"nkey":     {at(locked.Addr, "NKeySeedFile", seed), nil, nil},
		"TLS":      {secured.URL(), nil, nil},
		"both TLS": {demanding.URL(), nil, nil},

		"no token":       {"nats://" + token.Addr, backplane.ErrDenied, []string{"Token"}},
		"wrong token":    {"nats://s3cret2@" + token.Addr, backplane.ErrDenied, []string{"Token"}},
		"user for token": {"nats://ward:s3cret@" + token.Addr, backplane.ErrDenied, []string{"Username", "Password"}},
		"no password":    {"nats://" + locked.Addr, backplane.ErrDenied, []string{"Username", "Password"}},
		"wrong password": {locked.URLAs("ward", "s3cret2"), backplane.ErrDenied, []string{"Username", "Password"}},
		"unknown user":   {locked.URLAs("s3cret", "s3cret"), backplane.ErrDenied, []string{"Username", "Password"}},
		"unknown nkey":   {at(locked.Addr, "NKeySeedFile", stranger), backplane.ErrDenied, []string{"NKeySeedFile"}},
		"nkey nowhere":   {at(open.Addr, "NKeySeedFile", seed+"2"), backplane.ErrInvalidOption, []string{"NKeySeedFile", "no such file"}},
		"no nkey":        {at(open.Addr, "NKeySeedFile", junk), backplane.ErrInvalidOption, []string{"NKeySeedFile"}},
		"creds nowhere":  {at(open.Addr, "CredentialsFile", junk+"2"), backplane.ErrInvalidOption, []string{"CredentialsFile", "no such file"}},
		"no creds":       {at(open.Addr, "CredentialsFile", junk), backplane.ErrInvalidOption, []string{"CredentialsFile"}},
		"no user":        {"nats://:s3cret@" + open.Addr, backplane.ErrInvalidOption, []string{"Password", "Username"}},
		"two ways in": {
			withOption(locked.URLAs("ward", "s3cret"), "NKeySeedFile", seed), backplane.ErrInvalidOption, []string{"NKeySeedFile", "Username"},
		},

		"TLS to a plain port":    {tls(open.Addr, "CAFile", secured.CAFile), backplane.ErrDenied, []string{"write nats://"}},
		"unknown authority":      {tls(secured.Addr), backplane.ErrDenied, []string{"CAFile"}},
		"unasked for TLS":        {"nats://" + secured.Addr, backplane.ErrDenied, []string{"CAFile"}},
		"other authority":        {tls(demanding.Addr, "CAFile", secured.CAFile), backplane.ErrDenied, []string{"CAFile"}},
		"wrong name":             {withOption(secured.URL(), "ServerName", "nats.example"), backplane.ErrDenied, []string{"ServerName"}},
		"no client certificate":  {tls(demanding.Addr, "CAFile", demanding.CAFile), backplane.ErrDenied, []string{"CertFile", "KeyFile"}},
		"authority nowhere":      {tls(secured.Addr, "CAFile", junk+"2"), backplane.ErrInvalidOption, []string{"CAFile", "no such file"}},
		"no authority":           {tls(secured.Addr, "CAFile", junk), backplane.ErrInvalidOption, []string{"CAFile"}},
		"certificate alone":      {withOption(secured.URL(), "CertFile", demanding.CertFile), backplane.ErrInvalidOption, []string{"CertFile", "KeyFile"}},
		"options of TLS, nats:/": {at(secured.Addr, "CAFile", secured.CAFile), backplane.ErrInvalidOption, []string{"write tls://"}},
		"wrong client certificate": {
			tls(demanding.Addr, "CAFile", demanding.CAFile, "CertFile", secured.CertFile, "KeyFile", secured.KeyFile),
			backplane.ErrDenied, []string{"CertFile", "KeyFile"},
		},

		"small max_payload":   {small.URL(), backplane.ErrInvalidOption, []string{"1044480", "65536", "MaxPayload", "max_payload"}},
		"one byte too much":   {at(small.Addr, "maxPayload", "61441"), backplane.ErrInvalidOption, []string{"65537", "65536"}},
		"a MaxPayload to fit": {at(small.Addr, "maxPayload", "61440"), nil, nil},
		"another's namespace": {withOption(locked.URLAs("ward", "s3cret"), "namespace", "ward2"), backplane.ErrDenied, []string{`"ward2.>"`}},

		"another protocol": {"nats://" + somebodyElse(t), backplane.ErrDenied, []string{"not a NATS server"}},
		"nobody":           {withOption("nats://s3cret@"+closedPort(t), "requireBroker", "true"), backplane.ErrUnavailable, []string{"connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			u := c.url
			if !strings.Contains(u, "namespace=") {
				u = withOption(u, "namespace", "ward")
			}
			var log bytes.Buffer
			node, err := dial.URL(t.Context(), u, backplane.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if node != nil {
				if err := node.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if !errors.Is(err, c.class) || c.class == nil && err != nil {
				t.Fatalf("Open: %v", err)
			}
			said := fmt.Sprint(err)
			for _, part := range c.says {
				if !strings.Contains(said, part) {
					t.Errorf("%q does not say %q", said, part)
				}
			}
			if text := fmt.Sprintf("%v %+v", err, errors.Unwrap(err)) + log.String(); strings.Contains(text, "s3cret") {
				t.Errorf("a secret is shown: %s", text)
			}
		})
	}
}

// somebodyElse is the address of a server that does not speak NATS: it says a line at once, as one of SMTP does.
func somebodyElse(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example ESMTP\r\n"))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// A permission that leaves one subject out refuses that one: a publish to it is a definite error although the flush behind
// it succeeds, a Subscribe to it fails and leaves nothing behind, and all others are served.
func TestNATSPermissionRefusesOneSubject(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{Users: []string{`user: ward, password: s3cret, permissions: {
		publish:   {allow: "ward.>", deny: "ward.g.closed"}
		subscribe: {allow: "ward.>", deny: "ward.g.private"}
	}`}})
	node, err := dial.URL(t.Context(), server.URLAs("ward", "s3cret"), backplane.Options{Namespace: "ward", RequireBroker: true})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 100)
	listen := func(name string) error {
		_, err := node.Subscribe(t.Context(), backplane.Group(name), func(_ context.Context, e backplane.Event) {
			switch e := e.(type) {
			case *backplane.Message:
				heard <- e.Address.Name() + " " + string(e.Payload)
			case *backplane.Gap:
				heard <- e.Address.Name() + " gap " + e.Cause.String()
			}
		})
		return err
	}
	refused := func(err error, setting string) {
		t.Helper()
		if !errors.Is(err, backplane.ErrDenied) || errors.Is(err, backplane.ErrUncertain) || !strings.Contains(err.Error(), setting) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v, want ErrDenied that names %q", err, setting)
		}
	}
	for _, name := range []string{"open", "closed"} {
		if err := listen(name); err != nil {
			t.Fatalf("Subscribe to %s: %v", name, err)
		}
	}
	refused(listen("private"), "subscribe")
	for i := range 20 {
		refused(node.Publish(t.Context(), backplane.Group("closed"), []byte("no")), "publish")
		if err := node.Publish(t.Context(), backplane.Group("open"), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if err := node.Publish(t.Context(), backplane.Group("private"), []byte("nobody hears it")); err != nil {
			t.Fatal(err)
		}
		if got, want := <-heard, fmt.Sprint("open ", i); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	// The same in one batch, where each message has its own fate.
	groups := []string{"open", "closed", "private", "closed", "open"}
	var batch []backplane.Outgoing
	for _, name := range groups {
		batch = append(batch, backplane.Outgoing{To: backplane.Group(name), Payload: []byte("batch")})
	}
	failed, ok := errors.AsType[*backplane.BatchError](node.PublishBatch(t.Context(), batch))
	if !ok {
		t.Fatal("the batch succeeded, or failed as a whole")
	}
	for i, err := range failed.Errors {
		if groups[i] == "closed" {
			refused(err, "publish")
		} else if err != nil {
			t.Errorf("message %d of the batch: %v", i, err)
		}
	}
	got := []string{<-heard, <-heard}
	if !slices.Equal(got, []string{"open batch", "open batch"}) {
		t.Errorf("heard %q", got)
	}
	if s := node.Stats(); s.Subscriptions != 2 || s.ChannelsWanted != s.ChannelsConfirmed || s.Reconnects != 0 {
		t.Errorf("what was refused is left behind, or broke something: %+v", s)
	}
	if h := node.Health(); h.State != backplane.Up {
		t.Errorf("health is %v", h)
	}
	if err := node.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if len(heard) > 0 {
		t.Errorf("heard %q as well", <-heard)
	}
}

// An operator takes a permission away and gives it back while a node is connected: the subscription is told of the gap, health
// says that it is denied, and it is heard on again by itself. A user who is taken away altogether takes the node down.
func TestNATSPermissionChangesWhileConnected(t *testing.T) {
	user := func(subscribe string) string {
		return `user: ward, password: s3cret, permissions: {publish: "ward.>", subscribe: {allow: "ward.>"` + subscribe + `}}`
	}
	server := natsserver.Start(t, natsserver.Options{Users: []string{user("")}})
	// What was refused is asked for again with the back-off of a reconnect.
	o := backplane.Options{Namespace: "ward", RequireBroker: true, ReconnectMax: 200 * time.Millisecond}
	node, err := dial.URL(t.Context(), server.URLAs("ward", "s3cret"), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), natsPatience)
	defer cancel()
	awaitHealth := func(what string, is func(backplane.Health) bool) { // a cause that changes is no change of the state, and no event
		t.Helper()
		eventually(t, "health is "+what, func() bool { return is(node.Health()) })
	}
	because := func(kind backplane.CauseKind) func(backplane.Health) bool {
		return func(h backplane.Health) bool {
			return slices.ContainsFunc(h.Causes, func(c backplane.Cause) bool { return c.Kind == kind && errors.Is(c.Err, backplane.ErrDenied) })
		}
	}
	up := func(h backplane.Health) bool { return h.State == backplane.Up }
	events := make(chan backplane.Event, 100)
	if _, err := node.Subscribe(ctx, backplane.Group("4B"), func(_ context.Context, e backplane.Event) { events <- e }); err != nil {
		t.Fatal(err)
	}
	set := func(users ...string) {
		t.Helper()
		if err := server.SetUsers(users...); err != nil {
			t.Fatal(err)
		}
	}
	set(user(`, deny: "ward.g.4B"`))
	awaitHealth("denied", because(backplane.CauseDenied))
	set(user(""))
	awaitHealth("up again", up)
	if err := node.Publish(ctx, backplane.Group("4B"), []byte("bell")); err != nil {
		t.Fatal(err)
	}
	if g, is := (<-events).(*backplane.Gap); !is {
		t.Error("the subscription was taken away, and its first event is no gap")
	} else if g.Cause != backplane.GapBroker {
		t.Errorf("the gap's cause is %v, %v, want the broker", g.Cause, g.Err)
	}
	for {
		e := <-events
		if m, is := e.(*backplane.Message); is {
			if string(m.Payload) != "bell" {
				t.Errorf("heard %q", m.Payload)
			}
			break
		}
	}

	set("user: somebody, password: else")
	awaitHealth("down, and denied", because(backplane.CauseLink))
	if err := node.Publish(ctx, backplane.Group("4B"), []byte("bell")); !errors.Is(err, backplane.ErrDenied) && !errors.Is(err, backplane.ErrUnavailable) {
		t.Errorf("Publish of a user who is gone: %v", err)
	}
	set(user(""))
	awaitHealth("up in the end", up)
	if err := node.Close(ctx); err != nil {
		t.Error(err)
	}
}
