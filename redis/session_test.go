package redis

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// Whoever is not let in is told why, by one class and a text that names the setting, without a secret.
func TestLoginRefused(t *testing.T) {
	t.Parallel()
	unknown := func(_ *fakeConn, args []string) string { // as real servers say it
		return "-ERR unknown command '" + args[0] + "', with args beginning with: '" + strings.Join(args[1:], "' '") + "' \r\n"
	}
	refuse := func(f *fake, command, answer string) { f.says(command, answer+"\r\n") }
	for name, c := range map[string]struct {
		set   func(*fake)
		class string
		says  string
	}{
		"wrong password": {func(f *fake) {
			refuse(f, "HELLO", "-WRONGPASS invalid username-password pair or user is disabled.")
			refuse(f, "AUTH", "-WRONGPASS invalid username-password pair or user is disabled.")
		}, "denied", "Username and Password"},
		"password missing": {func(f *fake) {
			refuse(f, "HELLO", "-NOAUTH HELLO must be called with the client already authenticated")
			refuse(f, "AUTH", "-ERR unknown")
			refuse(f, "ROLE", "-NOAUTH Authentication required.")
		}, "unavailable", "unknown"},
		"password not wanted": {func(f *fake) {
			refuse(f, "HELLO", "-ERR unknown command")
			refuse(f, "AUTH", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
		}, "denied", "leave out Password"},
		"no AUTH": {func(f *fake) { f.on("HELLO", unknown); f.on("AUTH", unknown) }, "denied", "lacks a command"},
		"protected mode": {func(f *fake) {
			f.greets(func(c net.Conn) {
				_, _ = c.Write([]byte("-DENIED Redis is running in protected mode\r\n"))
				_ = c.Close()
			})
		}, "denied", "protected mode"},
		"TLS port": {func(f *fake) {
			f.greets(func(c net.Conn) { _, _ = c.Write([]byte("\x15\x03\x01\x00\x02\x02\x46")); _ = c.Close() })
		}, "denied", "rediss://"},
		"HTTP port": {func(f *fake) {
			f.greets(func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); _ = c.Close() })
		}, "denied", "HTTP"},
		"closed at once":  {func(f *fake) { f.greets(func(c net.Conn) { _ = c.Close() }) }, "unavailable", "rediss://"},
		"loading":         {func(f *fake) { refuse(f, "ROLE", "-LOADING Redis is loading the dataset in memory") }, "unavailable", "LOADING"},
		"replica":         {func(f *fake) { f.says("ROLE", "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n") }, "read-only", "replica"},
		"sentinel":        {func(f *fake) { f.says("ROLE", "*2\r\n$8\r\nsentinel\r\n*0\r\n") }, "read-only", "Sentinel"},
		"replica by INFO": {func(f *fake) { refuse(f, "ROLE", "-NOPERM no"); f.says("INFO", "$12\r\nrole:slave\r\n\r\n") }, "read-only", "replica"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			c.set(f)
			o := to(f)
			o.Password = "s3cret"
			n := open(t, o)
			err := n.Connect(t.Context(), transport.OnlyLink)
			if got := class(t, err); got != c.class || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%s: %v", got, err)
			}
			noSecret(t, err.Error())
			noSecret(t, n.log.String())
			if err := n.send(t.Context(), "x")[0]; class(t, err) != "unavailable" {
				t.Errorf("Publish without a link: %v", err)
			}
		})
	}
}

func TestPasswordMissing(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.says("HELLO", "-NOAUTH HELLO must be called with the client already authenticated\r\n")
	f.says("ROLE", "-NOAUTH Authentication required.\r\n")
	err := open(t, to(f)).Connect(t.Context(), transport.OnlyLink)
	if class(t, err) != "denied" || !strings.Contains(err.Error(), "Password") {
		t.Error(err)
	}
}

func TestPortClosed(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	err = open(t, Options{Addresses: []string{addr}}).Connect(t.Context(), transport.OnlyLink)
	if class(t, err) != "unavailable" || !strings.Contains(err.Error(), addr) {
		t.Error(err)
	}
}

// A server that tells its role by INFO only is asked by INFO from then on.
func TestRoleByInfo(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	roles := 0
	f.on("ROLE", func(*fakeConn, []string) string { roles++; return "-NOPERM no\r\n" })
	f.says("INFO", "$33\r\nrole:master\r\nconnected_slaves:2\r\n\r\n")
	n := connect(t, to(f))
	if err := n.Check(t.Context(), transport.OnlyLink); err != nil {
		t.Error(err)
	}
	f.says("INFO", "$12\r\nrole:slave\r\n\r\n")
	if err := n.Check(t.Context(), transport.OnlyLink); class(t, err) != "read-only" {
		t.Error(err)
	}
	if roles != 2 {
		t.Errorf("ROLE was asked %d times, want once for each connection", roles)
	}
}

// A server that tells nothing is taken for the master where it is the only one, with one warning, and passes checks.
func TestRoleUnknown(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.says("ROLE", "-ERR unknown command `role`, with args beginning with: \r\n")
	f.says("INFO", "-NOPERM no\r\n")
	n := connect(t, to(f))
	if err := n.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	if err := n.Check(t.Context(), transport.OnlyLink); err != nil {
		t.Error(err)
	}
	if got := strings.Count(n.log.String(), "taken for the master"); got != 1 {
		t.Errorf("%d warnings in the log: %s", got, n.log)
	}
	err := open(t, Options{Addresses: []string{f.addr, f.addr}}).Connect(t.Context(), transport.OnlyLink)
	if class(t, err) != "denied" || !strings.Contains(err.Error(), "+role") {
		t.Errorf("two endpoints: %v", err)
	}
}

