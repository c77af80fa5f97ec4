package integration_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/integration/serverprocess"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// overEachBroker runs a test of what is the same over all brokers, each a process that wants the password "secret". The URL
// is one for package dial.
func overEachBroker(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		test(t, redisserver.Start(t, redisserver.Options{Password: "secret"}).URLAs("default", "secret"))
	})
	t.Run("nats", func(t *testing.T) {
		test(t, natsserver.StartProcess(t, natsserver.Options{Token: "secret"}).URL())
	})
}

// closedPort is an address that nobody listens on.
func closedPort(t *testing.T) string {
	t.Helper()
	addr, err := serverprocess.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// A permission on "ward:*" or "ward.>" opens the namespace ward and not ward2.
func TestPermissionIsExactlyTheNamespace(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (open transport.Opener){
		"redis": func(t *testing.T) transport.Opener {
			server := redisserver.Start(t, redisserver.Options{Users: []string{"ward " + fmt.Sprintf(rights, "ward")}})
			return redis.URL(server.URLAs("ward", "secret"))
		},
		"nats": func(t *testing.T) transport.Opener {
			return nats.URL(natsserver.Start(t, natsserver.Options{Users: []string{confined("ward")}}).URLAs("ward", "secret"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			broker := start(t)
			open := func(namespace string) (*backplane.Node, error) {
				return backplane.Open(t.Context(), broker, backplane.Options{Namespace: namespace})
			}
			n, err := open("ward")
			if err != nil {
				t.Fatalf("in its own namespace: %v", err)
			}
			if err := n.Close(t.Context()); err != nil {
				t.Error(err)
			}
			for _, other := range []string{"ward2", "war"} {
				n, err := open(other)
				if !errors.Is(err, backplane.ErrDenied) {
					t.Errorf("in %s: %v, want ErrDenied", other, err)
				}
				if n != nil {
					_ = n.Close(t.Context())
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error shows the password: %v", err)
				}
			}
		})
	}
}
