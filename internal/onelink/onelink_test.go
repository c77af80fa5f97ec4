package onelink_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gobackplane/backplane/internal/onelink"
)

var (
	errNone   = errors.New("not connected")
	errClosed = errors.New("closed")
	errFailed = errors.New("failed")
)

// diary notes what happens to the connections of a link.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) notef(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// wrote compares what was noted since the last call.
func (d *diary) wrote(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("happened: %q, want %q", d.lines, want)
	}
	d.lines = nil
}

type conn struct {
	*diary

	name     string
	stopping chan struct{} // closed when Stop is called, which waits until stop is closed; nil: it does not
	stop     chan struct{}
}

func (c *conn) Start()  { c.notef("start %s", c.name) }
func (c *conn) GiveUp() { c.notef("give up %s", c.name) }

func (c *conn) Stop() {
	c.notef("stop %s", c.name)
	if c.stopping != nil {
		close(c.stopping)
		<-c.stop
		c.notef("stopped %s", c.name)
	}
}

// to makes connections.
func (d *diary) to(name string) func(context.Context) (*conn, error) {
	return func(context.Context) (*conn, error) {
		d.notef("make %s", name)
		return &conn{diary: d, name: name}, nil
	}
}

func newLink() (*onelink.Link[*conn], *diary) {
	return onelink.New[*conn](errNone, errClosed), &diary{}
}

// current is the name of the connection, or the error.
func current(l *onelink.Link[*conn]) string {
	c, err := l.Current()
	if err != nil {
		return err.Error()
	}
	return c.name
}

func TestConnectionsFollowOneAnother(t *testing.T) {
	t.Parallel()
	l, d := newLink()
	step := func(what string, err, want error, now string, happened ...string) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if got := current(l); got != now {
			t.Errorf("%s: the connection is %s, want %s", what, got, now)
		}
		d.wrote(t, happened...)
	}
	gone := func(f func()) error { f(); return nil }
	fails := func(context.Context) (*conn, error) { return nil, errFailed }
	step("at first", nil, nil, "not connected")
	step("Disconnect", gone(l.Disconnect), nil, "not connected")
	step("Connect", l.Connect(t.Context(), d.to("a")), nil, "a", "make a", "start a")
	step("again", l.Connect(t.Context(), d.to("b")), nil, "b", "stop a", "make b", "start b")
	step("in vain", l.Connect(t.Context(), fails), errFailed, "not connected", "stop b")
	step("after that", l.Connect(t.Context(), d.to("c")), nil, "c", "make c", "start c")
	step("Disconnect", gone(l.Disconnect), nil, "not connected", "stop c")
	step("anew", l.Connect(t.Context(), d.to("d")), nil, "d", "make d", "start d")
	step("Close", gone(l.Close), nil, "closed", "stop d")
	step("twice", gone(l.Close), nil, "closed")
	step("Connect after Close", l.Connect(t.Context(), d.to("e")), errClosed, "closed")
	step("Disconnect after Close", gone(l.Disconnect), nil, "closed")
}

// A connection that is being made when Close is called is never started, whether it is made after all or not.
func TestCloseEndsTheConnectUnderWay(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]bool{"it fails": false, "it is made": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, d := newLink()
			begun, outcome := make(chan struct{}), make(chan error)
			go func() {
				outcome <- l.Connect(t.Context(), func(ctx context.Context) (*conn, error) {
					close(begun)
					<-ctx.Done()
					if !made {
						return nil, ctx.Err()
					}
					return d.to("late")(ctx)
				})
			}()
			<-begun
			if got := current(l); got != "not connected" {
				t.Errorf("meanwhile the connection is %s", got)
			}
			go l.Close()
			if err := <-outcome; !errors.Is(err, errClosed) || errors.Is(err, context.Canceled) {
				t.Errorf("Connect: %v", err)
			}
			l.Close()
			if made {
				d.wrote(t, "make late", "give up late")
			} else {
				d.wrote(t)
			}
		})
	}
}

