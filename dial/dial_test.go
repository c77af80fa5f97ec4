package dial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/dial"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// catch is a scheme that keeps the URLs it gets.
func catch(name string, got *[]string) dial.Scheme {
	return dial.With(name, func(u string) transport.Opener {
		*got = append(*got, u)
		return inmem.URL("inmem:")
	})
}

func TestParseTakesTheOptionsOfTheNode(t *testing.T) {
	for in, want := range map[string]struct {
		u string
		o backplane.Options
	}{
		"foo:":                       {"foo:", backplane.Options{}},
		"foo:?":                      {"foo:", backplane.Options{}},
		"FOO://Host/Path":            {"foo://Host/Path", backplane.Options{}},
		"foo:a/b?namespace=n":        {"foo:a/b", backplane.Options{Namespace: "n"}},
		"foo://a:1,[::1]:2,b":        {"foo://a:1,[::1]:2,b", backplane.Options{}},
		"foo://u:p%40%2f,ssl=true@h": {"foo://u:p%40%2f,ssl=true@h", backplane.Options{}},
		"foo://h?z=%31&namespace=n&a=+&z&probeTimeout=5s": {"foo://h?z=%31&a=+&z", backplane.Options{Namespace: "n", ProbeTimeout: 5 * time.Second}},
		"foo://h/?%6eamespace=n":                          {"foo://h/", backplane.Options{Namespace: "n"}},
		"foo://h?label=a,ssl=true":                        {"foo://h", backplane.Options{Label: "a,ssl=true"}},
		"nats://t%40ken@a:4222,b?namespace=ward&probeInterval=500ms&bucket=B": {
			"nats://t%40ken@a:4222,b?bucket=B", backplane.Options{Namespace: "ward", ProbeInterval: 500 * time.Millisecond},
		},
	} {
		var got []string
		logger := slog.New(slog.DiscardHandler)
		_, o, err := dial.Parse(in, backplane.Options{Logger: logger}, catch("foo", &got), catch("nats", &got))
		want.o.Logger = logger
		if err != nil || len(got) != 1 || got[0] != want.u || o != want.o {
			t.Errorf("%s: %v; the transport got %q, want %q; options %+v, want %+v", in, err, got, want.u, o, want.o)
		}
	}
}

