package integration_test

import (
	"testing"

	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/integration/serverprocess"
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
