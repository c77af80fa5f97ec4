//go:build !race

package integration_test

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
)

// usage is what a moment's counters say.
type usage struct {
	at       time.Time
	own, srv time.Duration // CPU time of this process and of the server
	in, out  int           // commands the server took, bytes it sent
}

func measure(t *testing.T, server *redisserver.Server) usage {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	u := usage{at: time.Now(), own: time.Duration(r.Utime.Nano() + r.Stime.Nano())}
	info := map[string]string{}
	for _, section := range []string{"stats", "cpu"} {
		text, _ := server.Do("INFO", section).(string)
		for line := range strings.Lines(text) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				info[k] = v
			}
		}
	}
	number := func(k string) float64 {
		v, err := strconv.ParseFloat(info[k], 64)
		if err != nil {
			t.Fatalf("INFO says %q for %s", info[k], k)
		}
		return v
	}
	u.srv = time.Duration((number("used_cpu_sys") + number("used_cpu_user")) * float64(time.Second))
	u.in = int(number("total_commands_processed"))
	u.out = int(number("total_net_output_bytes"))
	return u
}

// Two hundred idle nodes on one server, then a rolling restart of all of them: what it costs, and that nobody is taken
// for dead who is not.
func TestFigureTwoHundredIdleNodes(t *testing.T) {
	const count, watch = 200, 10 * time.Second
	server := redisserver.Start(t, redisserver.Options{})
	open := func() *backplane.Node {
		n, err := backplane.Open(t.Context(), redis.URL(server.URL()), backplane.Options{Namespace: "idle"})
		if err != nil {
			t.Fatal(err)
		}
		n.Answer("ping", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return nil, nil })
		return n
	}
	nodes := make([]*backplane.Node, count)
	for i := range nodes {
		nodes[i] = open()
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			if err := n.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	everybody := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; {
			missing := 0
			for _, n := range nodes {
				missing += count - len(n.Members())
			}
			if missing == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d members are missing in all", what, missing)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	everybody("after the start")

	a := measure(t, server)
	<-time.After(watch)
	b := measure(t, server)
	s := b.at.Sub(a.at).Seconds()
	t.Logf("%d idle nodes: %.0f commands/s, %.0f kB/s from the server, CPU %.1f %% of a core here (%.2f ms/s a node), %.1f %% in the server",
		count, float64(b.in-a.in)/s, float64(b.out-a.out)/s/1000,
		100*(b.own-a.own).Seconds()/s, 1000*(b.own-a.own).Seconds()/s/count, 100*(b.srv-a.srv).Seconds()/s)

	askAll := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		answers, err := nodes[0].AskAll(ctx, "ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range answers {
			if one.Err != nil {
				t.Errorf("node %s: %v", one.Node, one.Err)
			}
		}
		t.Logf("an ask to all %d: %v", len(answers), time.Since(began))
		if len(answers) != count {
			t.Errorf("%d answers, want %d", len(answers), count)
		}
	}
	for range 3 {
		askAll()
	}

	began := time.Now()
	a = measure(t, server)
	lost := uint64(0)
	for i, n := range nodes {
		lost += n.Stats().MembersLost
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		nodes[i] = open()
	}
	everybody("after the rolling restart")
	b = measure(t, server)
	for _, n := range nodes {
		lost += n.Stats().MembersLost
	}
	t.Logf("rolling restart of %d nodes: %v, %d commands, CPU %.1f s here, %.1f s in the server, %d false deaths",
		count, time.Since(began), b.in-a.in, (b.own - a.own).Seconds(), (b.srv - a.srv).Seconds(), lost)
	if lost > 0 {
		t.Errorf("%d members were declared dead although they said goodbye or live", lost)
	}
	askAll()
}