func TestSchemes(t *testing.T) {
	var mine, first []string
	schemes := []dial.Scheme{catch("nats+embedded", &mine), catch("Twice", &first), catch("twice", &mine), catch("redis", &mine), catch("inmem", &mine)}
	for _, u := range []string{"nats+embedded:", "TWICE:", "redis://h", "inmem:"} {
		if _, _, err := dial.Parse(u, backplane.Options{}, schemes...); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	if len(mine) != 4 || first != nil {
		t.Errorf("got %q and %q", mine, first)
	}
	for name, s := range map[string]dial.Scheme{
		"zero":         {},
		"no name":      dial.With("", inmem.URL),
		"digit":        dial.With("4u", inmem.URL),
		"colon":        dial.With("foo:", inmem.URL),
		"no function":  dial.With("foo", nil),
		"no transport": dial.With("foo", func(string) transport.Opener { return nil }),
	} {
		_, _, err := dial.Parse("foo://h", backplane.Options{}, s)
		if !errors.Is(err, backplane.ErrInvalidOption) {
			t.Errorf("%s: %v, want %v", name, err, backplane.ErrInvalidOption)
		}
	}
}

// Each of these is refused before any I/O, with a text that helps and shows nothing secret.
func TestBadURLs(t *testing.T) {
	for _, tc := range []struct{ url, say string }{
		{"", "empty"},
		{" \n", "white space"},
		{"redis://:secret@h\n", "trim"},
		{" redis://:secret@h", "trim"},
		{"redis://:se cret@secret", "%20"},
		{"redis://:se\x00cret@secret", "control"},
		{"redis://:se\u2028cret@secret", "white space"},
		{"secret", "no scheme"},
		{"host:6379", "no scheme"},
		{"secret:secret", "no scheme"},
		{":secret@host", "no scheme"},
		{"user:secret@host:6379", "no scheme"},
		{"//user:secret@host", "no scheme"},
		{"://user:secret@host", "no scheme"},
		{"1redis://user:secret@host", "no scheme"},
		{"amqp://user:secret@host", `"amqp" is not known here; known are inmem, nats, redis, rediss, tls (`},
		{"reddis://user:secret@host", "redis, rediss"},
		{"reddis:", `"reddis"`},
		{"redis://user:a/secret@host", "%2F"},
		{"redis://user:a?secret@host", "%3F"},
		{"redis://user:?secret=secret@host", "%3F"},
		{"redis://user:?namespace=secret@host", "%3F"},
		{"redis://user:a#secret@host", "%23"},
		{"redis://user:pass@host#secret", "%23"},
		{"redis://user:a@secret@host", "%40"},
		{"redis://user:a%secret@host", "%25"},
		{"redis://:secret@host?namespace=a;b", "%3B"},
		{"redis://:secret@host?namespace=%secret", "%25"},
		{"redis://:secret@host?maxPayload=secret", "MaxPayload must be a whole number"},
		{"redis://:secret@host?namespace=secret&Namespace=secret", "more than once"},
		{"redis://:secret@host?label=secret", "one place only"}, // the test sets it
		{"inmem://secret", `"inmem:"`},
		{"inmem:?colour=secret", `parameter "colour"`},
		{"inmem:?secret", "unknown parameter"},
		{"redis://:secret@host:secret", "port"},
		{"redis://:secret@host?colour=secret", "colour"},
		{"redis://", "host"},
		{"redis:secret", "redis://"},
		{"nats://secret@host:secret", "port"},
		{"tls://user:secret@host:secret", "port"},
		{"nats://user:secret@host?colour=secret", "colour"},
		{"tls://secret@host?colour=secret", "colour"},
		{"nats://", "host"},
		{"nats:secret@host", "nats://USER:PASSWORD@HOST"},
		{"nats://host,nats://host", "a list of several; write one, nats://HOST,HOST"},
		{"nats://user:secret@host,nats://user:secret@host:4222?namespace=ward", "a list of several"},
		{"nats://user:se%cret@host", "%25"},
		{"nats://user:a/secret@host,host", "%2F"},
		{"redis:user:secret@host", "redis://USER:PASSWORD@HOST"},
		{"redis:/user:secret@host", "redis://USER:PASSWORD@HOST"},
	} {
		opened := func() error {
			node, err := dial.URL(t.Context(), tc.url, backplane.Options{Label: "set", Namespace: "", RequireBroker: true})
			if err == nil {
				err = node.Close(t.Context())
			}
			return err
		}
		err := opened()
		var be *backplane.Error
		switch {
		case !errors.Is(err, backplane.ErrInvalidOption):
			t.Errorf("%q: %v, want %v", tc.url, err, backplane.ErrInvalidOption)
		case !errors.As(err, &be) || be.Op != "open":
			t.Errorf("%q: %#v is no *backplane.Error of open", tc.url, err)
		case !strings.Contains(err.Error(), tc.say):
			t.Errorf("%q: %q should say %q", tc.url, err, tc.say)
		case strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, errors.Unwrap(err)), "secret"):
			t.Errorf("%q: %q shows a secret", tc.url, err)
		case strings.Count(err.Error(), "invalid option") != 1:
			t.Errorf("%q: %q repeats itself", tc.url, err)
		}
	}
}

