package integration_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/gobackplane/backplane/integration"
	"github.com/gobackplane/backplane/integration/redisserver"
)

// TestWardboardBehindNginx puts the real nginx, with the file that the documentation shows, in front of processes of the
// ward board that share a real Redis.
func TestWardboardBehindNginx(t *testing.T) {
	path, ok := nginxPath()
	if !ok {
		integration.Missing(t, "nginx", "no nginx on the PATH")
	}
	browser, ok := browserPath()
	if !ok {
		integration.Missing(t, "browser", "no chromium or google-chrome on PATH")
	}
	program := buildWardboard(t)
	t.Setenv("WARDBOARD_KEY", "the key of the tokens of three processes")
	redis := redisserver.Start(t, redisserver.Options{})
	var hosts []string
	var boards []*wardboard
	for range 3 {
		w := startWardboard(t, program, "-listen", "127.0.0.1:0", "-instances", "1", "-backplane", redis.URL())
		w.warns = true // of the one that is killed
		boards, hosts = append(boards, w), append(hosts, strings.TrimPrefix(w.url, "http://"))
	}
	// delivers runs the check through nginx, and wants the nurses of the ward on the instances named, in equal shares.
	delivers := func(t *testing.T, url string, on ...string) {
		t.Helper()
		out := checkWardboard(t, program, 0, "delivered 9 of 9", "-connect", url)
		spread, _, _ := strings.Cut(out, "\n")
		for _, host := range on {
			share := 9 / len(on) // of 9, or with two instances 4 and 5
			if !strings.Contains(spread, fmt.Sprintf(" %d on instance %s", share, host)) &&
				!strings.Contains(spread, fmt.Sprintf(" %d on instance %s", 9-share, host)) {
				t.Errorf("no round-robin over %v: %s", on, spread)
			}
		}
	}
	t.Run("round-robin", func(t *testing.T) { delivers(t, startNginx(t, path, hosts), hosts...) })
	// The page through nginx, which keeps the Host header: the Origin of its sockets, and of what it posts, fits.
	t.Run("page", func(t *testing.T) {
		p := openBrowser(t, browser)
		p.open(startNginx(t, path, hosts))
		p.raise(hosts[1])
		p.wantVerdict(1, "good", "9 of 9 nurses were reached")
		p.wantRollOf(9)
		p.wantOut(p.disconnect(hosts[2]), "disconnected: taken off the list, at instance 127.0.0.1:")
		p.wantRollOf(8)
		p.wantHealth(hosts[0], map[string]string{"members": "^3$"})
	})
	// An instance that drains answers 503, before the request has become a WebSocket; nginx asks the next one.
	t.Run("one drains", func(t *testing.T) {
		draining := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "connect elsewhere", http.StatusServiceUnavailable)
		}))
		defer draining.Close()
		delivers(t, startNginx(t, path, []string{hosts[0], strings.TrimPrefix(draining.URL, "http://"), hosts[2]}), hosts[0], hosts[2])
	})
	t.Run("probes stay inside", func(t *testing.T) {
		for url, want := range map[string]int{
			boards[0].url: http.StatusOK, startNginx(t, path, hosts): http.StatusNotFound,
		} {
			for _, probe := range []string{"/healthz/live", "/healthz/ready", "/healthz"} {
				if got := httpStatus(t, url+probe); got != want {
					t.Errorf("%s of %s answers %d, want %d", probe, url, got, want)
				}
			}
		}
	})
	t.Run("one is stopped", func(t *testing.T) {
		w := startWardboard(t, program, "-listen", "127.0.0.1:0", "-instances", "1", "-backplane", redis.URL())
		url := startNginx(t, path, []string{hosts[0], strings.TrimPrefix(w.url, "http://"), hosts[2]})
		testNursesComeBack(t, browser, url, strings.TrimPrefix(w.url, "http://"), func() { w.stop(t) })
	})
	t.Run("one is killed", func(t *testing.T) {
		url := startNginx(t, path, hosts)
		testNursesComeBack(t, browser, url, hosts[1], func() { boards[1].kill(t) })
		delivers(t, url, hosts[0], hosts[2])
	})
}