func TestCredentialsAreAskedAtEachConnect(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var logins []string
	f.on("HELLO", func(c *fakeConn, args []string) string {
		logins = append(logins, args[len(args)-1])
		return ordinary(c, args)
	})
	passwords := []string{"one", "two", "three", "four"}
	o := to(f)
	o.Credentials = func(context.Context) (string, string, error) {
		if len(passwords) == 0 {
			return "", "", errors.New("the vault is sealed")
		}
		p := passwords[0]
		passwords = passwords[1:]
		return "u", p, nil
	}
	n := connect(t, o)
	if err := n.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(logins, " "); got != "one two three four" {
		t.Errorf("logged in with %s", got)
	}
	if err := n.Connect(t.Context(), transport.OnlyLink); class(t, err) != "unavailable" || !strings.Contains(err.Error(), "sealed") {
		t.Error(err)
	}
	o.Credentials = func(context.Context) (string, string, error) { return "u", "", nil }
	if err := open(t, o).Connect(t.Context(), transport.OnlyLink); class(t, err) != "denied" {
		t.Errorf("a user without a password: %v", err)
	}
}

// swallow reads until the connection is closed, and says nothing.
func swallow(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// A server that accepts and stays silent holds up neither the end of a context, nor Close.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	silent := func(t *testing.T) (*fake, chan struct{}) {
		f := newFake(t)
		came := make(chan struct{}, 8)
		f.greets(func(c net.Conn) {
			came <- struct{}{}
			swallow(c)
		})
		return f, came
	}
	for _, secured := range []bool{false, true} {
		f, came := silent(t)
		o := to(f)
		if secured {
			o.ServerName = "redis.example"
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-came; cancel() }()
		if err := open(t, o).Connect(ctx, transport.OnlyLink); class(t, err) != "unavailable" || !errors.Is(err, context.Canceled) {
			t.Errorf("TLS %v: the context ended: %v", secured, err)
		}
		n := open(t, o)
		n.timeout = time.Hour
		failed := make(chan error, 1)
		go func() { failed <- n.Connect(t.Context(), transport.OnlyLink) }()
		<-came
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; class(t, err) != "closed" {
			t.Errorf("TLS %v: closed meanwhile: %v", secured, err)
		}
		if err := n.Connect(t.Context(), transport.OnlyLink); class(t, err) != "closed" {
			t.Errorf("after Close: %v", err)
		}
	}
}

// Of several endpoints the master is used, whatever the order, and the one with replicas where two claim to be it.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	const (
		master  = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
		leading = "*3\r\n$6\r\nmaster\r\n:0\r\n*1\r\n*3\r\n$1\r\nh\r\n$1\r\n1\r\n$1\r\n0\r\n"
		replica = "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"
		nopass  = "-NOAUTH Authentication required.\r\n"
	)
	for _, c := range []struct {
		roles string
		says  []string
		used  int // -1: none
		class string
	}{
		{"replica, master", []string{replica, master}, 1, "taken"},
		{"master, replica", []string{master, replica}, 0, "taken"},
		{"two masters", []string{master, replica, leading}, 2, "taken"},
		{"two equal masters", []string{replica, master, master}, 1, "taken"},
		{"replicas", []string{replica, replica}, -1, "read-only"},
		{"replica, refused", []string{nopass, replica}, -1, "read-only"},
		{"refused", []string{nopass, nopass}, -1, "denied"},
		{"refused, gone", []string{nopass, ""}, -1, "unavailable"},
		{"gone, master", []string{"", master}, 1, "taken"},
	} {
		t.Run(c.roles, func(t *testing.T) {
			t.Parallel()
			var o Options
			var fakes []*fake
			for _, says := range c.says {
				f := newFake(t)
				f.says("ROLE", says)
				if says == "" {
					f.greets(func(c net.Conn) { _ = c.Close() })
				}
				fakes = append(fakes, f)
				o.Addresses = append(o.Addresses, f.addr)
			}
			n := open(t, o)
			err := n.Connect(t.Context(), transport.OnlyLink)
			if class(t, err) != c.class {
				t.Fatal(err)
			}
			if err == nil {
				n.Publish(t.Context(), transport.OnlyLink, []transport.Frame{{Channel: "ward:c"}})
				n.Subscribe(t.Context(), transport.OnlyLink, []string{"ward:c"})
			}
			for i, f := range fakes {
				want, open := "", int64(0)
				if i == c.used {
					open = 2
					want = "PUBLISH ward:c ;SUBSCRIBE ward:c"
				}
				got := strings.Join(f.commands(), ";")
				if got != want {
					t.Errorf("endpoint %d got %q, want %q", i, got, want)
				}
				f.awaitConns(t, open)
			}
			if warned := strings.Contains(n.log.String(), "several endpoints"); warned != strings.HasPrefix(c.roles, "two") {
				t.Errorf("log: %s", n.log)
			}
		})
	}
}

// An endpoint that does not answer does not hold up the master that does.
func TestSlowEndpoint(t *testing.T) {
	t.Parallel()
	slow, master := newFake(t), newFake(t)
	slow.greets(swallow)
	n := open(t, Options{Addresses: []string{slow.addr, master.addr}})
	n.timeout = time.Hour
	if err := n.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
}

// The subscribing connection is asked for its role as well: a name may stand for several servers.
func TestSubscribingConnectionIsOfTheMaster(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	asked := 0
	f.on("ROLE", func(c *fakeConn, args []string) string {
		if asked++; asked == 2 {
			return "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"
		}
		return ordinary(c, args)
	})
	n := open(t, to(f))
	if err := n.Connect(t.Context(), transport.OnlyLink); class(t, err) != "read-only" {
		t.Error(err)
	}
}
