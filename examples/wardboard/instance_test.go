package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// testClient is a client that fails its test.
type testClient struct{ *client }

func dialTest(t *testing.T, url, ward string) testClient {
	t.Helper()
	c, err := dialClient(bounded(t), url, "nurse", ward)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return testClient{c}
}

func (c testClient) write(t *testing.T, kind websocket.MessageType, data string) {
	t.Helper()
	if err := c.ws.Write(bounded(t), kind, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// wantError waits for an error's text; await turns the event into an error.
func (c testClient) wantError(t *testing.T, text string) {
	t.Helper()
	if e, err := c.await(bounded(t), typeError); err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %+v, %v; want an error with %q", e, err, text)
	}
}

func (c testClient) want(t *testing.T, kind string) event {
	t.Helper()
	e, err := c.await(bounded(t), kind)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (c testClient) wantClosed(t *testing.T, code websocket.StatusCode) {
	t.Helper()
	_, err := c.await(bounded(t), "nothing")
	if websocket.CloseStatus(err) != code {
		t.Fatalf("got %v, want it closed with %d", err, code)
	}
}

// alarm raises an alert and checks that both get it.
func (c testClient) alarm(t *testing.T, other testClient) {
	t.Helper()
	alert, err := c.raise(bounded(t), "bed 3")
	if err != nil {
		t.Fatal(err)
	}
	for other.alerts[alert.ID] == 0 {
		other.want(t, typeAlert)
	}
}

func TestMalformedMessages(t *testing.T) {
	b := startBoard(t)
	bad, good := dialTest(t, b.url, "4B"), dialTest(t, b.url, "4B")
	for _, data := range []string{
		"", "x", "{", "[]", `"join"`, "null", "{}", `{"type":1}`, `{"type":"join"}`, `{"type":"join","ward":""}`, `{"type":"join","ward":7}`,
		`{"type":"join","ward":"` + strings.Repeat("w", maxName+1) + `"}`, "{\"type\":\"join\",\"ward\":\"\xff\"}",
		`{"type":"welcome","ward":"4B"}`, `{"type":"Alert","ward":"4B","text":"x"}`, `{"type":"alert","ward":"4B"}`,
		`{"type":"alert","ward":"4B","text":"` + strings.Repeat("x", maxText+1) + `"}`, `{"type":"alert","text":"x"}`,
		`{"type":"fence","ward":"4B"}`, `{"type":"fence","ward":"4B","id":"` + strings.Repeat("x", maxName+1) + `"}`,
		`{"type":"join","ward":"4B"} {"type":"join","ward":"4B"}`,
	} {
		bad.write(t, websocket.MessageText, data)
		bad.wantError(t, "the instance says")
	}
	bad.write(t, websocket.MessageBinary, `{"type":"join","ward":"4B"}`)
	bad.wantError(t, "text, not binary")
	bad.alarm(t, good) // both are as they were
	good.alarm(t, bad)

	// A frame beyond the limit is not read: this socket ends, by the protocol's rules, and no other.
	bad.write(t, websocket.MessageText, strings.Repeat("x", maxMessage+1))
	bad.wantClosed(t, websocket.StatusMessageTooBig)
	good.alarm(t, dialTest(t, b.url, "4B"))
}

func TestClientsAreBounded(t *testing.T) {
	c := dialTest(t, startBoard(t, "-instances", "1").url, "ward 1")
	for i := range maxWards - 1 {
		c.write(t, websocket.MessageText, fmt.Sprintf(`{"type":"join","ward":"ward %d"}`, i+2))
		c.want(t, typeJoined)
	}
	c.write(t, websocket.MessageText, `{"type":"join","ward":"one more"}`)
	c.wantError(t, fmt.Sprintf("%d wards", maxWards))
}

func TestPagesOfOtherSitesGetNoSocket(t *testing.T) {
	b := startBoard(t)
	header := http.Header{"Origin": {"https://elsewhere.example"}}
	_, resp, err := websocket.Dial(bounded(t), b.url+"/ws", &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // the library closes it
	if err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("got %v, %v", resp, err)
	}
	header.Set("Origin", b.url)                                                                       // through the balancer, which keeps the Host header
	ws, _, err := websocket.Dial(bounded(t), b.url+"/ws", &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // the library closes it
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.CloseNow() // that it worked is what was asked
}

// An instance that is cut off says so, and when it is back tells its clients that alerts may be missing.
func TestOutageIsTold(t *testing.T) {
	broker := inmem.NewBroker()
	in := openInstance(t, broker, "A")
	c := dialTest(t, in.url, "4B")
	broker.Cut(in.node.ID())
	for c.state != "down" {
		c.want(t, typeStatus)
	}
	c.write(t, websocket.MessageText, `{"type":"alert","ward":"4B","text":"bed 3"}`)
	c.wantError(t, "unavailable")
	broker.Heal(in.node.ID())
	for c.state != "up" {
		c.want(t, typeStatus)
	}
	for c.missed == 0 {
		c.want(t, typeMissed)
	}
	c.alarm(t, c)
}

// openInstance starts an instance without the farm around it.
func openInstance(t *testing.T, broker *inmem.Broker, name string) *instance {
	t.Helper()
	node, err := backplane.Open(bounded(t), broker.Opener(), backplane.Options{Label: name})
	if err != nil {
		t.Fatal(err)
	}
	in, err := newInstance(name, description{}, node, []byte("a key for the tokens of these tests"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in.serve(l)
	t.Cleanup(func() {
		if err := in.close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return in
}

// Who answers pings stays; who does not, because the network or the client hangs, is gone after the second.
func TestPing(t *testing.T) {
	const interval = 200 * time.Millisecond
	ended := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			ended <- err
			return
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		defer cancel()
		var pinging sync.WaitGroup
		pinging.Go(func() { ping(ctx, ws, interval) })
		_, _, err = ws.Read(ctx)
		cancel()
		pinging.Wait()
		ended <- err
	}))
	defer server.Close()

	pings := make(chan struct{}, 100)
	o := &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
		pings <- struct{}{}
		return true
	}}
	ws, _, err := websocket.Dial(bounded(t), server.URL, o) //nolint:bodyclose // the library closes it
	if err != nil {
		t.Fatal(err)
	}
	reading := ws.CloseRead(bounded(t))
	for range 3 {
		<-pings
	}
	if reading.Err() != nil {
		t.Error("who answers was closed")
	}
	_ = ws.CloseNow() // it ends the server's reading
	if err = <-ended; err == nil {
		t.Error("the server has read something")
	}

	ws, _, err = websocket.Dial(bounded(t), server.URL, nil) //nolint:bodyclose // the library closes it
	if err != nil {
		t.Fatal(err)
	}
	if err = <-ended; !errors.Is(err, net.ErrClosed) { // closed here: the client, which does not read, is still there
		t.Errorf("who does not answer: %v", err)
	}
	_ = ws.CloseNow() // it is dead
}

func TestPage(t *testing.T) {
	b := startBoard(t)
	for path, want := range map[string]struct {
		status int
		kind   string
	}{
		"/":                 {http.StatusOK, "text/html"},
		"/page.css":         {http.StatusOK, "text/css"},
		"/page.js":          {http.StatusOK, "text/javascript"},
		"/ward.js":          {http.StatusOK, "text/javascript"},
		"/without/":         {http.StatusOK, "text/html"},
		"/without/page.js":  {http.StatusOK, "text/javascript"},
		"/page.go":          {http.StatusNotFound, "text/plain"},
		"/x/page.css":       {http.StatusNotFound, "text/plain"},
		"/without/page.go":  {http.StatusNotFound, "text/plain"},
		"/ws":               {http.StatusUpgradeRequired, "text/plain"},
		"/ws?nurse=" + long: {http.StatusBadRequest, "text/plain"},
	} {
		req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, b.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if closeErr := resp.Body.Close(); err != nil || closeErr != nil {
			t.Fatal(err, closeErr)
		}
		if resp.StatusCode != want.status || !strings.HasPrefix(resp.Header.Get("Content-Type"), want.kind) || len(body) == 0 {
			t.Errorf("%s: %s, %s, %d bytes", path, resp.Status, resp.Header.Get("Content-Type"), len(body))
		}
		if resp.StatusCode == http.StatusOK && !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s has no content security policy", path)
		}
	}
}

var long = strings.Repeat("n", maxName+1)
