package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// ask makes a request of a page, and returns the status and the text of the answer.
func ask(t *testing.T, method, url string, header http.Header) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(bounded(t), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	return resp.StatusCode, string(b)
}

func who(t *testing.T, base, ward string) roll {
	t.Helper()
	status, body := ask(t, http.MethodGet, base+"/who?ward="+url.QueryEscape(ward), nil)
	var r roll
	if err := json.Unmarshal([]byte(body), &r); err != nil || status != http.StatusOK {
		t.Fatalf("who is in %s: status %d, %q, %v", ward, status, body, err)
	}
	return r
}

// on lists the instances of the nurses in a roll, sorted.
func (r roll) on() string {
	var names []string
	for _, n := range r.Nurses {
		names = append(names, n.Instance)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Whichever instance the balancer asks, the list is of all of them.
func TestWhoIsInAWard(t *testing.T) {
	b := startBoard(t, "-backplane", "inmem:?heartbeat=50ms&memberTimeout=500ms")
	dialTest(t, b.url, "4B")
	dialTest(t, b.url, "2A")
	dialTest(t, b.url, "4B")
	dialTest(t, b.url, "4B")
	asked := map[string]bool{}
	for len(asked) < 3 {
		r := who(t, b.url, "4B")
		asked[r.Instance] = true
		if r.on() != "A A C" || len(r.Missing) > 0 || r.More {
			t.Errorf("instance %s says %+v", r.Instance, r)
		}
		for _, n := range r.Nurses {
			if n.Name != "nurse" || n.ID == "" || n.Since.IsZero() {
				t.Errorf("listed as %+v", n)
			}
		}
	}
	if r := who(t, b.url, "nobody's"); r.Nurses == nil || len(r.Nurses) > 0 {
		t.Errorf("an empty ward: %+v", r)
	}
	for r := who(t, b.url, "4B"); r.Settling; { // as long as the instance may not know all others
		r = who(t, b.url, "4B")
	}
	// Without a backplane each instance has a list of its own, and believes that it is whole.
	without := startBoard(t, "-backplane", "none", "-instances", "2")
	dialTest(t, without.url, "4B")
	if first, second := who(t, without.url, "4B"), who(t, without.url, "4B"); first.on() != "A" || second.on() != "" {
		t.Errorf("without a backplane: %+v, %+v", first, second)
	}
}

// An instance that does not answer is named, and the rest of the list is there.
func TestWhoNamesWhoIsMissing(t *testing.T) {
	broker := inmem.NewBroker()
	a, b := openInstance(t, broker, "A"), openInstance(t, broker, "B")
	nurse := dialTest(t, a.url, "4B")
	dialTest(t, b.url, "4B")
	id := nurseOn(t, who(t, b.url, "4B"), "B").ID
	disconnect := func(wantStatus int, want string) {
		t.Helper()
		if status, said := ask(t, http.MethodPost, a.url+"/disconnect?id="+id, nil); status != wantStatus || !strings.Contains(said, want) {
			t.Errorf("disconnect: %d, %q; want %d, %q", status, said, wantStatus, want)
		}
	}
	broker.Cut(a.node.ID())
	for nurse.state != "down" {
		nurse.want(t, typeStatus)
	}
	disconnect(http.StatusServiceUnavailable, "nothing was done")
	broker.Heal(a.node.ID())
	for nurse.state == "down" {
		nurse.want(t, typeStatus)
	}
	broker.Hang(b.node.ID())
	if r := who(t, a.url, "4B"); r.on() != "A" || !slices.Equal(r.Missing, []string{"B"}) {
		t.Errorf("while B does not answer: %+v", r)
	}
	disconnect(http.StatusGatewayTimeout, "may have been done")
	broker.Heal(b.node.ID())
}

func nurseOn(t *testing.T, r roll, instance string) listed {
	t.Helper()
	i := slices.IndexFunc(r.Nurses, func(n listed) bool { return n.Instance == instance })
	if i < 0 {
		t.Fatalf("nobody on %s in %+v", instance, r)
	}
	return r.Nurses[i]
}

// Whoever is on the list can be disconnected from any instance; she hears why, and is off the list at once.
func TestDisconnectFromTheList(t *testing.T) {
	b := startBoard(t)
	nurse, other := dialTest(t, b.url, "4B"), dialTest(t, b.url, "4B")
	first := who(t, b.url, "4B")
	id := nurseOn(t, first, "A").ID
	if first.Instance != "A" {
		t.Fatalf("the first request went to %s", first.Instance)
	}
	at := b.url + "/disconnect?id=" + url.QueryEscape(id)
	for _, foreign := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://elsewhere.example"}}} {
		if status, _ := ask(t, http.MethodPost, at, foreign); status != http.StatusForbidden {
			t.Errorf("the page of another site %v: status %d", foreign, status)
		}
	}
	if status, _ := ask(t, http.MethodGet, at, nil); status != http.StatusNotFound { // a picture in a mail must not do it
		t.Errorf("GET: status %d", status)
	}
	// This is the fifth request, so it is at B, and its own site's.
	if status, said := ask(t, http.MethodPost, at, http.Header{"Origin": {b.url}}); status != http.StatusNoContent {
		t.Fatalf("status %d, %q", status, said)
	}
	if r := who(t, b.url, "4B"); r.on() != "B" {
		t.Errorf("the list is %+v", r)
	}
	_, err := nurse.await(bounded(t), "nothing")
	if code := websocket.CloseStatus(err); code != websocket.StatusPolicyViolation || !strings.Contains(err.Error(), "taken off the list, at instance B") {
		t.Errorf("she is told %v", err)
	}
	other.alarm(t, other)
	for id, want := range map[string]int{id: http.StatusNotFound, "": http.StatusBadRequest, "x": http.StatusBadRequest} {
		if status, said := ask(t, http.MethodPost, b.url+"/disconnect?id="+url.QueryEscape(id), nil); status != want || said == "" {
			t.Errorf("disconnect %q: status %d, %q; want %d", id, status, said, want)
		}
	}
	for _, ward := range []string{"", strings.Repeat("w", 2000), "%ff"} {
		if status, said := ask(t, http.MethodGet, b.url+"/who?ward="+ward, nil); status != http.StatusBadRequest || said == "" {
			t.Errorf("who is in %.9q: status %d, %q", ward, status, said)
		}
	}
}

// A client asks for the health of its own instance, and gets what the handler serves.
func TestHealth(t *testing.T) {
	in := openInstance(t, inmem.NewBroker(), "A")
	c := dialTest(t, in.url, "4B")
	c.write(t, websocket.MessageText, `{"type":"health"}`)
	e := c.want(t, typeHealth)
	h := e.Health
	if e.Instance != "A" || h == nil || h.Hub != "ward" || h.Connections != 1 || h.Groups != 1 || h.Backplane.State != "up" ||
		h.Backplane.Node != in.node.ID() || h.Backplane.Members != 1 || h.Backplane.ChannelsConfirmed == 0 {
		t.Errorf("got %+v", e)
	}
	status, body := ask(t, http.MethodGet, in.url+"/healthz", nil)
	var served hubkit.Health
	if err := json.Unmarshal([]byte(body), &served); err != nil || status != http.StatusOK || served.Backplane.Node != h.Backplane.Node {
		t.Errorf("/healthz: %d, %q, %v", status, body, err)
	}
}

// An instance that drains sends who comes elsewhere while that is still possible: before the request is a WebSocket.
func TestDrainingInstanceTakesNobody(t *testing.T) {
	in := openInstance(t, inmem.NewBroker(), "A")
	c := dialTest(t, in.url, "4B")
	probes := func(wantReady int) {
		t.Helper()
		for probe, want := range map[string]int{"live": http.StatusOK, "ready": wantReady} {
			if status, said := ask(t, http.MethodGet, in.url+"/healthz/"+probe, nil); status != want {
				t.Errorf("%s: %d, %q; want %d", probe, status, said, want)
			}
		}
	}
	probes(http.StatusOK)
	drained := make(chan error, 1)
	go func() {
		_, err := in.hub.Drain(bounded(t), hubkit.DrainOptions{Over: 1})
		drained <- err
	}()
	c.wantClosed(t, websocket.StatusGoingAway)
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	_, resp, err := websocket.Dial(bounded(t), in.url+"/ws", nil) //nolint:bodyclose // the library closes it
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a new client: %v, %v", resp, err)
	}
	probes(http.StatusServiceUnavailable)
}