// What is there when Close is called is told as it is: Close then drops it.
func TestConnectThatWasAlmostDone(t *testing.T) {
	t.Parallel()
	turns, there, outcome, dropped := onelink.Turns{Closed: errClosed}, make(chan struct{}), make(chan error, 1), false
	go func() {
		outcome <- turns.Connect(t.Context(), func(ctx context.Context) error {
			close(there)
			<-ctx.Done()
			return nil
		})
	}()
	<-there
	turns.Close(func() { dropped = true })
	if err := <-outcome; err != nil || !dropped {
		t.Errorf("Connect: %v; dropped: %v", err, dropped)
	}
}

// The caller's context ends an attempt, and its error is told; Disconnect waits for its turn instead.
func TestDisconnectDoesNotEndTheConnectUnderWay(t *testing.T) {
	t.Parallel()
	l, d := newLink()
	ctx, cancel := context.WithCancel(t.Context())
	begun, outcome, ended := make(chan struct{}), make(chan error, 1), make(chan struct{})
	go func() {
		outcome <- l.Connect(ctx, func(ctx context.Context) (*conn, error) {
			close(begun)
			<-ctx.Done()
			d.notef("the attempt ends")
			return nil, ctx.Err()
		})
	}()
	<-begun
	go func() { l.Disconnect(); close(ended) }()
	yield()
	select {
	case <-ended:
		t.Error("Disconnect did not wait")
	default:
	}
	d.wrote(t)
	cancel()
	if err := <-outcome; !errors.Is(err, context.Canceled) {
		t.Errorf("Connect: %v", err)
	}
	<-ended
	d.wrote(t, "the attempt ends")
}

// While a connection stops, which may wait for a call of the sink, the link answers: there is none any more. The next one
// is not made before.
func TestLinkAnswersWhileItsConnectionStops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		end   func(*onelink.Link[*conn])
		now   string
		after []string
	}{
		{(*onelink.Link[*conn]).Disconnect, "not connected", []string{"stopped slow", "make next", "start next"}},
		{(*onelink.Link[*conn]).Close, "closed", []string{"stopped slow"}},
	} {
		l, d := newLink()
		slow := &conn{diary: d, name: "slow", stopping: make(chan struct{}), stop: make(chan struct{})}
		if err := l.Connect(t.Context(), func(context.Context) (*conn, error) { return slow, nil }); err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		calls.Go(func() { c.end(l) })
		<-slow.stopping
		if got := current(l); got != c.now {
			t.Errorf("the connection is %s, want %s", got, c.now)
		}
		calls.Go(func() { _ = l.Connect(t.Context(), d.to("next")) })
		yield()
		d.wrote(t, "start slow", "stop slow")
		close(slow.stop)
		calls.Wait()
		d.wrote(t, c.after...)
	}
}

// yield lets others get on, who should not.
func yield() {
	for range 1000 {
		runtime.Gosched()
	}
}

// However calls meet, no two connections live at the same time, each that was started is stopped, and after Close there is
// none.
func TestCallsAtTheSameTime(t *testing.T) {
	t.Parallel()
	for range 200 {
		l := onelink.New[*counted](errNone, errClosed)
		var alive atomic.Int32
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				err := l.Connect(t.Context(), func(context.Context) (*counted, error) {
					if alive.Add(1) != 1 {
						t.Error("two at the same time")
					}
					return &counted{alive: &alive}, nil
				})
				if err != nil && !errors.Is(err, errClosed) {
					t.Error(err)
				}
			})
			calls.Go(l.Disconnect)
			calls.Go(func() {
				if c, err := l.Current(); (c == nil) != (err != nil) {
					t.Errorf("%v, %v", c, err)
				}
			})
		}
		calls.Go(l.Close)
		calls.Wait()
		if n := alive.Load(); n != 0 {
			t.Fatalf("%d connections are left", n)
		}
	}
}

type counted struct{ alive *atomic.Int32 }

func (*counted) Start()    {}
func (c *counted) Stop()   { c.alive.Add(-1) }
func (c *counted) GiveUp() { c.alive.Add(-1) }
