package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance/internal/since"
	"github.com/gobackplane/backplane/internal/faultnet"
	"github.com/gobackplane/backplane/transport"
)

// Opener connects one more instance. The suite calls it several times for each property, also concurrently: instances
// with the same namespace must hear each other, others must not. The suite closes what it opened.
type Opener func(ctx context.Context, in Instance) (backplane.Backplane, error)

// Instance is what the suite gives to each instance that it opens.
type Instance struct {
	// Namespace keeps properties apart: it is fresh for each, and some properties use two.
	Namespace string
	// Name is "n1", "n2", …; it appears in timelines.
	Name string
	// World is the same for all instances of one property and for no others. An opener that makes what instances share
	// (an in-memory broker) by itself makes one for each World; inside a bubble it has to.
	World string
	// Dial makes the instance's connections. It is how the suite cuts the wire, so an instance should use it for all of them.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now tells the time of day, never nil. Clock properties make instances disagree about it and let it jump, and it has
	// no monotonic reading then: it is for what an instance writes down or compares with others, not for durations. An
	// instance that asks nobody for the time of day need not use it.
	Now func() time.Time
	// Logger is never nil. The suite shows what it got when a property fails.
	Logger *slog.Logger

	found *abilities // where [Transport] tells what its transports can
}

// Transport makes an Opener for a transport under this module's own engine. The namespace, label and logger of the
// options are replaced by the instance's.
func Transport(open func(Instance) transport.Opener, o backplane.Options) Opener {
	return func(ctx context.Context, in Instance) (backplane.Backplane, error) {
		o := o
		o.Namespace, o.Label, o.Logger = in.Namespace, in.Name, in.Logger
		in.found.takes(o.MaxPayload)
		n, err := backplane.Open(ctx, in.found.under(open(in)), o)
		if err != nil {
			return nil, err // not n: a nil *Node in an interface is not nil
		}
		return n, nil
	}
}

// Option changes how the suite runs.
type Option func(*settings)

type settings struct {
	patience   time.Duration
	linger     time.Duration
	bubble     bool
	short      bool
	strict     bool
	except     []string // ids that strict does not concern
	seed       uint64
	soak       time.Duration
	soakTold   func(line string)
	maxPayload int
	known      map[string]string // property id → link
	since      since.Version
	sinceErr   error   // what was wrong with Since
	wrong      []error // what else cannot be meant
	subject    string
	broker     string
	only       func(Property) bool
	progress   func(Result)
	inject     func(Instance, backplane.Backplane) Faults
	child      func(id string) *exec.Cmd
	claims     []Ability // nil where the test does not say
	baselines  bool      // see Baselines
	restart    struct{ stop, start brokerFunc }
	dial       faultnet.DialFunc // below the links; nil for the network's
}

// brokerFunc does something to a world's broker.
type brokerFunc = func(ctx context.Context, world string) error

// Patience bounds every wait for something that should happen; a passing run never spends it. Default 10 s, or the
// environment's CONFORMANCE_PATIENCE. It should exceed the time in which the backplane notices a dead link.
func Patience(d time.Duration) Option {
	return func(s *settings) {
		s.patience = d
		s.positive("Patience", d)
	}
}

// Linger is how long the suite listens for what should not happen. Default 300 ms, 100 ms with [Short], and 5 s of the
// fake clock in a bubble. Properties linger side by side.
func Linger(d time.Duration) Option {
	return func(s *settings) {
		s.linger = d
		s.positive("Linger", d)
	}
}

// Bubble runs each property inside a testing/synctest bubble, where time costs nothing and quiet is exact. It is for
// backplanes that use neither sockets nor goroutines from outside the bubble. With [Check] and [Run] the caller makes
// the bubble, and should let some of its time pass before it ends: testing/synctest panics where goroutines still block in
// it. [Test] lets time pass and makes what blocks for ever a failure that shows the goroutines.
func Bubble() Option { return func(s *settings) { s.bubble = true } }

// Short uses two instances and few messages, and leaves out what takes seconds. [Test] sets it with go test -short.
func Short() Option { return func(s *settings) { s.short = true } }

