package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The defaults of the settings.
const (
	defaultPatience   = 10 * time.Second
	defaultLinger     = 300 * time.Millisecond
	shortLinger       = 100 * time.Millisecond
	bubbleLinger      = 5 * time.Second
	defaultMaxPayload = 1<<20 - 8<<10

	// watchdog is how many patiences a single call or wait may take. Each is bounded by one, so beyond this the backplane
	// ignores its context. A property as a whole may take its time: slow is not broken.
	watchdog = 2
	// atOnce is how many properties run at the same time. Those that linger do not count.
	atOnce = 8
)

// suite proves properties with one opener and one set of settings.
type suite struct {
	open Opener
	settings
	slots   chan struct{}
	inside  string    // the property that this process is there for, if it is a child; see Child
	stderr  io.Writer // where a child says that it has come to its property
	found   abilities
	soaking soak

	telling sync.Mutex // held while progress is told

	unopened     sync.Mutex
	unopenedTold map[string]string // why nothing could be opened → the property that told it; guarded by unopened
}

func newSuite(open Opener, opts []Option) *suite {
	s := &suite{open: open, slots: make(chan struct{}, atOnce), inside: os.Getenv(childEnv), stderr: os.Stderr, unopenedTold: map[string]string{}}
	for _, o := range opts {
		o(&s.settings)
	}
	if s.seed == 0 {
		s.seed = fromEnv(s, "CONFORMANCE_SEED", "0x51f3", func(text string) (uint64, error) { return strconv.ParseUint(text, 0, 64) })
	}
	if s.seed == 0 {
		s.seed = rand.Uint64() | 1 //nolint:gosec // it is printed
	}
	if s.patience == 0 {
		s.patience = fromEnv(s, "CONFORMANCE_PATIENCE", "30s", time.ParseDuration)
	}
	if s.patience == 0 {
		s.patience = defaultPatience
	}
	if s.linger == 0 {
		s.linger = defaultLinger
		switch {
		case s.bubble:
			s.linger = bubbleLinger
		case s.short:
			s.linger = shortLinger
		}
	}
	return s
}

// fromEnv reads a setting, 0 if the environment has none. What cannot be read is refused: the run would be another one.
func fromEnv[T uint64 | time.Duration](s *suite, name, example string, parse func(string) (T, error)) T {
	text := os.Getenv(name)
	if text == "" {
		return 0
	}
	v, err := parse(text)
	if err != nil || v <= 0 {
		s.wrong = append(s.wrong, fmt.Errorf("%s=%q: %w; write %s", name, text, errUnreadable, example))
		return 0
	}
	return v
}

// proveAll proves properties and tells each result on the channel of its place as soon as it is there.
func (s *suite) proveAll(ctx context.Context, properties []Property) []chan Result {
	results := make([]chan Result, len(properties))
	for i := range properties {
		results[i] = make(chan Result, 1)
	}
	if s.bubble { // nothing to gain, time is free
		go func() {
			for i, p := range properties {
				results[i] <- s.strictly(s.prove(ctx, p))
			}
		}()
		return results
	}
	go func() {
		var others sync.WaitGroup
		for _, i := range byTurn(properties) {
			p := properties[i]
			if p.Needs&NeedRestart != 0 { // it takes the broker from all
				others.Wait()
			}
			r, admitted := s.admit(ctx, p)
			others.Go(func() {
				if admitted {
					r = s.putAdmitted(ctx, p)
					s.marked(&r)
				}
				results[i] <- s.strictly(r)
			})
		}
	}()
	return results
}

// prove proves one property.
func (s *suite) prove(ctx context.Context, p Property) Result {
	r := s.put(ctx, p)
	s.marked(&r)
	return r
}

// put puts one property to the test, whatever is known of it.
func (s *suite) put(ctx context.Context, p Property) Result {
	if r, admitted := s.admit(ctx, p); !admitted {
		return r
	}
	return s.putAdmitted(ctx, p)
}

// admit waits for a place for a property, or returns its result where it is not put to the test.
func (s *suite) admit(ctx context.Context, p Property) (r Result, admitted bool) {
	r = s.result(p)
	if s.short && p.Needs&NeedTime != 0 {
		r.Verdict = Skipped
		return r, false
	}
	if s.inside != "" && s.inside != p.ID {
		r.Verdict, r.Err = NotExercised, fmt.Errorf("this process is there for %s", s.inside) //nolint:err113 // for people
		return r, false
	}
	select {
	case s.slots <- struct{}{}:
		return r, true
	case <-ctx.Done():
		r.Verdict, r.Err = NotExercised, stopped(ctx)
		return r, false
	}
}

func (s *suite) result(p Property) Result {
	return Result{Property: p, Seed: s.seed, flags: s.flags(p)}
}

