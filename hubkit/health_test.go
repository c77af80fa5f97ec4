package hubkit_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// ask sends one request to a handler.
func ask(t *testing.T, h http.Handler, method string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/", nil))
	return w
}

// answers fails where a handler's answer to GET is not this status with this text in it.
func answers(t *testing.T, what string, h http.Handler, status int, text string) {
	t.Helper()
	if w := ask(t, h, http.MethodGet); w.Code != status || !strings.Contains(w.Body.String(), text) {
		t.Errorf("%s: the answer is %d %q, want %d with %q", what, w.Code, w.Body, status, text)
	}
}

// reporter is a seat that says of itself what a test wants.
type reporter struct {
	seat

	health *backplane.Health
}

func (r reporter) Health() backplane.Health                    { return *r.health }
func (reporter) OnHealth(func(backplane.Health)) (stop func()) { return func() {} }
func (reporter) Stats() backplane.Stats                        { return backplane.Stats{ChannelsWanted: 7, KnownMissed: 9} }
func (r reporter) at(s backplane.State, causes ...backplane.Cause) {
	r.health.State, r.health.Causes = s, causes
}

func newReporter() reporter {
	return reporter{seat{newBus(), "0123456789abcdef"}, &backplane.Health{State: backplane.Up, LastProbe: 1500 * time.Microsecond}}
}

// A broker's outage takes nobody out of the balancer, unless the options say so; and it never restarts a process.
func TestReadyAndLive(t *testing.T) {
	node := newReporter()
	hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	standard := hub.ReadyHandler(hubkit.ReadyOptions{})
	whenDown := hub.ReadyHandler(hubkit.ReadyOptions{NotReadyWhenDown: true})
	whenDegraded := hub.ReadyHandler(hubkit.ReadyOptions{NotReadyWhenDegraded: true})
	for _, row := range []struct {
		state              backplane.State
		down, degraded     int
		reason, reasonAlso string
	}{
		{backplane.Up, 200, 200, "ok", "ok"},
		{backplane.Degraded, 200, 503, "ok", "the backplane is degraded"},
		{backplane.Down, 503, 503, "the backplane is down", "the backplane is down"},
	} {
		node.at(row.state)
		answers(t, "by default", standard, 200, "ok")
		answers(t, "not ready when down", whenDown, row.down, row.reason)
		answers(t, "not ready when degraded", whenDegraded, row.degraded, row.reasonAlso)
		answers(t, "live", hubkit.LiveHandler(), 200, "ok")
	}
	node.at(backplane.Up)
	if err := hub.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers(t, "closed", standard, 503, "the hub is closed")
	answers(t, "live, closed", hubkit.LiveHandler(), 200, "ok")
}

// A backplane that cannot tell its state is not taken for one that is down.
func TestReadyOverABareBackplane(t *testing.T) {
	hub, err := hubkit.New(seat{newBus(), "0123456789abcdef"}, hubkit.Options{Name: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	answers(t, "ready", hub.ReadyHandler(hubkit.ReadyOptions{NotReadyWhenDown: true, NotReadyWhenDegraded: true}), 200, "ok")
	if b := hub.Health().Backplane; b.State != "unknown" || b.Since != nil {
		t.Errorf("the backplane's health is %+v", b)
	}
}

func TestHealthHandlersOnlyAnswer(t *testing.T) {
	hub, err := hubkit.New(seat{newBus(), "0123456789abcdef"}, hubkit.Options{Name: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.Handler{
		"live": hubkit.LiveHandler(), "ready": hub.ReadyHandler(hubkit.ReadyOptions{}), "health": hub.HealthHandler(),
	} {
		if w := ask(t, h, http.MethodPost); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: POST is answered with %d, Allow %q", name, w.Code, w.Header().Get("Allow"))
		}
		if w := ask(t, h, http.MethodHead); w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: HEAD is answered with %d, Cache-Control %q", name, w.Code, w.Header().Get("Cache-Control"))
		}
	}
}

// The detail has everything in it but names and texts.
func TestHealthDetail(t *testing.T) {
	onNodes(t, hubkit.Options{Name: "ward"}, func(f *farm) {
		slow := f.user(0, "private-nurse", "private-ward")
		f.member(0, "private-ward", "other")
		f.member(1, "private-ward")
		slow.sock.Block()
		for range 4 { // the first is being written
			f.send(1, hubkit.ToUsers("private-nurse"), "four")
			settle()
		}
		settleFor(f.t, 5*time.Second) // heartbeats and probes
		w := ask(f.t, f.hubs[0].HealthHandler(), http.MethodGet)
		var got hubkit.Health
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
			f.t.Fatalf("%d %q: %v", w.Code, w.Header().Get("Content-Type"), err)
		}
		if strings.Contains(w.Body.String(), "private") {
			f.t.Errorf("the detail tells names:\n%s", w.Body)
		}
		if got.Hub != "ward" || got.State != "running" || got.Connections != 2 || got.Groups != 2 || got.Users != 1 || got.Subscriptions != 5 {
			f.t.Errorf("the hub's side is %+v", got)
		}
		if want := (hubkit.OutboxHealth{Waiting: 1, Messages: 3, Bytes: 12, Deepest: 3}); got.Outboxes != want {
			f.t.Errorf("outboxes are %+v, want %+v", got.Outboxes, want)
		}
		b := got.Backplane
		if b.Node != f.nodes[0].ID() || b.State != "up" || b.Since == nil || b.Since.IsZero() || b.Members != instances || len(b.Causes) != 0 ||
			b.ChannelsWanted < 5 || b.ChannelsConfirmed != b.ChannelsWanted {
			f.t.Errorf("the backplane's side is %+v", b)
		}
		slow.sock.Unblock()
		f.broker.Stop()
		settle()
		if b = f.hubs[0].Health().Backplane; b.State != "down" || len(b.Causes) == 0 || b.Causes[0].Kind != backplane.CauseLink || b.ChannelsConfirmed != 0 {
			f.t.Errorf("with a stopped broker the backplane's side is %+v", b)
		}
		f.broker.Start()
		settleFor(f.t, 10*time.Second)
		if got = f.hubs[0].Health(); got.Backplane.State != "up" || got.Backplane.Reconnects != 1 || got.Backplane.Gaps == 0 || got.Gaps != 1 {
			f.t.Errorf("after the outage the health is %+v", got)
		}
	})
}

// What an error says stays in the logs.
func TestHealthDetailTellsNoErrors(t *testing.T) {
	node := newReporter()
	node.at(backplane.Degraded, backplane.Cause{Kind: backplane.CauseMember, Node: "fedcba9876543210", Err: errors.New("secret")},
		backplane.Cause{Kind: backplane.CauseSilent, Link: 2, Err: errors.New("secret")})
	hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	body := ask(t, hub.HealthHandler(), http.MethodGet).Body.String()
	if strings.Contains(body, "secret") {
		t.Errorf("the detail tells an error's text:\n%s", body)
	}
	got := hub.Health().Backplane
	if len(got.Causes) != 2 || got.Causes[0] != (hubkit.HealthCause{Kind: "member", Node: "fedcba9876543210"}) ||
		got.Causes[1] != (hubkit.HealthCause{Kind: "silent", Link: 2}) {
		t.Errorf("the causes are %+v", got.Causes)
	}
	if got.LastProbeSeconds != 0.0015 || got.ChannelsWanted != 7 || got.KnownMissed != 9 {
		t.Errorf("the backplane's side is %+v", got)
	}
}
