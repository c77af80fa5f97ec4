package integration_test

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/gobackplane/backplane/integration"
	"github.com/gobackplane/backplane/integration/redisserver"
)

// testWardboardWard looks at the list of who is in the ward, disconnects nurses, and reads the health of the instances.
func testWardboardWard(t *testing.T, program string) {
	t.Helper()
	path, ok := browserPath()
	if !ok {
		integration.Missing(t, "browser", "no chromium or google-chrome on PATH")
	}
	t.Run("disconnect", func(t *testing.T) {
		p := openBrowser(t, path)
		w := startWardboard(t, program, "-listen", "127.0.0.1:0", "-backplane", "inmem:?heartbeat=50ms&memberTimeout=500ms")
		p.open(w.url)
		p.wantRoll("9 nurses on 3 instances.", map[string]int{"A": 3, "B": 3, "C": 3})
		out := p.disconnect("B")
		p.wantRoll("8 nurses on 3 instances.", map[string]int{"A": 3, "B": 2, "C": 3})
		p.poll(`document.querySelector("#roll-said").innerText === ` + fmt.Sprintf("%q", out+" was disconnected."))
		p.wantOut(out, "disconnected: taken off the list, at instance ")
		// With the keyboard: the focus does not get lost with the entry.
		if at := run(p, chromedp.Evaluate[string](`document.activeElement.closest("#roll li")?.innerText ?? ""`)); !strings.Contains(at, "Disconnect") {
			t.Errorf("the focus is at %q, want it at another button of the list", at)
		}
		p.raise("B") // two nurses are there still
		p.wantVerdict(1, "good", "8 of 8 nurses were reached")

		// All others connect again by themselves when the server is back. She does not.
		w.stop(t)
		p.poll(`document.querySelectorAll(".nurse[data-state=offline]").length === 11`)
		p.poll(`document.querySelector("#ward").dataset.state === "stale"`)
		u, err := url.Parse(w.url)
		if err != nil {
			t.Fatal(err)
		}
		startWardboard(t, program, "-listen", u.Host)
		p.poll(`document.querySelectorAll(".nurse:not([data-instance=''])").length === 11`)
		p.wantRollOf(8)
		p.wantOut(out, "disconnected: taken off the list, at instance ")
		p.do(chromedp.Click(chromedp.CSS(".nurse[data-state=out] .again")))
		p.ready()
		p.wantRollOf(9)
		p.raise("A")
		p.wantVerdict(2, "good", "9 of 9 nurses were reached")
	})
	t.Run("health", func(t *testing.T) {
		p := openBrowser(t, path)
		p.open(startWardboard(t, program, "-listen", "127.0.0.1:0").url)
		for _, instance := range []string{"A", "B", "C"} {
			p.wantHealth(instance, map[string]string{
				"backplane": "^up$", "since": `^\d\d:\d\d:\d\d$`, "probe": `^\d+\.\d\d ms$`, "members": "^3$", "connections": "^4$", "wards": "^2$",
				"subscriptions": `^(\d+) of \1$`, "waiting": `^\d+$`, "gaps": "^0$", "missed": "^0$", "reconnects": "^0$", "lost": "^0$",
			})
		}
	})
	// What the list shows without a backplane is the trouble: the nurses of one instance, as if they were all.
	t.Run("without a backplane", func(t *testing.T) {
		p := openBrowser(t, path)
		p.open(startWardboard(t, program, "-listen", "127.0.0.1:0", "-backplane", "none").url)
		p.poll(`document.querySelector("#roll-note").innerText.startsWith("3 nurses on 1 instance") &&
			document.querySelector("#roll-by").innerText.includes("only its own")`)
		p.wantHealth("B", map[string]string{"members": "^1$"})
	})
	t.Run("processes", func(t *testing.T) { testWardboardProcesses(t, program, path) })
}

