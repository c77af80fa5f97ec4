package redisserver_test

import (
	"strings"
	"testing"

	"github.com/gobackplane/backplane/integration/redisserver"
)

func TestServerAnswersAndSurvivesARestart(t *testing.T) {
	t.Parallel()
	s := redisserver.Start(t, redisserver.Options{Password: "p w\"ä", Config: []string{"timeout 77"}})
	if got := s.Do("PING"); got != "PONG" {
		t.Errorf("PING: %v", got)
	}
	if got, _ := s.Do("CONFIG", "GET", "timeout").([]any); len(got) != 2 || got[1] != "77" {
		t.Errorf("CONFIG GET timeout: %v", got)
	}
	addr, before := s.Addr, s.Do("INFO", "server")
	s.Kill()
	if reply, err := s.Try("PING"); err == nil {
		t.Errorf("a killed server answered %v", reply)
	}
	s.Restart()
	if s.Addr != addr {
		t.Errorf("the address changed from %s to %s", addr, s.Addr)
	}
	if s.Do("INFO", "server") == before {
		t.Error("it is the same process")
	}
}

func TestFrozenServerIsSilentUntilThawed(t *testing.T) {
	t.Parallel()
	s := redisserver.Start(t, redisserver.Options{})
	s.Freeze()
	answer := make(chan any, 1)
	go func() { reply, _ := s.Try("PING"); answer <- reply }()
	select {
	case reply := <-answer:
		t.Errorf("a frozen server answered %v", reply)
	default:
	}
	s.Thaw()
	if reply := <-answer; reply != "PONG" {
		t.Errorf("after the thaw: %v", reply)
	}
}

func TestTLSServerDemandsCertificates(t *testing.T) {
	t.Parallel()
	s := redisserver.Start(t, redisserver.Options{TLS: true, ClientCert: true})
	if got := s.Do("ECHO", "hello"); got != "hello" {
		t.Errorf("ECHO: %v", got)
	}
	if u := s.URL(); !strings.HasPrefix(u, "rediss://127.0.0.1:") || !strings.Contains(u, "KeyFile=") {
		t.Errorf("URL %s", u)
	}
}

func TestUsersStartWithNothing(t *testing.T) {
	t.Parallel()
	s := redisserver.Start(t, redisserver.Options{Users: []string{"ward on >secret &ward:* +publish"}})
	if _, err := s.Try("ACL", "DRYRUN", "ward", "PUBLISH", "ward:x", "hello"); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"PUBLISH", "other", "hello"}, {"SUBSCRIBE", "ward:x"}} {
		if reply := s.Do(append([]string{"ACL", "DRYRUN", "ward"}, args...)...); reply == "OK" {
			t.Errorf("the user may %v", args)
		}
	}
	if u := s.URLAs("ward", "secret"); u != "redis://ward:secret@"+s.Addr {
		t.Errorf("URL %s", u)
	}
}

func TestReplicaFollowsItsMaster(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		master := redisserver.Start(t, redisserver.Options{TLS: tls, Password: "secret"})
		replica := redisserver.Start(t, redisserver.Options{TLS: tls, ReplicaOf: master})
		if role, _ := replica.Do("ROLE").([]any); len(role) == 0 || role[0] != "slave" {
			t.Errorf("TLS %v: role %v", tls, role)
		}
	}
}
