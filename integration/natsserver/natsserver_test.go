package natsserver_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/integration/natsserver"
)

const patience = 20 * time.Second

// connect connects to a server by its URL, less what only nats.URL understands.
func connect(t *testing.T, u string, o ...natsgo.Option) (*natsgo.Conn, error) {
	t.Helper()
	u, _, _ = strings.Cut(u, "?")
	conn, err := natsgo.Connect(u, append(o, natsgo.NoReconnect(), natsgo.Timeout(patience))...)
	if err == nil {
		t.Cleanup(conn.Close)
	}
	return conn, err
}

func mustConnect(t *testing.T, u string, o ...natsgo.Option) *natsgo.Conn {
	t.Helper()
	conn, err := connect(t, u, o...)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func subscribe(t *testing.T, conn *natsgo.Conn, subject string) *natsgo.Subscription {
	t.Helper()
	sub, err := conn.SubscribeSync(subject)
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func publish(t *testing.T, conn *natsgo.Conn, subject, payload string) {
	t.Helper()
	err := conn.Publish(subject, []byte(payload))
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, sub *natsgo.Subscription) string {
	t.Helper()
	msg, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	return string(msg.Data)
}

// runner is what both kinds of servers can do.
type runner interface {
	URL() string
	URLAs(user, password string) string
	Restart()
	TryRestart() error
}

// kinds runs a test with both kinds of servers.
func kinds(t *testing.T, o natsserver.Options, f func(t *testing.T, s runner, stop func())) {
	t.Helper()
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		s := natsserver.Start(t, o)
		f(t, s, s.Stop)
	})
	t.Run("process", func(t *testing.T) {
		t.Parallel()
		s := natsserver.StartProcess(t, o)
		f(t, s, s.Kill)
	})
}

func TestServerSurvivesARestart(t *testing.T) {
	t.Parallel()
	kinds(t, natsserver.Options{MaxPayload: 2048}, func(t *testing.T, s runner, stop func()) {
		conn := mustConnect(t, s.URL())
		if got := conn.MaxPayload(); got != 2048 {
			t.Errorf("max_payload %d", got)
		}
		before, u := conn.ConnectedServerId(), s.URL()
		gone := conn.StatusChanged(natsgo.CLOSED)
		stop()
		<-gone
		if _, err := connect(t, u); err == nil {
			t.Error("a stopped server answered")
		}
		s.Restart()
		if s.URL() != u {
			t.Errorf("the address changed from %s to %s", u, s.URL())
		}
		if conn = mustConnect(t, u); conn.ConnectedServerId() == before {
			t.Error("it is the same server")
		}
	})
}

func TestUsersAndPermissions(t *testing.T) {
	t.Parallel()
	seed, public := natsserver.NewNKey(t)
	o := natsserver.Options{Users: []string{
		`user: ward, password: "p w", permissions: {publish: "ward.>", subscribe: "ward.>"}`,
		"nkey: " + public,
	}}
	kinds(t, o, func(t *testing.T, s runner, _ func()) {
		for _, u := range []string{s.URL(), s.URLAs("ward", "wrong")} {
			if _, err := connect(t, u); !errors.Is(err, natsgo.ErrAuthorization) {
				t.Errorf("%s: %v", u, err)
			}
		}
		nkey, err := natsgo.NkeyOptionFromSeed(seed)
		if err != nil {
			t.Fatal(err)
		}
		all := subscribe(t, mustConnect(t, s.URL(), nkey), "*.x")
		refused := make(chan error, 1)
		ward := mustConnect(t, s.URLAs("ward", "p w"), natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { refused <- err }))
		publish(t, ward, "ward2.x", "not allowed")
		publish(t, ward, "ward.x", "allowed")
		if got := next(t, all); got != "allowed" {
			t.Errorf("heard %q", got)
		}
		if err := <-refused; !errors.Is(err, natsgo.ErrPermissionViolation) {
			t.Error(err)
		}
	})
}

