package hubtest_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
	"github.com/gobackplane/backplane/conformance/hubtest/internal/mutant"
)

// check proves one property in a bubble and returns what came out.
func check(t *testing.T, open hubtest.Opener, id string, opts ...hubtest.Option) (r hubtest.Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opts = append(opts, hubtest.Bubble(), hubtest.Only(func(p hubtest.Property) bool { return p.ID == id }))
		report := hubtest.Check(t.Context(), open, opts...)
		if len(report.Results) != 1 {
			t.Fatalf("%d results", len(report.Results))
		}
		r = report.Results[0]
		<-time.After(time.Hour)
	})
	return r
}

// broken makes hubs of a mutant.
func broken(t *testing.T, name string) hubtest.Opener {
	t.Helper()
	all := mutant.All()
	i := slices.IndexFunc(all, func(m mutant.Mutant) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no mutant is called %s", name)
	}
	return all[i].Open(inMemory())
}

func TestOptionsThatCannotBeMeant(t *testing.T) {
	for name, row := range map[string]struct {
		open hubtest.Opener
		opt  hubtest.Option
		says string
	}{
		"no opener":               {nil, hubtest.Bubble(), "there is no Opener"},
		"no time":                 {inMemory(), hubtest.Patience(0), "Patience(0s)"},
		"an id that is none":      {inMemory(), hubtest.Strict("x/y"), `Strict("x/y"): no such property`},
		"a mark that nobody has":  {inMemory(), hubtest.Known("x/y", "https://example.org/1"), `Known("x/y"): no such property`},
		"a mark without a link":   {inMemory(), hubtest.Known("deliver/all", "later"), "say where the failure is written down"},
		"a version that is none":  {inMemory(), hubtest.Since("1"), `write "v1"`},
		"a version that is later": {inMemory(), hubtest.Since("v99"), "has not reached"},
	} {
		report := hubtest.Check(context.Background(), row.open, row.opt)
		if err := report.Err(); len(report.Results) != 1 || err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the test says of a property changes the verdict, and never to proven.
func TestVerdicts(t *testing.T) {
	const link = "https://example.org/issues/7"
	for name, row := range map[string]struct {
		open func(*testing.T) hubtest.Opener
		id   string
		opts []hubtest.Option
		want conformance.Verdict
	}{
		"a hub that keeps it":     {healthy, "deliver/except", nil, conformance.Proven},
		"a hub that breaks it":    {except, "deliver/except", nil, conformance.Failed},
		"a known failure":         {except, "deliver/except", []hubtest.Option{hubtest.Known("deliver/except", link)}, conformance.KnownFailing},
		"a mark that is stale":    {healthy, "deliver/except", []hubtest.Option{hubtest.Known("deliver/except", link)}, conformance.Failed},
		"held to this version":    {except, "deliver/except", []hubtest.Option{hubtest.Since("v1")}, conformance.Failed},
		"an ability it lacks":     {healthy, "invoke/answers", []hubtest.Option{hubtest.Without(hubtest.AbilityInvoke)}, conformance.NotExercised},
		"the same, strictly":      {healthy, "invoke/answers", []hubtest.Option{hubtest.Without(hubtest.AbilityInvoke), hubtest.Strict()}, conformance.Failed},
		"the same, but for that":  {healthy, "invoke/answers", []hubtest.Option{hubtest.Without(hubtest.AbilityInvoke), hubtest.Strict("invoke/answers")}, conformance.NotExercised},
		"memberships that it has": {healthy, "user/future", nil, conformance.Proven},
		"memberships it has not":  {bare, "user/future", nil, conformance.NotExercised},
		"tokens that it has not":  {bare, "resume/ended", nil, conformance.NotExercised},
		"a link that it has not":  {bare, "outage/unavailable", nil, conformance.NotExercised},
		"a kill that it has not":  {bare, "death/pending", nil, conformance.NotExercised},
		"nobody to ask at close":  {unasked, "close/clean", []hubtest.Option{hubtest.Without(hubtest.AbilityInvoke)}, conformance.Proven},
		"nobody to ask at death":  {unasked, "death/pending", []hubtest.Option{hubtest.Without(hubtest.AbilityInvoke)}, conformance.Proven},
		"a short run":             {healthy, "query/count", []hubtest.Option{hubtest.Short()}, conformance.Skipped},
	} {
		t.Run(name, func(t *testing.T) {
			r := check(t, row.open(t), row.id, row.opts...)
			if r.Verdict != row.want {
				t.Errorf("%v, want %v: %v", r.Verdict, row.want, r.Err)
			}
			if _, failure := errors.AsType[*hubtest.Failure](r.Err); failure && row.want == conformance.NotExercised {
				t.Errorf("what nobody could exercise is told as a failure: %v", r.Err)
			}
		})
	}
}

func healthy(*testing.T) hubtest.Opener  { return inMemory() }
func except(t *testing.T) hubtest.Opener { return broken(t, "except-here-only") }
func bare(*testing.T) hubtest.Opener     { return without(inMemory()) }

// unasked makes hubs whose clients cannot be asked.
func unasked(*testing.T) hubtest.Opener {
	open := inMemory()
	return func(ctx context.Context, in conformance.Instance) (hubtest.Node, error) {
		n, err := open(ctx, in)
		if err != nil {
			return nil, err
		}
		return unaskedNode{n}, nil
	}
}

// without makes hubs that have nothing but what every one must have.
func without(open hubtest.Opener) hubtest.Opener {
	return func(ctx context.Context, in conformance.Instance) (hubtest.Node, error) {
		n, err := open(ctx, in)
		if err != nil {
			return nil, err
		}
		return bareNode{n}, nil
	}
}

type unaskedNode struct{ hubtest.Node }

func (n unaskedNode) Hub(name string, hooks hubtest.Hooks) (hubtest.Hub, error) {
	h, err := n.Node.Hub(name, hooks)
	if err != nil {
		return nil, err
	}
	return unaskedHub{h}, nil
}

func (n unaskedNode) Faults() conformance.Faults {
	f, _ := n.Node.(hubtest.Faulter)
	return f.Faults()
}

type unaskedHub struct{ hubtest.Hub }

func (unaskedHub) Invoke(context.Context, string, []byte) ([]byte, error) {
	return nil, backplane.ErrUnsupported
}

type bareNode struct{ hubtest.Node }

func (n bareNode) Hub(name string, hooks hubtest.Hooks) (hubtest.Hub, error) {
	h, err := n.Node.Hub(name, hooks)
	if err != nil {
		return nil, err
	}
	return bareHub{h}, nil
}

type bareHub struct{ hubtest.Hub }

// A run that is stopped blames nobody.
func TestStoppedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		report := hubtest.Check(ctx, stopping(inMemory(), cancel), hubtest.Bubble(), hubtest.Strict())
		if n := report.Count(conformance.NotExercised); n != len(hubtest.Properties()) || report.Err() != nil {
			t.Errorf("%s\n%v", report.Summary(), report.Err())
		}
		<-time.After(time.Hour)
	})
}