// testNursesComeBack ends an instance that nurses of a page are on. They come back on the others by their tokens: in their ward,
// without joining, and they are told that they may have missed alerts. The next one reaches all.
func testNursesComeBack(t *testing.T, browser, url, host string, end func()) {
	t.Helper()
	p := openBrowser(t, browser)
	p.open(url)
	p.poll(`document.querySelectorAll(".nurse[data-token='of her ward']").length === 12`)
	there := fmt.Sprintf("[data-instance=%q]", host)
	before := p.nurses(there)
	end()
	p.poll(fmt.Sprintf(`[...document.querySelectorAll(".nurse[data-resumed=true] .what")].filter(
		e => e.innerText === "back in her ward, may have missed alerts").length === %d`, strings.Count(before, "Nurse")))
	p.ready()
	if after := p.nurses("[data-resumed=true]"); before == "" || after != before || p.nurses(there) != "" {
		t.Errorf("%s were on the instance that ended, %s are back", before, after)
	}
	p.wantRollOf(9)
	p.do(chromedp.Click(chromedp.CSS(".server button:enabled")))
	p.wantVerdict(1, "good", "9 of 9 nurses were reached")
}

// nurses names the nurses that are shown with an attribute, sorted.
func (p *page) nurses(with string) string {
	p.t.Helper()
	return run(p, chromedp.Evaluate[string](fmt.Sprintf(
		`[...document.querySelectorAll(%q)].map(n => n.innerText.match(/Nurse \d+/)[0]).sort().join(", ")`, ".nurse"+with)))
}

func httpStatus(t *testing.T, url string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wardboardPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// nginxPath finds nginx. Debian keeps it where only root's PATH leads.
func nginxPath() (path string, ok bool) {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}

// startNginx starts nginx with the documented file in front of three servers, on a free port and in a folder of the
// test's own, and returns its URL. It ends with the test.
func startNginx(t *testing.T, path string, servers []string) string {
	t.Helper()
	const attempts = 5 // another process may take the port first
	for range attempts {
		address := closedPort(t)
		said, ok := tryNginx(t, path, nginxPrefix(t, address, servers))
		if ok {
			return "http://" + address
		}
		if !strings.Contains(said, "bind() to "+address) {
			t.Fatalf("nginx: %s", said)
		}
	}
	t.Fatal("nginx got no port")
	return ""
}

// nginxPrefix makes a folder for nginx to run in. Of the documented file only the addresses are replaced.
func nginxPrefix(t *testing.T, address string, servers []string) (prefix string) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "examples", "wardboard", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	hub := string(file)
	replace := func(documented, own string) {
		if strings.Count(hub, documented) != 1 {
			t.Fatalf("nginx.conf does not say %q once", documented)
		}
		hub = strings.Replace(hub, documented, own, 1)
	}
	replace("listen 80;", "listen "+address+";")
	for i, server := range servers {
		replace(fmt.Sprintf("server 10.0.0.%d:8080 ", i+1), "server "+server+" ")
	}
	prefix = t.TempDir()
	main := `daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include hub.conf;
}
`
	for name, text := range map[string]string{"nginx.conf": main, "hub.conf": hub} {
		if err := os.WriteFile(filepath.Join(prefix, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return prefix
}

// tryNginx starts nginx and returns when it serves, or else what it said before it ended.
func tryNginx(t *testing.T, path, prefix string) (said string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, "-e", "stderr", "-p", prefix, "-c", filepath.Join(prefix, "nginx.conf"))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(wardboardPatience, func() { _ = cmd.Process.Kill() }) // it may have ended by now
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadString('\n')
		said += line
		if err != nil { // it has ended
			late.Stop()
			return said + fmt.Sprint(cmd.Wait()), false
		}
		if strings.Contains(line, "start worker process ") { // it listens
			break
		}
	}
	late.Stop()
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(io.Discard, lines) }) // until the process ends
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		late := time.AfterFunc(wardboardPatience, func() { _ = cmd.Process.Kill() }) // it may have ended by now
		defer late.Stop()
		reading.Wait()
		if err := cmd.Wait(); err != nil {
			t.Errorf("nginx ended with %v", err)
		}
	})
	return said, true
}
