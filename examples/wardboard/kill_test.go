package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane/inmem"
)

// One instance dies in the middle of the check. Over Redis, where it is a process, package integration does it.
func TestCheckKill(t *testing.T) {
	const quick = "inmem:?heartbeat=50ms&memberTimeout=500ms"
	for _, tc := range []struct {
		args   string
		status int
		lines  []string // in the output; the last one is the last
	}{
		{"-check -kill -backplane inmem:?heartbeat=300ms&memberTimeout=3s", exitOK, []string{ // time enough to ask before
			"instance B dies, and with it the sockets of nurse 2, nurse 5, nurse 8, nurse 11\n",
			"s: 6 nurses; no answer from instance B", // told before it is known dead
			"s: 6 nurses\ninstance C has on its list after",
			"s: 6 nurses\ndelivered 6 of 6",
		}},
		{"-check -kill -instances 2 -backplane " + quick, exitOK, []string{"sockets of nurse 2, nurse 4, nurse 6, nurse 8, nurse 10, nurse 12\n", "delivered 5 of 5"}},
		{"-check -kill -instances 12 -backplane " + quick, exitOK, []string{"sockets of nurse 2\n", "delivered 8 of 8"}},
		{"-check -kill -backplane none", exitFailed, []string{"instance A has 3 of 9 nurses of ward 4B on its list"}},
	} {
		status, stdout, stderr := runProgram(t, strings.Fields(tc.args)...)
		for _, line := range tc.lines {
			if !strings.Contains(stdout, line) {
				t.Errorf("%s: %q is not in %q", tc.args, line, stdout)
			}
		}
		if last := tc.lines[len(tc.lines)-1]; status != tc.status || !strings.HasSuffix(stdout, last+"\n") || stderr != "" {
			t.Errorf("%s: status %d, %q, %q", tc.args, status, stdout, stderr)
		}
	}
	wantNoGoroutines(t)
}

// What the list must not say ends the check with a line that tells it.
func TestKillJudgesTheList(t *testing.T) {
	left, dead := []*client{{name: "nurse 1"}, {name: "nurse 3"}}, []*client{{name: "nurse 2"}}
	on := func(names ...string) (list []listed) {
		for _, name := range names {
			list = append(list, listed{Name: name})
		}
		return list
	}
	for _, tc := range []struct {
		name    string
		roll    roll
		timeout time.Duration
		says    string // "" where the list is right
	}{
		{"right", roll{Nurses: on("nurse 1", "nurse 3")}, time.Hour, ""},
		{"the dead are on it", roll{Nurses: on("nurse 1", "nurse 2", "nurse 3")}, time.Hour, "wrong list"},
		{"one is not on it", roll{Nurses: on("nurse 1"), Missing: []string{"B"}}, time.Hour, "wrong list"},
		{"never whole", roll{Nurses: on("nurse 1", "nurse 3"), Missing: []string{"B"}}, -killSlack, "beyond the member timeout"},
		{"settles for ever", roll{Nurses: on("nurse 1", "nurse 3"), Settling: true}, -killSlack, "beyond the member timeout"},
	} {
		data, err := json.Marshal(tc.roll)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }))
		var out bytes.Buffer
		k := &checkup{out: &out, members: left}
		err = k.awaitOff(bounded(t), dead, []string{server.URL}, time.Now(), tc.timeout)
		server.Close()
		if tc.says == "" && err != nil || tc.says != "" && (!errors.Is(err, errNotDelivered) || !strings.Contains(lastLine(out.String()), tc.says)) {
			t.Errorf("%s: %v, %q", tc.name, err, out.String())
		}
	}
}

// An instance that says goodbye has not died, and the check notices.
func TestKillWantsNoGoodbye(t *testing.T) {
	broker := inmem.NewBroker()
	urls := []string{openInstance(t, broker, "A").url}
	b := openInstance(t, broker, "B")
	k := &checkup{out: &bytes.Buffer{}, run: "x"}
	defer k.close()
	if err := k.gather(bounded(t), append(urls, b.url)); err != nil {
		t.Fatal(err)
	}
	closing := make(chan error, 1)
	go func() { closing <- b.close(context.WithoutCancel(t.Context())) }()
	if _, err := k.bury(bounded(t)); err == nil || !strings.Contains(err.Error(), "nurse 2 on instance B: the socket did not die") {
		t.Errorf("got %v", err)
	}
	if err := <-closing; err != nil {
		t.Error(err)
	}
}