// Strict turns "not exercised" into a failure, except for the properties named. A backplane's own tests use it, so that a
// hook cannot get lost unnoticed.
func Strict(except ...string) Option {
	return func(s *settings) { s.strict, s.except = true, append(s.except, except...) }
}

// Baselines says that Subscribe learns from each instance how far its numbers are, so that the loss of the first message to a new
// subscription is told although its publisher had published before. It is for backplanes whose instances answer for a
// subscription, ours over a cluster of servers; without it link/lost-first is not claimed.
func Baselines() Option { return func(s *settings) { s.baselines = true } }

// Seed makes the run repeat what another one drew. Default: the environment's CONFORMANCE_SEED, else at random.
func Seed(seed uint64) Option { return func(s *settings) { s.seed = seed } }

// MaxPayload tells the backplane's largest payload in bytes, at least 2,048. Default 1,040,384, and with [Transport] what
// its options say.
func MaxPayload(bytes int) Option { return func(s *settings) { s.maxPayload = bytes } }

// Known marks a property as failing, with a link, http or https, to where that is written down. It is run all the same and must fail:
// when it passes, the mark is stale and the run fails.
func Known(id, link string) Option {
	return func(s *settings) {
		if s.known == nil {
			s.known = map[string]string{}
		}
		s.known[id] = link
	}
}

// Inject gives the suite a way to make links fail where an instance does not dial through [Instance.Dial].
func Inject(f func(Instance, backplane.Backplane) Faults) Option {
	return func(s *settings) { s.inject = f }
}

// Only leaves out the properties for which match returns false. [Test] has go test -run for that.
func Only(match func(Property) bool) Option { return func(s *settings) { s.only = match } }

// Progress calls f with each result as soon as it is there, one call at a time.
func Progress(f func(Result)) Option { return func(s *settings) { s.progress = f } }

// Broker gives the suite a way to stop a world's broker as a crash would, and to start it again with an empty memory.
// Where worlds share a broker the suite does it when nobody else uses it.
func Broker(stop, start func(ctx context.Context, world string) error) Option {
	return func(s *settings) { s.restart.stop, s.restart.start = stop, start }
}

// Run proves one property. An unknown id, like options that do not fit, is a [Failed] result.
func Run(ctx context.Context, id string, open Opener, opts ...Option) Result {
	s := newSuite(open, opts)
	p, err := find(id)
	if err != nil {
		return refused([]refusal{{id, fmt.Errorf("conformance: %q: %w", id, err)}})[0]
	}
	if bad := s.refusals(); len(bad) > 0 {
		return refused(bad)[0]
	}
	return s.strictly(s.prove(ctx, p))
}

// Check does what [Test] does, outside go test: it returns when all properties are judged. When ctx ends, what has not
// been judged is not exercised. Where options do not fit, the report has a failed result for each and nothing else.
func Check(ctx context.Context, open Opener, opts ...Option) *Report {
	s := newSuite(open, opts)
	if bad := s.refusals(); len(bad) > 0 {
		return &Report{Head: s.head(), Results: refused(bad)}
	}
	return s.check(ctx, s.chosen(Properties()))
}

// check proves properties side by side.
func (s *suite) check(ctx context.Context, properties []Property) *Report {
	report := &Report{Results: make([]Result, len(properties))}
	for i, result := range s.proveAll(ctx, properties) {
		report.Results[i] = <-result
	}
	report.Head = s.head()
	return report
}

// chosen returns the properties that the run is about.
func (s *suite) chosen(properties []Property) []Property {
	if s.only == nil {
		return properties
	}
	return slices.DeleteFunc(properties, func(p Property) bool { return !s.only(p) })
}

