package dialing_test

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/internal/dialing"
)

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"h": "h:9", "h:1": "h:1", "10.0.0.1": "10.0.0.1:9", "[::1]": "[::1]:9", "[::1]:65535": "[::1]:65535", "[fe80::1%eth0]": "[fe80::1%eth0]:9",
		"": "", ":1": "", "h:": "", "h:0": "", "h:65536": "", "h:x": "", "::1": "", "[::1": "", "a b": "", "a,b": "", "u@h": "", "h/x": "", "k=v": "", "[]": "",
	} {
		if addr, ok := dialing.Endpoint(text, "9"); addr != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, addr, ok, want)
		}
	}
}

// A dialer that ignores the context holds nothing up, and leaves no connection behind.
func TestAbandon(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	dialed, err := dialing.Abandon(t.Context(), func() (net.Conn, error) { return here, nil })
	if dialed != here || err != nil {
		t.Errorf("a dialer that returns: %v, %v", dialed, err)
	}
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	conn, err := dialing.Abandon(ctx, func() (net.Conn, error) { <-release; return here, nil })
	if conn != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("one that does not: %v, %v", conn, err)
	}
	close(release)
	if _, err := there.Read(make([]byte, 1)); err == nil {
		t.Error("the late connection was not closed")
	}
}

// options are those of a transport of tests.
type options struct {
	Username, Password, Token, File string
	Number                          int
	List                            []string
}

func (o *options) named() dialing.Options {
	return dialing.Options{
		dialing.Text("Username", &o.Username), dialing.Text("Password", &o.Password), dialing.Text("Token", &o.Token),
		dialing.Text("File", &o.File), dialing.Number("Number", "1 to 5", &o.Number), dialing.List("List", &o.List),
	}
}

var form = dialing.Form{Plain: "b", Secure: "bs", Port: "9"}

// withToken is the form with tokens, as form is but for them.
var withToken = dialing.Form{Plain: "b", Secure: "bs", Port: "9", Token: true}

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		form  dialing.Form
		url   string
		want  dialing.URL
		given options
	}{
		{form, "b://h", dialing.URL{Addresses: []string{"h:9"}}, options{}},
		{form, "BS://a,[::1]:1/", dialing.URL{Secure: true, Addresses: []string{"a:9", "[::1]:1"}, Path: "/"}, options{}},
		{form, "b://h/x/y?file=f", dialing.URL{Addresses: []string{"h:9"}, Path: "/x/y"}, options{File: "f"}},
		{form, "b://u@h", dialing.URL{Addresses: []string{"h:9"}}, options{Username: "u"}},
		{withToken, "b://u@h", dialing.URL{Addresses: []string{"h:9"}}, options{Token: "u"}},
		{withToken, "b://u%3Ax@h", dialing.URL{Addresses: []string{"h:9"}}, options{Token: "u:x"}},
		{withToken, "b://u:@h", dialing.URL{Addresses: []string{"h:9"}}, options{Username: "u"}},
		{form, "b://:p%2F@@h", dialing.URL{Addresses: []string{"h:9"}}, options{Password: "p/@"}},
		{
			form, "b://u@h?PASSWORD=%40&number=3&List=a,b", dialing.URL{Addresses: []string{"h:9"}},
			options{Username: "u", Password: "@", Number: 3, List: []string{"a", "b"}},
		},
	} {
		var got options
		u, err := c.form.Read(c.url, got.named())
		if err != nil || !reflect.DeepEqual(u, c.want) || !reflect.DeepEqual(got, c.given) {
			t.Errorf("%s: %+v, options %+v, %v", c.url, u, got, err)
		}
	}
}

// What a URL leaves empty may stand elsewhere.
func TestURLLeavesToOthersWhatItDoesNotGive(t *testing.T) {
	t.Parallel()
	o := options{Password: "p"}
	if _, err := form.Read("b://u:@h", o.named()); err != nil || o.Username != "u" || o.Password != "p" {
		t.Errorf("%+v, %v", o, err)
	}
}

// What is said of a URL that does not fit holds nothing that could be a secret; what it says of others is unchanged.
func TestURLsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		form  dialing.Form
		url   string
		given options
		says  string
	}{
		{form, "h:9,secret", options{}, "URL is none; write b://host:9, or bs:// for TLS"},
		{form, "c://secret@h", options{}, "a scheme that is not b or bs; write b://host:9, or bs:// for TLS"},
		{form, "b://u:secret@h,b://u:secret@i", options{}, "write it, and the user, once: b://user:password@a:9,b:9"},
		{form, "b://u:secret@h,bs://i", options{}, "once"},
		{form, "b://sec/ret@h", options{}, "in a user or password write %2F for /"},
		{withToken, "b://sec/ret@h", options{}, "in a user, password or token write %2F for /"},
		{form, "b://%zzsecret@h", options{}, "the Username is not escaped properly; write %25 for %"},
		{withToken, "b://%zzsecret@h", options{}, "the Token is not escaped"},
		{form, "b://u:%zzsecret@h", options{}, "the Password is not escaped"},
		{form, "b://u:secret@h", options{Password: "secret"}, "URL gives a Password, and the Options do as well"},
		{form, "b://", options{}, "write b://host:9, several hosts with commas, IPv6 in brackets"},
		{form, "b://u:secret", options{}, "a host that is not host or host:port"},
		{form, "b://h#secret", options{}, "'#'"},
		{form, "b://h?File=%zzsecret", options{}, "a query that does not parse"},
		{form, "b://h?fil=secret", options{}, `parameter "fil" is not known; the transport's parameters are Username, Password, Token, File, Number, List`},
		{form, "b://h?file=", options{}, "File must be given once, with a value"},
		{form, "b://h?file=secret&file=secret", options{}, "File must be given once"},
		{form, "b://h?file=secret&File=secret", options{}, "File is given elsewhere"},
		{form, "b://:secret@h?Password=secret", options{}, "Password is given elsewhere"},
		{form, "b://h?number=secret", options{}, "Number must be a number, 1 to 5"},
		{form, "b://h?number=1", options{Number: 1}, "Number is given elsewhere"},
		{form, "b://h?list=secret", options{List: []string{""}}, "List is given elsewhere"},
	} {
		_, err := c.form.Read(c.url, c.given.named())
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.url, err, c.says)
			continue
		}
		for _, secret := range []string{"secret", "sec", "ret@", "zz"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q shows a secret", err)
			}
		}
	}
}
