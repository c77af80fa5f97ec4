package hubtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/conformance/internal/since"
)

// Option changes how the suite runs.
type Option func(*settings)

type settings struct {
	patience time.Duration
	bubble   bool
	short    bool
	strict   bool
	except   []string          // ids that strict does not concern
	known    map[string]string // property id → link
	without  []Ability
	only     func(Property) bool
	since    since.Version
	wrong    []error // what cannot be meant
}

const (
	defaultPatience = 30 * time.Second

	// watchdog is how many patiences a single call may take. Each is bounded by one, so beyond this the hub ignores its context.
	watchdog = 2
	// atOnce is how many properties run at the same time outside a bubble. Most of them wait for a farm to settle.
	atOnce = 24
	// afterglow is how long a bubble goes on after its property, of its own clock: what ends by itself, if late, ends in it.
	afterglow = 2 * time.Hour
)

// Patience bounds every call and every wait for something that should happen; a passing run never spends it. Default 30 s. It has
// to exceed the time in which the hub notices a dead instance.
func Patience(d time.Duration) Option {
	return func(s *settings) {
		if s.patience = d; d <= 0 {
			s.wrong = append(s.wrong, fmt.Errorf("Patience(%v): %w", d, errNoTime))
		}
	}
}

// Bubble runs each property inside a testing/synctest bubble, where time costs nothing. It is for hubs that use neither sockets nor
// goroutines from outside the bubble. With [Check] the caller makes the bubble.
func Bubble() Option { return func(s *settings) { s.bubble = true } }

// Short leaves out what takes seconds. [Test] sets it with go test -short, except in a bubble.
func Short() Option { return func(s *settings) { s.short = true } }

// Strict turns "not exercised" into a failure, except for the properties named. A hub's own tests use it, so that a hook cannot
// get lost unnoticed.
func Strict(except ...string) Option {
	return func(s *settings) {
		s.strict, s.except = true, append(s.except, except...)
		s.know("Strict", except...)
	}
}

// Without says that the hub does not have some abilities. What is about them is reported as not exercised.
func Without(abilities ...Ability) Option {
	return func(s *settings) { s.without = append(s.without, abilities...) }
}

// Known marks a property as failing, with a link to where that is written down. It is run all the same and must fail: when it
// passes, the mark is stale and the run fails.
func Known(id, link string) Option {
	return func(s *settings) {
		if s.known == nil {
			s.known = map[string]string{}
		}
		s.known[id] = link
		s.know("Known", id)
		if u, err := url.Parse(link); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			s.wrong = append(s.wrong, fmt.Errorf("Known(%q, %q): %w", id, link, errNoLink))
		}
	}
}

// Since pins the version of the suite that the hub is held to, "v1" or "v1.2": a younger property is run and reported, and if it
// fails it is provisional, which warns and fails nothing. The default is to be held to all.
func Since(version string) Option {
	v, err := since.Pin(version, Version)
	return func(s *settings) {
		if s.since = v; err != nil {
			s.wrong = append(s.wrong, err)
		}
	}
}

var (
	errNoTime     = errors.New("it has to be a time above 0")
	errNoLink     = errors.New("say where the failure is written down, https://example.org/issues/7")
	errNoProperty = errors.New("no such property")
	errNoOpener   = errors.New("there is no Opener")
)

// know notes ids that are none: a property may have been renamed.
func (s *settings) know(option string, ids ...string) {
	for _, id := range ids {
		if !slices.ContainsFunc(Properties(), func(p Property) bool { return p.ID == id }) {
			s.wrong = append(s.wrong, fmt.Errorf("%s(%q): %w", option, id, errNoProperty))
		}
	}
}

// Only leaves out the properties for which match returns false. [Test] has go test -run for that.
func Only(match func(Property) bool) Option { return func(s *settings) { s.only = match } }

// suite proves properties with one opener and one set of settings.
type suite struct {
	open Opener
	settings
}

func newSuite(open Opener, opts []Option) *suite {
	s := &suite{open: open}
	s.patience = defaultPatience
	for _, o := range opts {
		o(&s.settings)
	}
	if open == nil {
		s.wrong = append(s.wrong, errNoOpener)
	}
	return s
}

// has reports whether the test does not leave an ability out. It is for what goes without it too, and proves less then.
func (s *suite) has(a Ability) bool { return !slices.Contains(s.without, a) }

// refused makes a failed result of each option that does not fit: a run that proves something else than what was asked for is
// worse than none.
func (s *suite) refused() (results []Result) {
	for _, err := range s.wrong {
		results = append(results, Result{Verdict: failed, Err: fmt.Errorf("hubtest: %w", err)})
	}
	return results
}

// chosen returns the properties that the run is about.
func (s *suite) chosen() []Property {
	return slices.DeleteFunc(Properties(), func(p Property) bool { return s.only != nil && !s.only(p) })
}

// Check proves a hub outside go test: it returns when all properties are judged. When ctx ends, what has not been judged is not
// exercised. Where options do not fit, the report has a
// failed result for each and nothing else.
func Check(ctx context.Context, open Opener, opts ...Option) *Report {
	s := newSuite(open, opts)
	report := &Report{Results: s.refused()}
	if len(report.Results) > 0 {
		return report
	}
	for _, result := range s.proveAll(ctx, s.chosen()) {
		report.Results = append(report.Results, <-result)
	}
	return report
}

