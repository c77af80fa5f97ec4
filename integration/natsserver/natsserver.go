// Package natsserver runs NATS servers on 127.0.0.1 for tests: in this process ([Start]), as processes that can be killed and frozen
// ([StartProcess]), and as clusters of either whose routes can be cut ([StartCluster], [StartProcesses]). A server belongs to the
// test that started it and ends with it. Nothing needs to be installed: the server is a Go module.
//
//	server := natsserver.Start(t, natsserver.Options{Users: []string{
//		`user: ward, password: secret, permissions: {publish: "ward.>", subscribe: "ward.>"}`,
//	}})
//	node, err := backplane.Open(t.Context(), nats.URL(server.URLAs("ward", "secret")), backplane.Options{Namespace: "ward"})
package natsserver

import (
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/integration/serverprocess"
)

// Server is a NATS server in this process. Its methods may be called concurrently; they fail the test when something goes
// wrong that is not the test's subject.
type Server struct {
	settings

	log log

	mu      sync.Mutex
	running *server.Server // nil while stopped; guarded by mu
}

// Start starts a server in this process on a free port and returns when it answers. It is stopped when the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := newServer(t, o)
	s.onFreePort(s.launch)
	return s
}

func newServer(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{settings: newSettings(t, o)}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("natsserver %s said:\n%s", s.Addr, s.log.String())
		}
	})
	return s
}

// Stop ends the server and returns when it is gone. Clients see their connections closed. What JetStream stored stays.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return
	}
	s.running.Shutdown()
	s.running.WaitForShutdown()
	s.running = nil
}

// Restart starts the server again on its port, after stopping it if it runs, and returns when it answers.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.TryRestart(); err != nil {
		s.t.Fatalf("natsserver: restart: %v", err)
	}
}

// TryRestart is Restart for goroutines that must not end the test.
func (s *Server) TryRestart() error {
	s.Stop()
	return s.launch()
}

// SetUsers replaces the users while the server runs: clients whose user is gone are cut off, those whose permissions
// changed lose the subscriptions that they may not have any more. A stopped server has them when it starts.
func (s *Server) SetUsers(users ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.Users = users
	if s.running == nil {
		return nil
	}
	o, err := s.load()
	if err != nil {
		return err
	}
	if err := s.running.ReloadOptions(o); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

// KillClients closes the connections of all clients, as an operator may, and tells how many there were.
func (s *Server) KillClients() int {
	s.t.Helper()
	r := s.Running()
	list, err := r.Connz(&server.ConnzOptions{Limit: 1 << 20})
	if err != nil {
		s.t.Fatalf("natsserver: list the connections: %v", err)
	}
	for _, c := range list.Conns {
		_ = r.DisconnectClientByID(c.Cid) // it may be gone by itself
	}
	return len(list.Conns)
}

// Running is the server itself, for what else a test asks of it. It is an error to ask for it while it is stopped.
func (s *Server) Running() *server.Server {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.t.Fatalf("natsserver: the server does not run")
	}
	return s.running
}

// Version returns what the server calls itself: "nats-server 2.15.2".
func (s *Server) Version() string { return version }

const version = "nats-server " + server.VERSION

// load makes the options of the server's library from the configuration file, so that both kinds of servers have one.
func (s *Server) load() (*server.Options, error) {
	path, err := s.write(s.cluster)
	if err != nil {
		return nil, err
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	o.NoSigs = true // the test's process is not the server's
	if s.opts.Namespaces {
		o.CustomClientAuthentication = namespaces{}
	}
	return o, nil
}

// namespaces lets in users as Options.Namespaces says.
type namespaces struct{}

// Check is called by the server for every connection that says who it is.
func (namespaces) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Username == operator && o.Password == operator {
		return true
	}
	if o.Username == "" || o.Password != "secret" {
		return false
	}
	own := &server.SubjectPermission{Allow: []string{o.Username + ".>"}}
	c.RegisterUser(&server.User{Username: o.Username, Permissions: &server.Permissions{Publish: own, Subscribe: own}})
	return true
}

// launch starts the server and waits until it takes connections.
func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.load()
	if err != nil {
		return err
	}
	r, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	failed := make(chan struct{})
	s.log.onFatal(func() { close(failed) })
	r.SetLoggerV2(&s.log, false, false, false)
	r.Start()
	ready := make(chan bool, 1)
	go func() { ready <- r.ReadyForConnections(serverprocess.StartTimeout) }() // ends by itself
	select {
	case ok := <-ready:
		if ok {
			s.running = r
			return nil
		}
		err = fmt.Errorf("not ready after %v", serverprocess.StartTimeout)
	case <-failed:
		err = serverprocess.ErrEnded
	}
	r.Shutdown()
	r.WaitForShutdown()
	return err
}

// connect connects to the server without the network, as a user with all rights.
func (s *Server) connect() (*natsgo.Conn, error) {
	s.mu.Lock()
	r := s.running
	s.mu.Unlock()
	if r == nil {
		return nil, serverprocess.ErrEnded
	}
	return s.connected("", natsgo.InProcessServer(r))
}

// runs reports whether the server was started and not stopped.
func (s *Server) runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running != nil
}

func (s *Server) current() bool { return s.Running().JetStreamIsCurrent() }
