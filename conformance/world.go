package conformance

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
)

// world is where one property happens: a namespace of its own, the instances in it, their links, and the record of it
// all. What a property does goes through its methods, which stop the calling goroutine (as testing's FailNow does) when
// something that must succeed does not.
type world struct {
	suite    *suite
	property Property
	ctx      context.Context // ends with the property
	cancel   context.CancelFunc
	name     string
	rec      *recorder
	logs     *logs
	turn     turn
	rand     *rand.Rand // for the property's own goroutine

	mu        sync.Mutex
	failure   error        // guarded by mu; the first one
	waited    bool         // guarded by mu; the failure is a wait that was in vain: the rules may know why
	missing   string       // guarded by mu; what the property cannot do without
	lacks     Verdict      // guarded by mu; what comes of it without that
	failedAt  stamp        // guarded by mu; the newest tick of then, and the time
	leftOut   []string     // guarded by mu; what of the property could not be put to the test
	found     *Result      // guarded by mu; the verdict, where it comes from a world inside this one
	doing     map[int]deed // guarded by mu; the calls and waits under way
	nextDoing int
	instances []*instance // guarded by mu
	cleanups  []func()    // guarded by mu
}

// deed is a call or a wait under way.
type deed struct {
	what  string
	since time.Time
}

func newWorld(ctx context.Context, s *suite, p Property) *world {
	var token [tokenLen]byte
	for i := range token {
		token[i] = byte(rand.Uint32()) //nolint:gosec // a name, no secret
	}
	w := &world{
		suite: s, property: p, name: hex.EncodeToString(token[:]), rec: newRecorder(token), logs: &logs{start: time.Now()},
		rand:  rand.New(rand.NewPCG(s.seed, uint64(checksum([]byte(p.ID))))), //nolint:gosec // repeatable on purpose
		doing: map[int]deed{},
	}
	w.ctx, w.cancel = context.WithCancel(labelled(ctx, w.name, suiteLabel))
	return w
}

// namespace is the world's own.
func (w *world) namespace() string { return "ct-" + w.name }

// fatalf fails the property with what it saw, and stops the calling goroutine.
func (w *world) fatalf(format string, args ...any) {
	w.fail(fmt.Errorf(format, args...), false)
	runtime.Goexit()
}

// fail keeps the first failure and wakes all that wait.
func (w *world) fail(err error, waited bool) {
	at := stamp{Tick: w.rec.lastTick(), At: time.Since(w.rec.start)}
	w.mu.Lock()
	if w.failure == nil && w.missing == "" {
		w.failure, w.waited, w.failedAt = err, waited, at
	}
	w.mu.Unlock()
	w.cancel()
}

// notExercised ends the property without a verdict, because nobody can put it to the test.
func (w *world) notExercised(why string) { w.without(why, NotExercised) }

// leavesOut notes a part of the property that nobody can put to the test. The rest goes on and is judged, and where it
// holds, the property is not exercised.
func (w *world) leavesOut(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.leftOut, why) {
		w.leftOut = append(w.leftOut, why)
	}
}

// without ends the property with the verdict that comes of what is missing.
func (w *world) without(why string, v Verdict) {
	w.mu.Lock()
	if w.failure == nil {
		w.missing, w.lacks = why, v
	}
	w.mu.Unlock()
	w.cancel()
	runtime.Goexit()
}

// while notes what is being waited for, so that a property that hangs can tell.
func (w *world) while(what string) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.nextDoing
	w.nextDoing++
	w.doing[id] = deed{what, time.Now()}
	w.suite.trace(beginsText, what)
	return func() {
		w.suite.trace(endsText, what)
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.doing, id)
	}
}

// patient is a context for one call or wait.
func (w *world) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.ctx, w.suite.patience)
}

// await waits until done, which is called under the recorder's lock. If it never is, the property fails.
func (w *world) await(what string, done func() bool) {
	w.rec.mu.Lock()
	met := done()
	w.rec.mu.Unlock()
	if met && w.ctx.Err() == nil {
		return
	}
	defer w.while(what)()
	ctx, cancel := w.patient()
	defer cancel()
	if err := w.rec.await(ctx, done); err != nil {
		w.fail(fmt.Errorf("waited %v in vain for %s", w.suite.patience, what), true)
		runtime.Goexit()
	}
}