// stopping stops the run when the first instance is opened.
func stopping(open hubtest.Opener, stop func()) hubtest.Opener {
	return func(ctx context.Context, in conformance.Instance) (hubtest.Node, error) {
		stop()
		return open(ctx, in)
	}
}

// A hub that ignores its context ends no test by hanging it: the failure says which call it was.
func TestHubThatHangs(t *testing.T) {
	r := check(t, hanging(inMemory()), "deliver/all", hubtest.Patience(time.Second))
	f, ok := errors.AsType[*hubtest.Failure](r.Err)
	if r.Verdict != conformance.Failed || !ok || !f.Waited || !strings.Contains(f.Witness, "Send") || !strings.Contains(f.Witness, "has not returned") {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
}

func hanging(open hubtest.Opener) hubtest.Opener {
	return func(ctx context.Context, in conformance.Instance) (hubtest.Node, error) {
		n, err := open(ctx, in)
		if err != nil {
			return nil, err
		}
		return hangingNode{n}, nil
	}
}

type hangingNode struct{ hubtest.Node }

func (n hangingNode) Hub(name string, hooks hubtest.Hooks) (hubtest.Hub, error) {
	h, err := n.Node.Hub(name, hooks)
	if err != nil {
		return nil, err
	}
	return hangingHub{h}, nil
}

type hangingHub struct{ hubtest.Hub }

func (hangingHub) Send(context.Context, hubtest.Target, []byte) error {
	<-time.After(time.Minute)
	return nil
}

// A failure says the promise, what was seen, and what happened before it that concerns those clients.
func TestFailureReads(t *testing.T) {
	r := check(t, except(t), "deliver/except")
	text := r.Err.Error()
	for _, part := range []string{
		"broke deliver/except (H1): connections of an except-list get nothing", " got ", "and it should be nothing.", "Send(all, but not c2", "c2 hears ", "Often: ",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
	if lines := strings.Count(text, "\n"); lines > 20 {
		t.Errorf("%d lines:\n%s", lines, text)
	}
}

// What happens again and again takes one line of a failure, so that it does not push out so much of what came before.
func TestFailureCountsRepeats(t *testing.T) {
	text := check(t, broken(t, "copy-for-each-target"), "once/several-ways").Err.Error()
	for _, part := range []string{`c1 got "all ways 0" (8 times) "all ways 1" (8 times) `, `it should be "all ways 0" "all ways 1" `} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
	if !regexp.MustCompile(`c1 hears "all ways \d" \(\d times\)\n`).MatchString(text) { // copies of several sends may take turns
		t.Errorf("no line counts repeats:\n%s", text)
	}
}

// A bubble in which goroutines are left for ever is a failure of the property, not the end of the test binary.
func TestLeakInABubble(t *testing.T) {
	r := hubtest.Face(t, leaking(inMemory()), "deliver/all")
	if r.Verdict != conformance.Failed || !strings.Contains(r.Err.Error(), "goroutines block for ever") {
		t.Errorf("%v: %v", r.Verdict, r.Err)
	}
}

func leaking(open hubtest.Opener) hubtest.Opener {
	return func(ctx context.Context, in conformance.Instance) (hubtest.Node, error) {
		forever := make(chan struct{})
		go func() { <-forever }()
		return open(ctx, in)
	}
}