// testWardboardProcesses looks at the pages of two of three processes that share a Redis. The third falls silent, and comes
// back; the second is killed.
func testWardboardProcesses(t *testing.T, program, browser string) {
	t.Helper()
	redis := redisserver.Start(t, redisserver.Options{})
	var boards []*wardboard
	var names []string
	for range 3 {
		w := startWardboard(t, program, "-listen", "127.0.0.1:0", "-instances", "1", "-backplane", redis.URL()+"?heartbeat=1s&memberTimeout=6s")
		w.warns = true
		boards, names = append(boards, w), append(names, strings.TrimPrefix(w.url, "http://"))
	}
	p, other := openBrowser(t, browser), openBrowser(t, browser)
	p.open(boards[0].url)
	other.open(boards[1].url)
	p.wantRoll("18 nurses on 2 instances.", map[string]int{names[0]: 9, names[1]: 9})
	other.wantRoll("18 nurses on 2 instances.", map[string]int{names[0]: 9, names[1]: 9})
	p.wantHealth(names[0], map[string]string{"backplane": "^up$", "members": "^3$", "lost": "^0$"})

	out := p.disconnect(names[1])
	other.wantOut(out, "disconnected: taken off the list, at instance "+names[0])
	p.wantRoll("17 nurses on 2 instances.", map[string]int{names[0]: 9, names[1]: 8})

	boards[2].signal(t, syscall.SIGSTOP)
	p.wantRoll(fmt.Sprintf("17 nurses on 2 instances, and maybe more: instance %s does not answer.", names[2]),
		map[string]int{names[0]: 9, names[1]: 8})
	p.wantHealth(names[0], map[string]string{"backplane": "^degraded: member "})
	boards[2].signal(t, syscall.SIGCONT)
	p.wantRoll("17 nurses on 2 instances.", map[string]int{names[0]: 9, names[1]: 8})

	boards[1].kill(t)
	other.poll(`document.querySelectorAll(".nurse[data-state=offline]").length === 11`)
	p.wantRoll("9 nurses on 1 instance.", map[string]int{names[0]: 9})
	p.wantHealth(names[0], map[string]string{"backplane": "^up$", "members": "^2$", "connections": "^12$"})
}

// signal sends a signal to the process.
func (w *wardboard) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		t.Error(err)
	}
}

// wantRoll waits until the list says what it should, and checks how many nurses it has on each instance.
func (p *page) wantRoll(note string, on map[string]int) {
	p.t.Helper()
	p.poll(fmt.Sprintf(`document.querySelector("#roll-note").innerText === %q`, note))
	got := run(p, chromedp.Evaluate[[]string](`[...document.querySelectorAll("#roll li")].map(e => e.dataset.instance + "\n" + e.innerText)`))
	count := make(map[string]int)
	for _, entry := range got {
		instance, text, _ := strings.Cut(entry, "\n")
		count[instance]++
		if !strings.HasPrefix(text, "Nurse ") || !strings.Contains(text, "on "+instance+", since ") {
			p.t.Errorf("an entry reads %q", text)
		}
	}
	if fmt.Sprint(count) != fmt.Sprint(on) {
		p.t.Errorf("the list has %v, want %v", count, on)
	}
}

// wantRollOf waits until the list has a number of nurses, wherever they are.
func (p *page) wantRollOf(n int) {
	p.t.Helper()
	p.poll(fmt.Sprintf(`document.querySelectorAll("#roll li").length === %d && document.querySelector("#ward").dataset.state !== "stale"`, n))
}

// disconnect clicks the button of a nurse on an instance, and returns her name.
func (p *page) disconnect(instance string) (name string) {
	p.t.Helper()
	entry := fmt.Sprintf("#roll li[data-instance=%q]", instance)
	name = run(p, chromedp.Evaluate[string](fmt.Sprintf(`document.querySelector(%q).querySelector(".who").innerText`, entry)))
	p.do(chromedp.Click(chromedp.CSS(entry + " button")))
	return name
}

// wantOut waits until a nurse is shown as thrown out, with the reason that her instance gave, and only she.
func (p *page) wantOut(name, reason string) {
	p.t.Helper()
	p.poll(`document.querySelectorAll(".nurse[data-state=out]").length === 1`)
	text := run(p, chromedp.Text(chromedp.CSS(".nurse[data-state=out]")))
	if !strings.Contains(text, name+"\n") && !strings.Contains(text, name+" ") || !strings.Contains(text, reason) || !strings.Contains(text, "Connect again") {
		p.t.Errorf("%s is shown as %q, want %q", name, text, reason)
	}
}

// wantHealth waits until the health of an instance is shown as expressions say, by the names of the columns.
func (p *page) wantHealth(instance string, want map[string]string) {
	p.t.Helper()
	for of, expression := range want {
		p.poll(fmt.Sprintf(`new RegExp(%q).test(document.querySelector(%q)?.innerText)`, expression,
			fmt.Sprintf("#health tr[data-instance=%q] td[data-of=%s]", instance, of)))
	}
}
