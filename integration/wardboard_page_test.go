package integration_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/gobackplane/backplane/integration"
)

// testWardboardPage looks at the page, clicks, and reads what it shows. It waits for conditions of the page only.
func testWardboardPage(t *testing.T, program string) {
	t.Helper()
	path, ok := browserPath()
	if !ok {
		integration.Missing(t, "browser", "no chromium or google-chrome on PATH")
	}
	t.Run("with a backplane", func(t *testing.T) {
		p := openBrowser(t, path)
		p.open(startWardboard(t, program, "-listen", "127.0.0.1:0").url)
		for i, instance := range []string{"A", "B", "C"} {
			p.raise(instance)
			p.wantVerdict(i+1, "good", "9 of 9 nurses were reached")
			p.wantNurses(i+1, func(nurse) bool { return true })
		}
	})
	t.Run("without, then with", func(t *testing.T) {
		p := openBrowser(t, path)
		p.open(startWardboard(t, program, "-listen", "127.0.0.1:0", "-backplane", "none").url)
		p.raise("B")
		p.wantVerdict(1, "bad", "3 of 9 nurses were reached")
		p.wantNurses(1, func(n nurse) bool { return n.Instance == "B" })

		p.do(chromedp.Click(chromedp.CSS("#with")), chromedp.WaitVisible(chromedp.CSS("#with[aria-current=page]")))
		p.ready()
		p.raise("B")
		p.wantVerdict(1, "good", "9 of 9 nurses were reached")
		p.wantNurses(1, func(nurse) bool { return true })
	})
	// The seed of much trouble: clients that connect again are on other instances, and have to join again.
	t.Run("restart", func(t *testing.T) {
		p := openBrowser(t, path)
		w := startWardboard(t, program, "-listen", "127.0.0.1:0")
		p.open(w.url)
		w.stop(t)
		p.poll(`document.querySelectorAll(".nurse[data-state=offline]").length === 12`)
		u, err := url.Parse(w.url)
		if err != nil {
			t.Fatal(err)
		}
		startWardboard(t, program, "-listen", u.Host)
		p.ready()
		p.raise("C")
		p.wantVerdict(1, "good", "9 of 9 nurses were reached")
	})
}

// page is a browser with one page.
type page struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps the browser in it
}

// nurse is a nurse as the page shows it.
type nurse struct {
	Number   int    `json:"number"`
	State    string `json:"state"`
	Instance string `json:"instance"`
	Column   string `json:"column"`
	Text     string `json:"text"`
}

func openBrowser(t *testing.T, path string) *page {
	t.Helper()
	profile := t.TempDir()
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()),
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.WindowSize(1280, 800))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	p := &page{t: t, ctx: ctx}

	// What the page complains of in its console is a failure: an exception, or what its content security policy forbids.
	var reading sync.WaitGroup
	messages := chromedp.Console(ctx)
	reading.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			text := fmt.Sprint(m) // while the program is restarted, or was killed, there are complaints
			if !strings.Contains(text, "WebSocket connection to") && !strings.Contains(text, "net::ERR_CONNECTION_REFUSED") {
				t.Errorf("the page's console says: %s", text)
			}
		}
	})
	t.Cleanup(func() {
		closing, cancel := context.WithTimeout(ctx, wardboardPatience)
		defer cancel()
		if err := chromedp.Cancel(closing); err != nil {
			t.Errorf("closing the browser: %v", err)
		}
		reading.Wait()
	})
	return p
}

// do does things one after the other, each of which waits for what it needs.
func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	for _, action := range actions {
		run(p, action)
	}
}

// poll waits until a JavaScript expression is true.
func (p *page) poll(expression string) {
	p.t.Helper()
	run(p, chromedp.Poll[bool](expression))
}

// run runs an action, with a bound, and returns what it found.
func run[T any](p *page, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, wardboardPatience)
	defer cancel()
	got, err := chromedp.Run(ctx, action)
	if err != nil {
		saying, done := context.WithTimeout(p.ctx, wardboardPatience)
		defer done()
		shown, _ := chromedp.Run(saying, chromedp.TextContent(chromedp.CSS("main")))
		p.t.Fatalf("%v; the page shows %q", err, strings.Join(strings.Fields(shown), " "))
	}
	return got
}

func (p *page) open(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
	p.ready()
}

// ready waits until all nurses have joined their wards.
func (p *page) ready() {
	p.t.Helper()
	p.poll(`document.querySelectorAll(".nurse:not([data-instance=''])").length === 12`)
}

// raise clicks an instance's button.
func (p *page) raise(instance string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(fmt.Sprintf(`.column[data-instance=%q] .server button:enabled`, instance))))
}

// wantVerdict waits for the verdict on the page's n-th alert and until it is seen: the alert has travelled, nothing moves
// any more.
func (p *page) wantVerdict(n int, state, want string) {
	p.t.Helper()
	p.do(chromedp.WaitVisible(chromedp.CSS(fmt.Sprintf(`#result[data-state=%s][data-round="%d"]`, state, n))))
	p.poll(`document.getAnimations().every(a => a.playState === "finished")`)
	if got := run(p, chromedp.Text(chromedp.CSS("#headline"))); got != want {
		p.t.Fatalf("the page says %q, want %q", got, want)
	}
}

// wantNurses checks what is shown for each of the twelve: three of ward 4B on each instance, of which those that reached
// names have the alert, the count-th, and the others are shown as not reached; and the nurses of the other ward, in peace.
func (p *page) wantNurses(count int, reached func(nurse) bool) {
	p.t.Helper()
	nurses := run(p, chromedp.Evaluate[[]nurse](`[...document.querySelectorAll(".nurse")].map(n => ({
		number: parseInt(n.innerText.match(/Nurse (\d+)/)[1]),
		state: n.dataset.state,
		instance: n.dataset.instance,
		column: n.closest(".column").querySelector("h2").innerText,
		text: n.checkVisibility({ opacityProperty: true, visibilityProperty: true }) ? n.innerText : "",
	}))`))
	on := make(map[string]int)
	for _, n := range nurses {
		state, text := "got", fmt.Sprintf("%d alert", count)
		switch {
		case n.Number > 9:
			state, text = "waiting", "not disturbed"
		case !reached(n):
			state, text = "lost", "never heard of it"
		}
		if n.State != state || !strings.Contains(n.Text, text) || strings.Contains(n.Text, "Bed ") != (state == "got") ||
			!strings.Contains(n.Text, "on "+n.Instance) || n.Column != "Instance "+n.Instance {
			p.t.Errorf("nurse %d is shown as %+v, want %s with %q", n.Number, n, state, text)
		}
		if n.Number <= 9 {
			on[n.Instance]++
		}
	}
	if len(nurses) != 12 || on["A"] != 3 || on["B"] != 3 || on["C"] != 3 {
		p.t.Errorf("%d nurses are shown, those of the ward on %v", len(nurses), on)
	}
}