func TestConnectionStrings(t *testing.T) {
	for in, want := range map[string]string{
		"redis.example:6379,password=secret,ssl=true,abortConnect=false": "rediss://:PASSWORD@redis.example:6379",
		"host:6379,password=secret":                                      "redis://:PASSWORD@host:6379",
		" host : 6379 , Password = secret , SSL = True ":                 "rediss://:PASSWORD@HOST:6379",
		"host:6379, Password = secret , SSL = True ":                     "rediss://:PASSWORD@host:6379",
		"a:1,b,[::1]:2,user=secret,password=secret==,abortConnect=true":  "redis://USER:PASSWORD@a:1,b,[::1]:2?requireBroker=true",
		"host,user=secret":                             "redis://USER:PASSWORD@host",
		"host,ssl=false,connectTimeout=500":            "redis://host",
		"host,ssl=true,sslHost=other,password=se,cret": "rediss://:PASSWORD@host?ServerName=NAME",
		"host,password=a,secret":                       "redis://:PASSWORD@host",
		"password=secret,host:6379":                    "redis://:PASSWORD@HOST:6379",
		"secret@host:6379,ssl=true":                    "rediss://HOST:6379",
		"host:6379,password=a?secret,ssl=true":         "redis://:PASSWORD@host:6379",
		"host:6379,password=a#@/secret":                "redis://:PASSWORD@HOST:6379",
		"redis://host:6379,password=secret,ssl=true":   "rediss://:PASSWORD@host:6379",
		"rediss://host:6379,password=a@secret":         "rediss://:PASSWORD@HOST:6379",
	} {
		_, _, err := dial.Parse(in, backplane.Options{Namespace: "ward"})
		switch {
		case !errors.Is(err, backplane.ErrInvalidOption):
			t.Errorf("%q: %v", in, err)
		case strings.Contains(err.Error(), "secret"):
			t.Errorf("%q: %q shows a secret", in, err)
		}
		_, got, _ := strings.Cut(fmt.Sprint(err), "write ")
		got, _, _ = strings.Cut(got, ", with user")
		if got != want {
			t.Errorf("%q: %q, want it to show %q", in, err, want)
		}
		if _, _, err = dial.Parse(got, backplane.Options{Namespace: "ward"}); err != nil {
			t.Errorf("%q: the URL to write is wrong: %v", in, err)
		}
		_, _, err = dial.Parse(in, backplane.Options{})
		if !strings.Contains(fmt.Sprint(err), "?namespace=NAME") {
			t.Errorf("%q: %v should show that a namespace is needed", in, err)
		}
	}
}

func TestURLOpensANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := dial.URL(t.Context(), "inmem:?label=here&maxPayload=10", backplane.Options{Namespace: "ward"})
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan string, 1)
		_, err = node.Subscribe(t.Context(), backplane.All(), func(_ context.Context, e backplane.Event) {
			if m, ok := e.(*backplane.Message); ok {
				heard <- string(m.Payload)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err = node.Publish(t.Context(), backplane.All(), []byte("hello")); err != nil {
			t.Error(err)
		}
		if got := <-heard; got != "hello" {
			t.Errorf("heard %q", got)
		}
		if err = node.Publish(t.Context(), backplane.All(), bytes.Repeat([]byte("x"), 11)); !errors.Is(err, backplane.ErrTooLarge) {
			t.Errorf("the URL's maxPayload is not in force: %v", err)
		}
		if m := node.Members(); len(m) != 1 || m[0].Label != "here" {
			t.Errorf("members are %v", m)
		}
		if err = node.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// An error of the connection is no better place for a secret.
func TestURLOfAnAbsentServer(t *testing.T) {
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err = listener.Close(); err != nil { // now nobody listens there
		t.Fatal(err)
	}
	for _, scheme := range []string{"redis", "rediss", "nats", "tls"} {
		u := scheme + "://user:secret@" + address + "?namespace=ward&requireBroker=true"
		_, err = dial.URL(t.Context(), u, backplane.Options{})
		if !errors.Is(err, backplane.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %v without a secret", scheme, err, backplane.ErrUnavailable)
		}
	}
}

// The opener of "inmem:" joins the nodes opened with it; another URL is another broker.
func TestParseInmemIsOneBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open, o, err := dial.Parse("inmem:", backplane.Options{})
		if err != nil {
			t.Fatal(err)
		}
		other, _, err := dial.Parse("inmem:", backplane.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var nodes []*backplane.Node
		for _, f := range []transport.Opener{open, open, other} {
			node, err := backplane.Open(t.Context(), f, o)
			if err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, node)
		}
		synctest.Wait()
		for i, want := range []int{2, 2, 1} {
			if got := nodes[i].Members(); len(got) != want {
				t.Errorf("node %d knows %v, want %d members", i, got, want)
			}
		}
		for _, node := range nodes {
			if err := node.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}