// putAdmitted puts a property that has a place to the test, and gives the place back.
func (s *suite) putAdmitted(ctx context.Context, p Property) Result {
	r := s.result(p)
	if s.apart(p) {
		defer func() { <-s.slots }()
		s.proveApart(ctx, &r)
		return r
	}
	if s.inside == p.ID {
		_, _ = fmt.Fprintln(s.stderr, childAtIt+p.ID)
	}
	start := time.Now()
	w := newWorld(ctx, s, p)
	defer w.cancel()
	w.turn.taken = true
	r.world = w.name
	detail := s.runIn(w)
	w.turn.leave(s.slots, true)
	if w.ctx.Err() == nil {
		w.quiet()
	}
	w.end()
	r.Took = time.Since(start)
	if ctx.Err() != nil {
		r.Verdict, r.Err = NotExercised, stopped(ctx)
		return r
	}
	s.verdict(&r, w, detail)
	return r
}

// flags are those of go test that change what a seed draws for a property.
func (s *suite) flags(p Property) string {
	flags := ""
	if s.short {
		flags += " -short"
	}
	if s.soak > 0 && p.ID == modelID {
		flags += " -" + soakFlag + "=1s" // the seed's own schedule is the first
	}
	return flags
}

var errStopped = errors.New("the run was stopped")

func stopped(ctx context.Context) error {
	return fmt.Errorf("%w: %w", errStopped, context.Cause(ctx))
}

// runIn runs the property's schedule, and returns what the goroutines were doing if it had to be given up.
func (s *suite) runIn(w *world) (stuck string) {
	done := make(chan struct{})
	go underLabel(w.ctx, w.name, suiteLabel, func() {
		defer close(done)
		w.property.run(w)
		w.settle()
	})
	look := time.NewTicker(s.patience)
	defer look.Stop()
	for !w.stuck(watchdog * s.patience) {
		select {
		case <-done:
			return ""
		case <-look.C:
		}
	}
	_, stuck = goroutines(w.name)
	w.fail(fmt.Errorf("a call has not returned %v after its context ended; under way: %s", s.patience, w.waitsFor()), false)
	for _, n := range w.allInstances() {
		n.cut() // whoever is stuck on the network is not any longer
	}
	grace := time.NewTimer(s.patience)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C: // its goroutines are lost
	}
	return stuck
}

// verdict judges what was recorded.
func (s *suite) verdict(r *Result, w *world, detail string) {
	w.mu.Lock()
	failure, missing, leftOut, found := w.failure, w.missing, w.leftOut, w.found
	w.mu.Unlock()
	if found != nil {
		found.Took, found.flags = r.Took, r.flags
		*r = *found
		return
	}
	h := w.rec.snapshot()
	r.history = h
	if missing != "" && failure == nil {
		r.Verdict, r.Err = w.lacks, fmt.Errorf("%s", missing) //nolint:err113 // for people
		return
	}
	f := &Failure{Property: w.property}
	if s.found.overTransport() {
		f.Transport = w.property.Transport
	}
	unopened := !s.apart(w.property) && !slices.ContainsFunc(h.Nodes, func(n nodeRecord) bool { return n.Open.Result.Class == ok })
	if unopened {
		f.Property.Often, f.Transport = "the opener, or what it is given; the promise itself was not put to the test.", ""
	}
	switch {
	case f.explain(w, h, detail):
		r.Verdict, r.Err = Failed, f
		if unopened {
			s.tellOnce(f)
		}
	case len(leftOut) > 0:
		r.Verdict, r.Err = NotExercised, fmt.Errorf("in part: %s", strings.Join(leftOut, "; ")) //nolint:err113 // for people
	default:
		r.Verdict = Proven
	}
}

// tellOnce makes the failure of a property that could open nothing a line, if another one has told of the same: a wrong
// option or a broker that is gone fails every property alike.
func (s *suite) tellOnce(f *Failure) {
	s.unopened.Lock()
	defer s.unopened.Unlock()
	first, told := s.unopenedTold[f.Witness]
	if !told {
		s.unopenedTold[f.Witness] = f.Property.ID
		return
	}
	*f = Failure{Property: f.Property, Witness: "no instance could be opened, as in " + first + ".", err: f.err}
	f.Property.Often = ""
}

// marked turns a failure that is known into what it is, and a mark that is stale into a failure.
func (s *suite) marked(r *Result) {
	link, known := s.known[r.Property.ID]
	switch {
	case known && r.Verdict == Failed:
		r.Verdict, r.link = KnownFailing, link
		r.Err = fmt.Errorf("known, see %s: %w", link, r.Err)
	case known && r.Verdict == Proven:
		r.Verdict = Failed
		r.Err = &Failure{Property: r.Property, Witness: "it holds, but is marked as known to fail; the mark can go (" + link + ")."}
	}
	if r.Verdict == Failed && s.provisional(r.Property) {
		r.Verdict = Provisional
	}
}
