package integration_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// keeper is a server whose store hubs use, as a user that has the documented rights and no others.
type keeper struct {
	open func(dial func(ctx context.Context, network, addr string) (net.Conn, error)) transport.Opener
	kept func(t *testing.T) map[string]time.Duration // the keys with values, and how long they last
}

// overKeepers runs a test over every server that has a store.
func overKeepers(t *testing.T, f func(t *testing.T, k keeper)) {
	t.Run("redis-server", func(t *testing.T) {
		server := redisserver.Start(t, redisserver.Options{Users: []string{"ward " + fmt.Sprintf(rights, "ward") + fmt.Sprintf(storeRights, "ward")}})
		f(t, keeper{
			open: func(dial func(ctx context.Context, network, addr string) (net.Conn, error)) transport.Opener {
				return redis.New(redis.Options{URL: server.URLAs("ward", "secret"), Dialer: dial})
			},
			kept: func(t *testing.T) map[string]time.Duration {
				t.Helper()
				kept := map[string]time.Duration{}
				keys, _ := server.Do("KEYS", "*").([]any)
				for _, k := range keys {
					key, _ := k.(string)
					ttl, _ := server.Do("TTL", key).(int64)
					kept[key] = time.Duration(ttl) * time.Second
				}
				return kept
			},
		})
	})
	t.Run("nats-server", func(t *testing.T) {
		server := natsserver.Start(t, natsserver.Options{JetStream: true, Users: []string{
			natsUser("ward", append(natsStoreRights("ward"), "ward.>"), `"ward.>"`), natsUser("test", []string{">"}, `">"`),
		}})
		f(t, keeper{
			open: func(dial func(ctx context.Context, network, addr string) (net.Conn, error)) transport.Opener {
				return nats.New(nats.Options{URL: server.URLAs("ward", "secret"), Dialer: dial})
			},
			kept: func(t *testing.T) map[string]time.Duration {
				t.Helper()
				return keptInBucket(t, jetStreamOf(t, server.URLAs("test", "secret")), "KV_backplane-ward")
			},
		})
	})
}

// wardHub opens a node and a hub with memberships of users; both end with the test.
func wardHub(t *testing.T, open transport.Opener) *hubkit.Hub {
	t.Helper()
	hub, err := hubkit.New(storeNode(t, open, backplane.Options{}), hubkit.Options{Name: "ward", UserGroups: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hub.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return hub
}

func connectNurse(t *testing.T, hub *hubkit.Hub) (*hubkit.Connection, *conntest.Conn) {
	t.Helper()
	sock := conntest.New()
	c, err := hub.Connect(t.Context(), sock, hubkit.ConnectOptions{User: "nurse"})
	if err != nil {
		t.Fatal(err)
	}
	return c, sock
}

// Memberships work over a real server, whose clock ends them, with the rights that the documentation asks for.
func TestUserGroupsOverAStore(t *testing.T) { overKeepers(t, testUserGroups) }

func testUserGroups(t *testing.T, k keeper) {
	t.Helper()
	a, b := wardHub(t, k.open(nil)), wardHub(t, k.open(nil))
	present, sock := connectNurse(t, a)
	if _, err := b.JoinUser(t.Context(), "nurse", "4B", time.Hour); err != nil && present.Groups() == nil { // b may be settling
		t.Fatal(err)
	}
	_, later := connectNurse(t, b)
	if err := b.Send(t.Context(), hubkit.ToGroups("4B"), []byte("bell")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, s := range []*conntest.Conn{sock, later} {
		if err := s.WaitPayload(ctx, "bell"); err != nil {
			t.Error(err)
		}
	}
	groups, err := a.UserGroups(t.Context(), "nurse")
	if err != nil || len(groups) != 1 || groups[0].Group != "4B" || groups[0].Left > time.Hour || groups[0].Left < 50*time.Minute {
		t.Errorf("the groups are %v, %v", groups, err)
	}
	kept := k.kept(t)
	if len(kept) != 1 {
		t.Fatalf("the keys are %v", kept)
	}
	for key, ttl := range kept {
		if ttl < 3000*time.Second || ttl > 3610*time.Second {
			t.Errorf("%s lasts %v", key, ttl)
		}
	}
	if _, err = a.LeaveUser(t.Context(), "nurse", "4B"); err != nil && present.Groups() != nil {
		t.Error(err)
	}
	if kept = k.kept(t); len(kept) != 0 {
		t.Errorf("left behind: %v", kept)
	}
}

// Memberships of users over a broker that has no store for them, or does not permit its use, are an error of New that names the
// option and what helps.
func TestUserGroupsNeedTheStore(t *testing.T) {
	noScripts := strings.Replace(fmt.Sprintf(storeRights, "ward"), " +eval", "", 1)
	for what, row := range map[string]struct {
		open func(*testing.T) transport.Opener
		want error
		says string
	}{
		"NATS without JetStream": {func(t *testing.T) transport.Opener {
			return nats.URL(natsserver.Start(t, natsserver.Options{}).URL())
		}, backplane.ErrUnsupported, "jetstream {}"},
		"an account without JetStream": {func(t *testing.T) transport.Opener {
			return nats.URL(natsserver.Start(t, natsserver.Options{JetStream: true, Config: []string{
				`accounts { A { users: [ {user: a, password: a} ] } }`, `no_auth_user: a`,
			}}).URL())
		}, backplane.ErrUnsupported, "jetstream: enabled"},
		"a user who may not ask JetStream": {func(t *testing.T) transport.Opener {
			server := natsserver.Start(t, natsserver.Options{JetStream: true, Users: []string{natsUser("ward", []string{"ward.>"}, `"ward.>"`)}})
			return nats.URL(server.URLAs("ward", "secret"))
		}, backplane.ErrDenied, "$JS.API.STREAM.INFO"},
		"Redis whose user may not run scripts": {func(t *testing.T) transport.Opener {
			server := redisserver.Start(t, redisserver.Options{Users: []string{"ward " + fmt.Sprintf(rights, "ward") + noScripts}})
			return redis.URL(server.URLAs("ward", "secret"))
		}, backplane.ErrDenied, "eval"},
	} {
		t.Run(what, func(t *testing.T) {
			node := storeNode(t, row.open(t), backplane.Options{})
			began := time.Now()
			_, err := hubkit.New(node, hubkit.Options{Name: "ward", UserGroups: true})
			wants(t, "New", err, row.want)
			wants(t, "New", err, backplane.ErrInvalidOption)
			if text := fmt.Sprint(err); !strings.Contains(text, "UserGroups") || !strings.Contains(text, row.says) || strings.Contains(text, "secret") {
				t.Errorf("%s; it should name UserGroups and %q", text, row.says)
			}
			t.Logf("%v: %v", time.Since(began).Round(time.Millisecond), err)
		})
	}
}
