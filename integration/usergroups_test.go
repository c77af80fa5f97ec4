package integration_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
)

// wardHub opens a node and a hub with memberships of users; both end with the test.
func wardHub(t *testing.T, url string) *hubkit.Hub {
	t.Helper()
	hub, err := hubkit.New(storeNode(t, redis.URL(url), backplane.Options{}), hubkit.Options{Name: "ward", UserGroups: true})
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

// Memberships work over a real Redis, whose clock ends them, with the rights that the documentation asks for.
func TestUserGroupsOverRedis(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{Users: []string{"ward " + fmt.Sprintf(rights, "ward") + fmt.Sprintf(storeRights, "ward")}})
	open := func() *hubkit.Hub { return wardHub(t, server.URLAs("ward", "secret")) }
	a, b := open(), open()
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
	keys, _ := server.Do("KEYS", "*").([]any)
	if len(keys) != 1 {
		t.Fatalf("the keys are %v", keys)
	}
	key, _ := keys[0].(string)
	if ttl, _ := server.Do("TTL", key).(int64); ttl < 3000 || ttl > 3600 {
		t.Errorf("%s lasts %d s", key, ttl)
	}
	if _, err = a.LeaveUser(t.Context(), "nurse", "4B"); err != nil && present.Groups() != nil {
		t.Error(err)
	}
	if keys, _ = server.Do("KEYS", "*").([]any); len(keys) != 0 {
		t.Errorf("left behind: %v", keys)
	}
}
