package hubtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/internal/faultnet"
)

// world is where one property happens: a namespace of its own, the instances and clients in it, and the record of what
// happened. Its methods stop the calling goroutine, as testing's FailNow does, when something that must succeed does not.
type world struct {
	suite    *suite
	property Property
	ctx      context.Context // ends with the property
	cancel   context.CancelFunc
	name     string
	start    time.Time

	mu            sync.Mutex
	changed       chan struct{}      // closed and made anew with every change; guarded by mu, as all that follows
	failure       *Failure           // the first one
	missing       string             // what the property cannot do without
	events        []event            // in the order of their beginning
	doing         map[int]time.Time  // the calls under way: by their event, since when
	seats         []*seat            // the instances
	clients       []*client          // without the fences' own
	groups, users map[[2]string]bool // by hub: where something was sent to
	restored      []restoring        // the calls of restore hooks
	tokens        int                // of fences
}

const (
	crew   = 3      // instances of a world
	ward   = "ward" // the hub that most properties are about
	labels = "hubtest"
)

func newWorld(ctx context.Context, s *suite, p Property) *world {
	var token [6]byte
	_, _ = rand.Read(token[:]) // never fails: see crypto/rand
	w := &world{
		suite: s, property: p, name: hex.EncodeToString(token[:]), start: time.Now(), changed: make(chan struct{}),
		doing: map[int]time.Time{}, groups: map[[2]string]bool{}, users: map[[2]string]bool{},
	}
	w.ctx, w.cancel = context.WithCancel(pprof.WithLabels(ctx, pprof.Labels(labels, w.name+"/suite")))
	return w
}

// run runs the property and closes what it opened.
func (w *world) run() {
	defer w.cancel()
	w.guarded(func() { w.property.run(w) })
	w.guarded(w.end)
}

// guarded runs a step, unless a call in it ignores its context: then its goroutines are lost.
func (w *world) guarded(step func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pprof.SetGoroutineLabels(w.ctx)
		step()
	}()
	look := time.NewTicker(w.suite.patience)
	defer look.Stop()
	for {
		select {
		case <-done:
			return
		case <-look.C:
			if w.stuck() {
				return
			}
		}
	}
}

// stuck fails the property when a call has taken much longer than its context.
func (w *world) stuck() bool {
	w.mu.Lock()
	var what string
	for i, since := range w.doing {
		if time.Since(since) > watchdog*w.suite.patience {
			what = w.events[i].text
		}
	}
	w.mu.Unlock()
	if what == "" {
		return false
	}
	w.fail(&Failure{Witness: fmt.Sprintf("a call has not returned %v after its context ended: %s.", w.suite.patience, what), Waited: true})
	return true
}

// verdict tells what came of the property.
func (w *world) verdict(r *Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.failure != nil:
		r.Verdict, r.Err = failed, w.failure
	case w.missing != "":
		r.Verdict, r.Err = notExercised, errors.New(w.missing)
	default:
		r.Verdict = proven
	}
}

// fail keeps the first failure, with what happened before it, and wakes all that wait.
func (w *world) fail(f *Failure, about ...*client) {
	var keys []string
	w.mu.Lock()
	for _, c := range about {
		keys = append(keys, c.keys...)
	}
	if w.failure == nil && w.missing == "" {
		f.Property, f.Timeline = w.property, timeline(w.events, keys)
		w.failure = f
	}
	w.mu.Unlock()
	w.cancel()
}

// fatalf fails the property with what it saw, and stops the calling goroutine.
func (w *world) fatalf(format string, args ...any) { w.failf(nil, format, args...) }

// failf is fatalf about some clients.
func (w *world) failf(about []*client, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	w.fail(&Failure{Witness: err.Error() + ".", err: errors.Unwrap(err)}, about...)
	runtime.Goexit()
}

// without ends the property because nobody can put it to the test.
func (w *world) without(what Ability) {
	w.mu.Lock()
	if w.failure == nil {
		w.missing = "the hub or the test does not have this ability: " + string(what)
	}
	w.mu.Unlock()
	w.cancel()
	runtime.Goexit()
}

// check stops the calling goroutine if the property is over.
func (w *world) check() {
	if w.ctx.Err() != nil {
		runtime.Goexit()
	}
}

// note records something that happened.
func (w *world) note(about []string, format string, args ...any) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, event{at: time.Since(w.start), text: fmt.Sprintf(format, args...), about: about})
	return len(w.events) - 1
}

// call makes a call of a hub and records it.
func (w *world) call(s *seat, about []string, what string, f func(ctx context.Context) (result string, err error)) error {
	ctx, cancel := w.patient()
	defer cancel()
	return w.callWith(ctx, s, about, what, f)
}

