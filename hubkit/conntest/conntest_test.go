package conntest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
)

func batch(payloads ...string) (b []hubkit.Delivery) {
	for _, p := range payloads {
		b = append(b, hubkit.Delivery{Payload: []byte(p)})
	}
	return b
}

func TestRecords(t *testing.T) {
	c := conntest.New()
	b := append(batch("a", "b"), hubkit.Delivery{Missed: 3})
	if err := c.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	clear(b) // the hub uses the slice again
	if err := c.Write(t.Context(), batch("c")); err != nil {
		t.Fatal(err)
	}
	if got := c.Payloads(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("payloads %q", got)
	}
	if got := c.Deliveries(); len(got) != 4 || got[2].Missed != 3 {
		t.Errorf("deliveries %+v", got)
	}
	if c.Writes() != 2 {
		t.Errorf("%d writes", c.Writes())
	}
	if d, err := c.Wait(t.Context(), 3); err != nil || d.Missed != 3 {
		t.Errorf("the third delivery is %+v, %v", d, err)
	}
	if err := c.Misuse(); err != nil {
		t.Error(err)
	}
}

func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := conntest.New()
		nth, payload := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := c.Wait(t.Context(), 2)
			nth <- err
		}()
		go func() { payload <- c.WaitPayload(t.Context(), "b") }()
		for _, p := range []string{"a", "b"} {
			synctest.Wait()
			if len(nth)+len(payload) != 0 {
				t.Error("a wait ended too early")
			}
			if err := c.Write(t.Context(), batch(p)); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range []error{<-nth, <-payload} {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWaitsEnd(t *testing.T) {
	c := conntest.New()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	waits := map[string]func(context.Context) error{
		"Wait":        func(ctx context.Context) error { _, err := c.Wait(ctx, 1); return err },
		"WaitPayload": func(ctx context.Context) error { return c.WaitPayload(ctx, "x") },
		"WaitBlocked": c.WaitBlocked,
		"WaitClosed":  func(ctx context.Context) error { _, err := c.WaitClosed(ctx); return err },
	}
	for name, wait := range waits {
		if err := wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Close(hubkit.Reason{Text: "bye"}); err != nil {
		t.Fatal(err)
	}
	for name, wait := range waits {
		if err := wait(t.Context()); name != "WaitClosed" && !errors.Is(err, conntest.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if r, err := c.WaitClosed(t.Context()); err != nil || r.Text != "bye" {
		t.Errorf("closed because %v, %v", r, err)
	}
}

// blockedWrite starts a write that is blocked.
func blockedWrite(ctx context.Context, t *testing.T, c *conntest.Conn) <-chan error {
	t.Helper()
	c.Block()
	wrote := make(chan error, 1)
	go func() { wrote <- c.Write(ctx, batch("x")) }()
	if err := c.WaitBlocked(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.Payloads(); len(got) != 0 {
		t.Errorf("a blocked write was recorded: %q", got)
	}
	return wrote
}

func TestBlockedWriteEnds(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, end := range []struct {
		name     string
		by       func(*conntest.Conn) error
		want     error
		recorded int
	}{
		{"unblock", func(c *conntest.Conn) error { c.Unblock(); return nil }, nil, 1},
		{"close", func(c *conntest.Conn) error { return c.Close(hubkit.Reason{}) }, conntest.ErrClosed, 0},
		{"fail", func(c *conntest.Conn) error { c.Fail(broken); return nil }, broken, 0},
		{"deadline", nil, context.DeadlineExceeded, 0},
	} {
		t.Run(end.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := conntest.New()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				wrote := blockedWrite(ctx, t, c)
				if end.by != nil {
					if err := end.by(c); err != nil {
						t.Error(err)
					}
				}
				if err := <-wrote; !errors.Is(err, end.want) {
					t.Errorf("the write ended with %v, want %v", err, end.want)
				}
				if got := len(c.Payloads()); got != end.recorded {
					t.Errorf("%d payloads were recorded", got)
				}
			})
		})
	}
}

func TestFailEnds(t *testing.T) {
	c := conntest.New()
	c.Fail(errors.New("broken pipe"))
	if err := c.Write(t.Context(), batch("x")); err == nil {
		t.Error("the write did not fail")
	}
	c.Fail(nil)
	if err := c.Write(t.Context(), batch("y")); err != nil {
		t.Error(err)
	}
	if got := c.Payloads(); !slices.Equal(got, []string{"y"}) {
		t.Errorf("payloads %q", got)
	}
}

func TestMisuseIsNoticed(t *testing.T) {
	for name, misuse := range map[string]func(*testing.T, *conntest.Conn){
		"two writes": func(t *testing.T, c *conntest.Conn) {
			first := blockedWrite(t.Context(), t, c)
			second := make(chan error, 1)
			go func() { second <- c.Write(t.Context(), batch("y")) }()
			synctest.Wait()
			c.Unblock()
			for _, err := range []error{<-first, <-second} {
				if err != nil {
					t.Error(err)
				}
			}
		},
		"an empty write": func(t *testing.T, c *conntest.Conn) {
			if err := c.Write(t.Context(), nil); err != nil {
				t.Error(err)
			}
		},
		"two closes": func(t *testing.T, c *conntest.Conn) {
			if err := c.Close(hubkit.Reason{}); err != nil {
				t.Error(err)
			}
			if err := c.Close(hubkit.Reason{}); err == nil {
				t.Error("the second Close has no error")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := conntest.New()
				misuse(t, c)
				if c.Misuse() == nil {
					t.Error("it was not noticed")
				}
			})
		})
	}
}
