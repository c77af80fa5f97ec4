package redis

import (
	"context"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// role is what a server says about itself.
type role struct {
	known    bool // false: it may not be asked
	master   bool
	replicas int    // of a master
	name     string // "master", "slave", "sentinel"
	byInfo   bool   // ROLE was refused, INFO was not
}

// err is nil for a server that may publish, or that does not say.
func (r role) err() error {
	switch {
	case !r.known || r.master:
		return nil
	case r.name == "sentinel":
		return readOnly("the server is a Sentinel, which is not supported yet; name the Redis servers it watches")
	default:
		return readOnly("the server is a replica; what is published there reaches only its own subscribers")
	}
}

// askRole asks again, as the server allowed it when the session was opened.
func (s *session) askRole(ctx context.Context) (role, error) {
	if s.role.byInfo {
		return askInfo(ctx, s.client)
	}
	return readRole(ctx, s.client, s.client.Do(ctx, "role"))
}

// readRole reads the answer of ROLE, and asks INFO where ROLE is refused.
func readRole(ctx context.Context, client *goredis.Client, ask *goredis.Cmd) (role, error) {
	reply, err := ask.Slice()
	switch {
	case err == nil && len(reply) > 0:
		r := role{known: true}
		r.name, _ = reply[0].(string)
		r.master = r.name == "master"
		if const3 := 3; r.master && len(reply) >= const3 {
			replicas, _ := reply[2].([]any)
			r.replicas = len(replicas)
		}
		return r, nil
	case err == nil, goredis.HasErrorPrefix(err, "NOPERM"), goredis.HasErrorPrefix(err, "unknown command"):
		return askInfo(ctx, client)
	default:
		return role{}, err
	}
}

// askInfo reads the role from INFO. Where that is refused too the role is unknown, and no error.
func askInfo(ctx context.Context, client *goredis.Client) (role, error) {
	text, err := client.Info(ctx, "replication").Result()
	switch {
	case err == nil:
	case isReply(err) && !goredis.IsAuthError(err):
		return role{}, nil
	default:
		return role{}, err
	}
	r := role{byInfo: true}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "role":
			r.known, r.name, r.master = true, value, value == "master"
		case "connected_slaves", "connected_replicas":
			r.replicas, _ = strconv.Atoi(value)
		}
	}
	return r, nil
}
