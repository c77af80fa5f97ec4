package integration_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

func TestRedisLogin(t *testing.T) {
	const user = "ward on >s3cret &ward:* +publish +subscribe +unsubscribe +role +client|setname"
	open := redisserver.Start(t, redisserver.Options{})
	locked := redisserver.Start(t, redisserver.Options{Password: "s3cret", Users: []string{user}})
	secured := redisserver.Start(t, redisserver.Options{TLS: true})
	demanding := redisserver.Start(t, redisserver.Options{TLS: true, ClientCert: true})
	ca := "?CAFile=" + secured.CAFile
	byConfig := &tls.Config{RootCAs: secured.Authority(), MinVersion: tls.VersionTLS13}
	tryLogins(t, redis.New, map[string]login[redis.Options]{
		"plain":                  {redis.Options{URL: open.URL()}, nil, ""},
		"unwanted password":      {redis.Options{URL: "redis://:s3cret@" + open.Addr}, nil, ""},
		"password":               {redis.Options{URL: locked.URL()}, nil, ""},
		"user":                   {redis.Options{URL: locked.URLAs("ward", "s3cret")}, nil, ""},
		"no password":            {redis.Options{Addresses: []string{locked.Addr}}, transport.ErrDenied, "Password"},
		"wrong password":         {redis.Options{URL: "redis://:s3cret2@" + locked.Addr}, transport.ErrDenied, "check Username and Password"},
		"wrong user":             {redis.Options{URL: "redis://nobody:s3cret@" + locked.Addr}, transport.ErrDenied, "check Username and Password"},
		"TLS":                    {redis.Options{URL: secured.URL()}, nil, ""},
		"TLS by Config":          {redis.Options{Addresses: []string{secured.Addr}, TLS: byConfig}, nil, ""},
		"TLS, other name":        {redis.Options{URL: secured.URL() + "&ServerName=localhost"}, nil, ""},
		"TLS, wrong name":        {redis.Options{URL: secured.URL() + "&ServerName=redis.example"}, transport.ErrDenied, "set ServerName"},
		"TLS, unknown authority": {redis.Options{URL: "rediss://" + secured.Addr}, transport.ErrDenied, "set CAFile"},
		"TLS, other authority":   {redis.Options{URL: "rediss://" + demanding.Addr + ca}, transport.ErrDenied, "set CAFile"},
		"client certificate":     {redis.Options{URL: demanding.URL()}, nil, ""},
		"no client certificate": {
			redis.Options{URL: "rediss://" + demanding.Addr + "?CAFile=" + demanding.CAFile},
			transport.ErrDenied, "set CertFile and KeyFile",
		},
		"wrong client certificate": {
			redis.Options{URL: "rediss://" + demanding.Addr + "?CAFile=" + demanding.CAFile + "&CertFile=" + secured.CertFile + "&KeyFile=" + secured.KeyFile},
			transport.ErrDenied, "set CertFile and KeyFile",
		},
		// The server waits for more of what it takes for a command.
		"TLS to a plain port": {redis.Options{URL: "rediss://" + open.Addr + ca}, transport.ErrUnavailable, "write redis://"},
		"plain to a TLS port": {redis.Options{URL: "redis://" + secured.Addr}, transport.ErrUnavailable, "write rediss://"},
		"port closed":         {redis.Options{URL: "redis://:s3cret@" + closedPort(t)}, transport.ErrUnavailable, "connection refused"},
	})
}

// A user who may use the channels of the namespace only is served there, and refused elsewhere for each channel.
func TestRedisUserOfANamespace(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{Users: []string{"ward on >s3cret &ward:* +publish +subscribe +unsubscribe"}})
	r := connected(t, redis.URL(server.URLAs("ward", "s3cret")))
	if !strings.Contains(r.log.String(), "taken for the master") {
		t.Errorf("no warning that the role is not told: %s", r.log)
	}
	r.subscribed(t, "ward:first")
	names := make([]string, 3000)
	forbidden := []int{0, 1, 700, 1535, 1536, 2999}
	for i := range names {
		names[i] = fmt.Sprintf("ward:%d", i)
		if slices.Contains(forbidden, i) {
			names[i] = fmt.Sprintf("ward2:%d", i)
		}
	}
	var denied []int
	for i, err := range r.Subscribe(t.Context(), transport.OnlyLink, names) {
		if err == nil {
			continue
		}
		denied = append(denied, i)
		if !errors.Is(err, transport.ErrDenied) || !strings.Contains(err.Error(), "&namespace:*") || strings.Contains(err.Error(), "ward2:") {
			t.Errorf("Subscribe: %v", err)
		}
	}
	if !slices.Equal(denied, forbidden) {
		t.Errorf("denied are %v, forbidden %v", denied, forbidden)
	}
	errs := r.Publish(t.Context(), transport.OnlyLink, []transport.Frame{
		{Channel: "ward:2", Data: []byte("a")}, {Channel: "ward2:2", Data: []byte("b")}, {Channel: "ward:first", Data: []byte("c")},
	})
	if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], transport.ErrDenied) || errs[2] != nil {
		t.Errorf("Publish: %v", errs)
	}
	r.awaitFrame(t, "ward:first", "c")
	if got := r.sink.take(); len(got) != 2 {
		t.Errorf("%d frames came, want 2", len(got))
	}
	if len(r.sink.downs) > 0 {
		t.Errorf("Down: %v", r.sink.downs)
	}
	// A permission that is taken away: the server closes the connection.
	server.Do("ACL", "SETUSER", "ward", "resetchannels", "&other:*")
	if err := r.sink.awaitDown(t); !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("Down: %v", err)
	}
	if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	if errs := r.Subscribe(t.Context(), transport.OnlyLink, []string{"ward:a"}); len(errs) != 1 || !errors.Is(errs[0], transport.ErrDenied) {
		t.Errorf("Subscribe: %v", errs)
	}
	server.Do("ACL", "SETUSER", "ward", "&ward:*", "-subscribe")
	if errs := r.Subscribe(t.Context(), transport.OnlyLink, names[:600]); len(errs) != 600 || !errors.Is(errs[599], transport.ErrDenied) {
		t.Errorf("Subscribe without the command: %v", errs)
	}
}