// Test proves the backplane that open opens: one subtest for each property, under the property's id, so that
// go test -run TestX/order/per-publisher proves just one. It returns when all are judged.
func Test(t *testing.T, open Opener, opts ...Option) {
	t.Helper()
	if testing.Short() {
		opts = append([]Option{Short()}, opts...)
	}
	s := newSuite(open, append(opts, soakOfGoTest(t)...))
	for _, bad := range s.refusals() {
		t.Error(bad.err)
	}
	if t.Failed() {
		t.FailNow()
	}
	s.soakInTest(t)
	if s.child == nil {
		s.child = s.itself(t)
	}
	properties := s.chosen(Properties())
	report := &Report{}
	var ahead []chan Result
	if !s.bubble && !selective() {
		var stop func()
		ahead, stop = s.proveAhead(t.Context(), properties) // side by side; the subtests only tell
		defer stop()
	}
	for i, p := range properties {
		t.Run(p.ID, func(t *testing.T) {
			var r Result
			switch {
			case ahead != nil:
				r = <-ahead[i]
			case s.bubble && !s.apart(p):
				r = s.strictly(s.inBubble(t, p))
			default:
				r = s.strictly(s.prove(t.Context(), p))
			}
			report.Results = append(report.Results, r)
			tell(t, r)
		})
	}
	report.Head = s.head()
	t.Logf("%v\n%s", report.Head, report.Summary())
	keepReport(t, report)
}

// selective reports whether go test was asked for some subtests only. Then properties are proven one by one as they are
// asked for: what is not asked for should not cost anything.
func selective() bool {
	return slices.ContainsFunc([]string{"test.run", "test.skip"}, func(name string) bool {
		f := flag.Lookup(name)
		return f != nil && strings.Contains(f.Value.String(), "/")
	})
}

// proveAhead is proveAll with a way to stop it: stop returns when nothing runs any more. With -failfast go test may ask for
// the first results only.
func (s *suite) proveAhead(ctx context.Context, properties []Property) (results []chan Result, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	all := s.proveAll(ctx, properties)
	told := make([]chan Result, len(properties))
	var running sync.WaitGroup
	for i := range all {
		told[i] = make(chan Result, 1)
		running.Go(func() { told[i] <- <-all[i] })
	}
	return told, func() {
		cancel()
		running.Wait()
	}
}

// strictly turns "not exercised" into a failure where that was asked for, and tells of the result.
func (s *suite) strictly(r Result) Result {
	if s.strict && r.Verdict == NotExercised && !s.provisional(r.Property) && !errors.Is(r.Err, errStopped) &&
		!slices.Contains(s.except, r.Property.ID) {
		r.Verdict = Failed
	}
	if s.progress != nil {
		s.telling.Lock()
		defer s.telling.Unlock()
		s.progress(r)
	}
	return r
}

// tell reports a result to its subtest.
func tell(t *testing.T, r Result) {
	t.Helper()
	t.Attr("property", r.Property.ID)
	t.Attr("verdict", r.Verdict.String())
	switch r.Verdict {
	case Failed:
		repeat := fmt.Sprintf("Repeat: CONFORMANCE_SEED=%#x go test -run '%s$'%s", r.Seed, t.Name(), r.flags)
		t.Errorf("\n%v\n\n    %s\n    %s", r.Err, repeat, keep(t, r))
	case NotExercised, NotClaimed, Skipped:
		t.Skipf("%v: %v", r.Verdict, r.why())
	case KnownFailing:
		t.Skip(r.Err)
	case Provisional:
		t.Skipf("\nThis property is of suite %s and only warns, since the run is held to an older one.\n%v", r.Property.Since, r.Err)
	case Proven:
	}
}

// keep writes the history of a failure where go test -artifacts keeps it.
func keep(t *testing.T, r Result) string {
	t.Helper()
	path := filepath.Join(t.ArtifactDir(), Anchor(r.Property.ID)+".jsonl")
	if err := writeFile(path, r.WriteHistory); err != nil {
		return "History: " + err.Error()
	}
	return "History: " + path + " (go test -artifacts keeps it)"
}

// keepReport writes the report where go test -artifacts keeps it.
func keepReport(t *testing.T, r *Report) {
	t.Helper()
	for name, write := range map[string]func(io.Writer) error{"report.json": r.WriteJSON, "report.md": r.WriteMarkdown} {
		if err := writeFile(filepath.Join(t.ArtifactDir(), name), write); err != nil {
			t.Error(err)
		}
	}
}

// writeFile creates a file with what write writes.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path) //nolint:gosec // in the test's own directory
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