func (w *world) callWith(
	ctx context.Context, s *seat, about []string, what string, f func(ctx context.Context) (result string, err error),
) error {
	i := w.note(about, "%s: %s", s.name, what)
	w.mu.Lock()
	w.doing[i] = time.Now()
	w.events[i].result = " … under way"
	w.mu.Unlock()
	var result string
	var err error
	pprof.Do(ctx, pprof.Labels(labels, w.name+"/"+s.name), func(ctx context.Context) { result, err = f(ctx) })
	w.mu.Lock()
	defer w.mu.Unlock()
	took := ""
	if d := time.Since(w.doing[i]); d >= time.Millisecond {
		took = fmt.Sprintf(" after %v", d.Round(time.Millisecond))
	}
	delete(w.doing, i)
	switch {
	case err != nil:
		w.events[i].result = fmt.Sprintf(" → %s%v%s", result, err, took)
	case result != "":
		w.events[i].result = " → " + result + took
	default:
		w.events[i].result = took
	}
	return err
}

// patient is a context for one call or wait.
func (w *world) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.ctx, w.suite.patience)
}

// change wakes everybody who waits. Called with mu held.
func (w *world) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// update changes what somebody may wait for.
func (w *world) update(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.change()
}

// within waits until done, which is called with mu held, at most for d.
func (w *world) within(d time.Duration, done func() bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !done() {
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			w.mu.Lock()
			return done()
		case <-w.ctx.Done():
			w.mu.Lock()
			return false
		}
		w.mu.Lock()
	}
	return true
}

// await waits until done, which is called with mu held. If it never is, the property fails.
func (w *world) await(about []*client, what string, done func() bool) {
	if w.within(w.suite.patience, done) {
		return
	}
	w.check()
	w.fail(&Failure{Witness: fmt.Sprintf("waited %v in vain for %s.", w.suite.patience, what), Waited: true}, about...)
	runtime.Goexit()
}

// eventually tries until try returns true, or the property fails. It is for what no event announces.
func (w *world) eventually(what string, try func() bool) {
	const pause = 10 * time.Millisecond
	for end := time.Now().Add(w.suite.patience); !try(); {
		if w.check(); time.Now().After(end) {
			w.fail(&Failure{Witness: fmt.Sprintf("tried %v in vain: %s.", w.suite.patience, what), Waited: true})
		}
		w.within(pause, func() bool { return false })
	}
}

// each runs f(0) … f(n-1) at the same time and waits for all. If one stops, so does the caller.
func (w *world) each(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
	w.check()
}

// begin runs f beside the property; the function returned waits for it.
func (w *world) begin(f func()) (finish func()) {
	var done sync.WaitGroup
	done.Go(f)
	return func() {
		done.Wait()
		w.check()
	}
}

// crew opens the usual instances.
func (w *world) crew() []*seat { return w.open("", crew) }

// settled opens the usual instances and waits until they know one another, so that what they ask all is whole.
func (w *world) settled() []*seat {
	all := w.crew()
	w.settle(all...)
	return all
}

// settle waits until instances know all others.
func (w *world) settle(seats ...*seat) {
	for _, s := range seats {
		h := s.hub(ward)
		w.eventually(s.name+" knows all others", func() bool {
			c, err := h.raw.Count(w.ctx, Target{All: true})
			return err == nil && !c.Settling && len(c.Missing) == 0
		})
	}
}

// open opens instances at the same time, in the world's namespace or a variant of it.
func (w *world) open(variant string, n int) []*seat {
	seats := make([]*seat, n)
	w.mu.Lock()
	for i := range seats {
		seats[i] = &seat{w: w, name: fmt.Sprintf("n%d", len(w.seats)+1), namespace: "ht-" + w.name + variant, link: faultnet.New(nil), hubs: map[string]*hub{}}
		w.seats = append(w.seats, seats[i])
	}
	w.mu.Unlock()
	w.each(n, func(i int) { seats[i].open() })
	return seats
}

// end closes what is open, and looks what is left.
func (w *world) end() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), w.suite.patience)
	defer cancel()
	w.mu.Lock()
	seats := slices.Clone(w.seats)
	w.mu.Unlock()
	var all sync.WaitGroup
	for _, s := range seats {
		all.Go(func() { s.finish(ctx) })
	}
	all.Wait()
}

// instance is what a seat is opened with.
func (s *seat) instance() conformance.Instance {
	return conformance.Instance{
		Namespace: s.namespace, Name: s.name, World: s.w.name, Dial: s.link.Dial, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	}
}

// goroutines returns the stacks of the live goroutines that the instance has started, and how many there are.
func (s *seat) goroutines() (count int, stacks string) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return 0, "" // a buffer takes everything
	}
	owned := fmt.Sprintf("%q:\"%s/%s\"", labels, s.w.name, s.name)
	var out strings.Builder
	for block := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(block, owned) {
			count++
			out.WriteString(block + "\n\n")
		}
	}
	return count, out.String()
}