func TestSetUsersWhileItRuns(t *testing.T) {
	t.Parallel()
	s := natsserver.Start(t, natsserver.Options{Users: []string{"user: a, password: a"}})
	a := mustConnect(t, s.URLAs("a", "a"))
	if err := s.SetUsers("user: a, password: a", "user: b, password: b"); err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, a, "x")
	publish(t, mustConnect(t, s.URLAs("b", "b")), "x", "hello")
	if got := next(t, sub); got != "hello" {
		t.Errorf("heard %q", got)
	}
	gone := a.StatusChanged(natsgo.CLOSED)
	if err := s.SetUsers("user: b, password: b"); err != nil {
		t.Fatal(err)
	}
	<-gone
}

func TestNamespacesAreUsers(t *testing.T) {
	t.Parallel()
	s := natsserver.Start(t, natsserver.Options{Namespaces: true})
	for _, u := range []string{s.URL(), s.URLAs("ward", "wrong"), s.URLAs("", "secret")} {
		if _, err := connect(t, u); !errors.Is(err, natsgo.ErrAuthorization) {
			t.Errorf("%s: %v", u, err)
		}
	}
	refused := make(chan error, 1)
	ward := mustConnect(t, s.URLAs("ward", "secret"), natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { refused <- err }))
	sub := subscribe(t, ward, "ward.x")
	publish(t, mustConnect(t, s.URLAs("operator", "operator")), "ward.x", "hello")
	if got := next(t, sub); got != "hello" {
		t.Errorf("heard %q", got)
	}
	publish(t, ward, "ward2.x", "hello")
	if err := <-refused; !errors.Is(err, natsgo.ErrPermissionViolation) {
		t.Error(err)
	}
}

func TestTokenAndTLS(t *testing.T) {
	t.Parallel()
	kinds(t, natsserver.Options{TLS: true, ClientCert: true, Token: "secret"}, func(t *testing.T, s runner, _ func()) {
		u := s.URL()
		if !strings.HasPrefix(u, "tls://secret@127.0.0.1:") || !strings.Contains(u, "KeyFile=") {
			t.Errorf("URL %s", u)
		}
		var ca, cert, key string
		switch s := s.(type) {
		case *natsserver.Server:
			ca, cert, key = s.CAFile, s.CertFile, s.KeyFile
		case *natsserver.Process:
			ca, cert, key = s.CAFile, s.CertFile, s.KeyFile
		}
		if _, err := connect(t, u, natsgo.RootCAs(ca)); err == nil {
			t.Error("it takes clients without a certificate")
		}
		mustConnect(t, u, natsgo.RootCAs(ca), natsgo.ClientCert(cert, key))
	})
}

func TestJetStream(t *testing.T) {
	t.Parallel()
	kinds(t, natsserver.Options{JetStream: true}, func(t *testing.T, s runner, _ func()) {
		js, err := mustConnect(t, s.URL()).JetStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.AccountInfo(); err != nil {
			t.Error(err)
		}
	})
}

func TestKilledClients(t *testing.T) {
	t.Parallel()
	s := natsserver.Start(t, natsserver.Options{})
	conn := mustConnect(t, s.URL())
	gone := conn.StatusChanged(natsgo.CLOSED)
	if n := s.KillClients(); n != 1 {
		t.Errorf("%d clients", n)
	}
	<-gone
}

