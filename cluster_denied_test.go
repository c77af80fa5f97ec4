package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/transport"
)

// censored is a transport whose broker denies some channels.
type censored struct {
	transport.Transport

	right *right
}

// right is what a user may not do any more.
type right struct {
	missing atomic.Pointer[privilege] // nil while nothing is denied
}

// privilege is what to do with which channels: those whose names contain channel.
type privilege struct{ op, channel string }

func (r censored) Clustered(l transport.Link) bool {
	return r.Transport.(transport.Clustered).Clustered(l) //nolint:forcetypeassert // or the test fails here
}

func (r censored) denied(op, channel string) error {
	if without := r.right.missing.Load(); without != nil && op == without.op && strings.Contains(channel, without.channel) {
		return fmt.Errorf("%w: no right to %s", transport.ErrDenied, op)
	}
	return nil
}

func (r censored) Subscribe(ctx context.Context, l transport.Link, channels []string) []error {
	var asked []string
	errs := make([]error, len(channels))
	for i, c := range channels {
		if errs[i] = r.denied("subscribe", c); errs[i] == nil {
			asked = append(asked, c)
		}
	}
	return merged(errs, r.Transport.Subscribe(ctx, l, asked))
}

func (r censored) Publish(ctx context.Context, l transport.Link, frames []transport.Frame) []error {
	var asked []transport.Frame
	errs := make([]error, len(frames))
	for i, f := range frames {
		if errs[i] = r.denied("publish", f.Channel); errs[i] == nil {
			asked = append(asked, f)
		}
	}
	return merged(errs, r.Transport.Publish(ctx, l, asked))
}

// merged puts the answers for what was not denied where they belong.
func merged(errs, said []error) []error {
	k := 0
	for i, err := range errs {
		if err == nil && said != nil {
			errs[i] = said[k]
			k++
		}
	}
	for _, err := range errs {
		if err != nil {
			return errs
		}
	}
	return nil
}

// gated opens two nodes, of which the first has published. shut takes a right from it that its gate needs, and its connection, and
// allow gives the right back.
func gated(t *testing.T, o backplane.Options) (n, other *backplane.Node, at *ear, shut func(privilege), allow func()) {
	t.Helper()
	cluster := lan(1)
	other = openAt(t, cluster, 1)
	at, _ = listen(t, other, ward)
	rights := &right{}
	inner := cluster.Opener(0)
	n, err := backplane.Open(t.Context(), func(cfg transport.Config) (transport.Transport, error) {
		tr, err := inner(cfg)
		return censored{tr, rights}, err
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close(context.Background()) })
	publish(t, n, ward, "before")
	shut = func(lost privilege) {
		rights.missing.Store(&lost)
		cluster.Kick(n.ID())
	}
	return n, other, at, shut, func() { rights.missing.Store(nil) }
}

func expectLast(t *testing.T, heard []string, want string) {
	t.Helper()
	if len(heard) == 0 || heard[len(heard)-1] != want {
		t.Errorf("heard %q, the last should be %q", heard, want)
	}
}

// needed are the rights without which no member can answer a node.
var needed = []privilege{{"subscribe", "default:s:members"}, {"subscribe", "default:s:inbox"}, {"publish", "default:"}}

// Behind a gate that cannot open, because the broker denies what it needs, publishes fail at once, and are taken when it may be
// opened again.
func TestPublishFailsBehindADeniedGate(t *testing.T) {
	for _, lost := range needed {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, other, at, shut, allow := gated(t, backplane.Options{})
				shut(lost)
				time.Sleep(time.Second)
				began := time.Now()
				wantIs(t, "publish", n.Publish(t.Context(), ward, []byte("denied")), backplane.ErrDenied)
				wantIs(t, "batch", n.PublishBatch(t.Context(), []backplane.Outgoing{{To: ward}, {To: backplane.Group("b")}}), backplane.ErrDenied)
				if took := time.Since(began); took > time.Second {
					t.Errorf("that took %v", took)
				}
				if h := n.Health(); h.State != backplane.Down {
					t.Errorf("health: %v", h)
				}
				allow()
				time.Sleep(10 * time.Second)
				wantHealth(t, "allowed again", n.Health(), backplane.Up, "")
				publish(t, n, ward, "after")
				time.Sleep(time.Second)
				expectLast(t, at.heard(), "after")
				if err := n.Close(t.Context()); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
				if len(other.Members()) != 1 {
					t.Error("Close did not wait until the goodbye had left")
				}
			})
		})
	}
}

// With WaitWhenDown they wait, as while the broker is away.
func TestPublishWaitsBehindADeniedGate(t *testing.T) {
	for _, lost := range needed {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, _, at, shut, allow := gated(t, backplane.Options{WaitWhenDown: true})
				shut(lost)
				time.Sleep(time.Second)
				outcome := make(chan error, 1)
				go func() { outcome <- n.Publish(t.Context(), ward, []byte("waited")) }()
				time.Sleep(time.Minute)
				if len(outcome) > 0 {
					t.Fatalf("it did not wait: %v", <-outcome)
				}
				allow()
				if err := <-outcome; err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
				expectLast(t, at.heard(), "waited")
			})
		})
	}
}

// Close does not wait for what such a gate holds, and says no goodbye before the node's last numbers were told: it would be taken
// for the last word.
func TestCloseBehindADeniedGate(t *testing.T) {
	for _, lost := range needed[:2] { // without the last one nobody hears the goodbye either
		for name, c := range map[string]struct {
			options  backplane.Options
			silent   bool  // it has not published since its numbers were told, and publishes nothing now
			want     error // of what is published now
			goodbyes int
		}{
			"publishes fail":     {backplane.Options{}, false, backplane.ErrDenied, 0},
			"publishes wait":     {backplane.Options{WaitWhenDown: true}, false, backplane.ErrClosed, 0},
			"nothing to be told": {backplane.Options{}, true, nil, 1},
		} {
			t.Run(fmt.Sprint(lost, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, other, _, shut, _ := gated(t, c.options)
					if c.silent {
						time.Sleep(4 * time.Second) // twice a tail mark
					}
					shut(lost)
					time.Sleep(time.Second)
					outcome := make(chan error, 1)
					if c.silent {
						outcome <- nil
					} else {
						go func() { outcome <- n.Publish(t.Context(), ward, []byte("never")) }()
					}
					synctest.Wait()
					began := time.Now()
					if err := n.Close(context.Background()); err != nil {
						t.Error(err)
					}
					if took := time.Since(began); took > time.Second {
						t.Errorf("Close took %v", took)
					}
					if err := <-outcome; !errors.Is(err, c.want) {
						t.Errorf("what waited: %v, want %v", err, c.want)
					}
					time.Sleep(time.Second)
					if left := 2 - len(other.Members()); left != c.goodbyes {
						t.Errorf("%d goodbyes, want %d", left, c.goodbyes)
					}
				})
			})
		}
	}
}