// within waits until done, or for d.
func (w *world) within(d time.Duration, done func() bool) {
	ctx, cancel := context.WithTimeout(w.ctx, d)
	defer cancel()
	_ = w.rec.await(ctx, done) // not having come is an answer, too
	w.check()
}

// eventually tries until try returns true, or the property fails. It is for what no event announces.
func (w *world) eventually(what string, try func() bool) {
	defer w.while(what)()
	ctx, cancel := w.patient()
	defer cancel()
	const pause = 10 * time.Millisecond
	for !try() {
		if !rest(ctx, pause) {
			w.fail(fmt.Errorf("tried %v in vain: %s", w.suite.patience, what), true)
			runtime.Goexit()
		}
	}
}

// rest lets time pass; it returns false if ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// quiet listens for a while for what should not happen.
func (w *world) quiet() {
	defer w.while("quiet")()
	m := w.rec.mark(markQuiet, -1, -1)
	rest(w.ctx, w.suite.linger)
	if w.suite.bubble {
		synctest.Wait()
	}
	w.rec.markEnd(m)
}

// stream publishes to an address about every millisecond, until the returned function is called.
func (w *world) stream(by *instance, to backplane.Address) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for rest(ctx, time.Millisecond) {
			by.publish(to)
		}
	})
	return func() {
		cancel()
		wg.Wait()
		w.check()
	}
}

// each runs f(0) … f(n-1) at the same time and waits for all. If one stops, so does the caller.
func (w *world) each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
	w.check()
}

// check stops the calling goroutine if the property has failed elsewhere.
func (w *world) check() {
	if w.ctx.Err() != nil {
		runtime.Goexit()
	}
}

// onEnd runs f when the property is over, before its instances are closed: the last one first.
func (w *world) onEnd(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cleanups = append(w.cleanups, f)
}

// count scales a number of messages.
func (w *world) count(n int) int {
	if w.suite.short {
		return max(1, n/10)
	}
	return n
}

// rounds scales how often something is repeated that takes real time. In a bubble time is free.
func (w *world) rounds(n int) int {
	if w.suite.short && !w.suite.bubble {
		return 1
	}
	return n
}

// crew opens the usual instances: three, or two in a short run.
func (w *world) crew() []*instance {
	if w.suite.short {
		return w.openAll(2)
	}
	return w.openAll(3)
}

// openAll opens n instances at the same time.
func (w *world) openAll(n int) []*instance {
	out := make([]*instance, n)
	for i := range out {
		out[i] = w.newInstance(w.namespace())
	}
	w.each(n, func(i int) { out[i].open() })
	return out
}

// end closes what is open, in an order drawn from the seed, and returns when it is closed or patience is over.
func (w *world) end() {
	w.mu.Lock()
	instances, cleanups := slices.Clone(w.instances), slices.Clone(w.cleanups)
	w.mu.Unlock()
	w.rec.mark(markOver, -1, -1)
	for _, f := range slices.Backward(cleanups) {
		f()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), w.suite.patience)
	defer cancel()
	if w.rand.IntN(2) == 0 {
		slices.Reverse(instances)
	}
	closeAll := func() {
		for _, n := range instances {
			n.finish(ctx)
		}
	}
	if w.rand.IntN(2) == 0 {
		closeAll = func() {
			var wg sync.WaitGroup
			for _, n := range instances {
				wg.Go(func() { n.finish(ctx) })
			}
			wg.Wait()
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		closeAll()
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	grace := time.NewTimer(w.suite.patience)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		w.fail(fmt.Errorf("Close has not returned %v after its context ended", w.suite.patience), false)
	}
}

// waitsFor tells what the property waits for.
func (w *world) waitsFor() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, id := range slices.Sorted(maps.Keys(w.doing)) {
		all = append(all, w.doing[id].what)
	}
	return strings.Join(all, "; ")
}

// stuck reports whether a call or a wait has taken longer than d.
func (w *world) stuck(d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, doing := range w.doing {
		if time.Since(doing.since) > d {
			return true
		}
	}
	return false
}

func (w *world) allInstances() []*instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.instances)
}

// group is an address of the world.
func group(name string) backplane.Address { return backplane.Group(name) }