func TestFrozenServerIsSilentUntilThawed(t *testing.T) {
	t.Parallel()
	s := natsserver.StartProcess(t, natsserver.Options{})
	conn := mustConnect(t, s.URL())
	s.Freeze()
	answer := make(chan error, 1)
	go func() { answer <- conn.FlushTimeout(patience) }()
	select {
	case err := <-answer:
		t.Fatalf("a frozen server answered: %v", err)
	default:
	}
	s.Thaw()
	if err := <-answer; err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestLameDuckEndsByItself(t *testing.T) {
	t.Parallel()
	s := natsserver.StartProcess(t, natsserver.Options{})
	conn := mustConnect(t, s.URL())
	gone := conn.StatusChanged(natsgo.CLOSED)
	s.LameDuck()
	<-gone
	<-s.Done()
	s.Restart()
	mustConnect(t, s.URL())
}

// cluster is what both kinds of clusters can do.
type cluster interface {
	URLs() []string
	Cut(i, j int)
	Heal(i, j int)
	Await()
}

// clusters runs a test with three servers of each kind, where stop and start are about one of them.
func clusters(t *testing.T, o natsserver.Options, test func(t *testing.T, c cluster, stop, start func(i int))) {
	t.Helper()
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		c := natsserver.StartCluster(t, 3, o)
		test(t, c, func(i int) { c.Servers[i].Stop() }, func(i int) { c.Servers[i].Restart() })
	})
	t.Run("processes", func(t *testing.T) {
		t.Parallel()
		c := natsserver.StartProcesses(t, 3, o)
		test(t, c, func(i int) { c.Servers[i].Kill() }, func(i int) { c.Servers[i].Restart() })
	})
}

// heard reports whether what server i takes reaches a new subscriber of server j while f says so.
func heard(t *testing.T, c cluster, i, j int) bool {
	t.Helper()
	from, to := mustConnect(t, c.URLs()[i]), mustConnect(t, c.URLs()[j])
	sub := subscribe(t, to, "x")
	const most = 100
	for range most {
		publish(t, from, "x", "hello")
		if _, err := sub.NextMsg(10 * time.Millisecond); err == nil {
			return true
		}
	}
	return false
}

func TestClusterHasOneWayBetweenTwoServers(t *testing.T) {
	t.Parallel()
	clusters(t, natsserver.Options{}, func(t *testing.T, c cluster, _, _ func(int)) {
		sub := subscribe(t, mustConnect(t, c.URLs()[0]), "x")
		c.Await()
		from := mustConnect(t, c.URLs()[1])
		publish(t, from, "x", "at once")
		if got := next(t, sub); got != "at once" {
			t.Errorf("heard %q", got)
		}
		if name := from.ConnectedClusterName(); name == "" || len(from.DiscoveredServers()) > 0 {
			t.Errorf("cluster %q, %v", name, from.DiscoveredServers())
		}

		c.Cut(0, 1)
		if heard(t, c, 1, 0) {
			t.Error("a message gets around the cut")
		}
		if !heard(t, c, 1, 2) || !heard(t, c, 2, 0) {
			t.Error("the other routes are cut, too")
		}
		c.Heal(1, 0)
		c.Await()
		publish(t, from, "x", "healed")
		for { // what heard sent from server 2 comes before
			if got := next(t, sub); got == "healed" {
				break
			}
		}
	})
}

func TestFrozenRouteDeliversWhenItHeals(t *testing.T) {
	t.Parallel()
	c := natsserver.StartCluster(t, 2, natsserver.Options{})
	sub := subscribe(t, mustConnect(t, c.Servers[0].URL()), "x")
	c.Await()
	c.Freeze(0, 1)
	from := mustConnect(t, c.Servers[1].URL())
	publish(t, from, "x", "hello")
	if msg, err := sub.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("a frozen route delivered %q", msg.Data)
	}
	c.Heal(0, 1)
	if got := next(t, sub); got != "hello" {
		t.Errorf("heard %q", got)
	}
}

func TestClusterMemberRestarts(t *testing.T) {
	t.Parallel()
	clusters(t, natsserver.Options{TLS: true, Users: []string{"user: a, password: a"}}, func(t *testing.T, c cluster, stop, start func(int)) {
		for i := range c.URLs() {
			stop(i)
			c.Await()
			start(i)
		}
		c.Await()
	})
}