// Test proves the hub that open opens: one subtest for each property, under the property's id, so that
// go test -run TestX/remote/join-is-effective proves just one. It returns when all are judged.
func Test(t *testing.T, open Opener, opts ...Option) {
	t.Helper()
	s := newSuite(open, opts)
	for _, r := range s.refused() {
		t.Error(r.Err)
	}
	if t.Failed() {
		t.FailNow()
	}
	s.short = s.short || testing.Short() && !s.bubble
	properties := s.chosen()
	report := &Report{}
	var ahead []chan Result
	if !s.bubble && !selective() {
		ctx, cancel := context.WithCancel(t.Context())
		ahead = s.proveAll(ctx, properties) // side by side; the subtests only tell
		defer func() {
			cancel()
			for _, result := range ahead[len(report.Results):] {
				<-result
			}
		}()
	}
	for i, p := range properties {
		t.Run(p.ID, func(t *testing.T) {
			var r Result
			switch {
			case ahead != nil:
				r = <-ahead[i]
			case s.bubble:
				r = s.inBubble(t, p)
			default:
				r = s.prove(t.Context(), p)
			}
			report.Results = append(report.Results, r)
			tell(t, r)
		})
	}
	t.Log(report.Summary())
}

// selective reports whether go test was asked for some subtests only: then what is not asked for should not cost anything.
func selective() bool {
	return slices.ContainsFunc([]string{"test.run", "test.skip"}, func(name string) bool {
		f := flag.Lookup(name)
		return f != nil && strings.Contains(f.Value.String(), "/")
	})
}

// proveAll proves properties, in a bubble one by one and else side by side, and tells each result on the channel of its place.
func (s *suite) proveAll(ctx context.Context, properties []Property) []chan Result {
	results := make([]chan Result, len(properties))
	for i := range properties {
		results[i] = make(chan Result, 1)
	}
	lanes := atOnce
	if s.bubble {
		lanes = 1
	}
	order := make(chan int, len(properties))
	for _, slow := range []bool{true, false} { // what takes long begins early
		for i, p := range properties {
			if p.Slow == slow {
				order <- i
			}
		}
	}
	close(order)
	for range lanes {
		go func() {
			for i := range order {
				results[i] <- s.prove(ctx, properties[i])
			}
		}()
	}
	return results
}

// prove proves one property.
func (s *suite) prove(ctx context.Context, p Property) Result {
	r := Result{Property: p}
	switch {
	case ctx.Err() != nil:
		return stopped(ctx, r)
	case s.short && p.Slow:
		r.Verdict = skipped
		return r
	case slices.Contains(s.without, p.Needs):
		r.Verdict, r.Err = notExercised, fmt.Errorf("the test leaves this ability out by Without: %s", p.Needs)
		return s.judged(r)
	}
	start := time.Now()
	w := newWorld(ctx, s, p)
	w.run()
	if r.Took = time.Since(start); ctx.Err() != nil {
		return stopped(ctx, r)
	}
	w.verdict(&r)
	return s.judged(r)
}

// stopped is the result of a property that was not judged because the run ended: strict or not, nobody's failure.
func stopped(ctx context.Context, r Result) Result {
	r.Verdict, r.Err = notExercised, fmt.Errorf("the run was stopped: %w", context.Cause(ctx))
	return r
}

// judged applies what the test says of a property.
func (s *suite) judged(r Result) Result {
	link, known := s.known[r.Property.ID]
	switch {
	case known && r.Verdict == failed:
		r.Verdict, r.Err = knownFailing, fmt.Errorf("known, see %s: %w", link, r.Err)
	case known && r.Verdict == proven:
		r.Verdict = failed
		r.Err = &Failure{Property: r.Property, Witness: "it holds, but is marked as known to fail; the mark can go (" + link + ")."}
	case r.Verdict == failed && s.since.Younger(r.Property.Since):
		r.Verdict = provisional
	case s.strict && r.Verdict == notExercised && !slices.Contains(s.except, r.Property.ID):
		r.Verdict = failed
	}
	return r
}

// inBubble proves one property in a bubble. What blocks for ever in it would end the test binary; here it is a failure.
func (s *suite) inBubble(t *testing.T, p Property) (r Result) {
	t.Helper()
	defer func() {
		said := recover()
		if said == nil {
			return
		}
		if err, is := said.(error); !is || !strings.HasPrefix(err.Error(), "deadlock: ") {
			panic(said)
		}
		if r.Verdict == proven || r.Verdict == 0 {
			r.Property, r.Verdict = p, failed
			r.Err = &Failure{Property: p, Witness: "goroutines block for ever though everything is closed, which close/clean is about."}
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		r = s.prove(t.Context(), p)
		<-time.After(afterglow)
	})
	return r
}

// tell reports a result to its subtest.
func tell(t *testing.T, r Result) {
	t.Helper()
	t.Attr("property", r.Property.ID)
	t.Attr("verdict", r.Verdict.String())
	switch r.Verdict {
	case proven:
	case failed:
		t.Errorf("\n%v", r.Err)
	default:
		t.Skipf("%v: %v", r.Verdict, r.why())
	}
}
