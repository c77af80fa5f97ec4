package inmem_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// storeOf opens a transport with a store, connected.
func storeOf(t *testing.T, b *inmem.Broker, id transport.NodeID) interface {
	transport.Transport
	transport.Store
} {
	t.Helper()
	opened, err := b.Opener()(transport.Config{Node: id, Namespace: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	s, ok := opened.(interface {
		transport.Transport
		transport.Store
	})
	if !ok {
		t.Fatal("it has no store")
	}
	s.Start(silent{})
	if err := s.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	return s
}

type silent struct{}

func (silent) Frame(transport.Link, string, []byte)      {}
func (silent) Gap(transport.Link, []string, bool, error) {}
func (silent) Down(transport.Link, error)                {}

// The faults of a node are those of its store too.
func TestStoreUnderFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inmem.NewBroker()
		s, other := storeOf(t, b, "a"), storeOf(t, b, "b")
		create := func(key string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := s.Create(ctx, key, nil, 0)
			return err
		}
		there := func(what, key string, want bool) {
			t.Helper()
			_, err := other.Get(t.Context(), key)
			if errors.Is(err, transport.ErrKeyNotFound) == want || err != nil && !errors.Is(err, transport.ErrKeyNotFound) {
				t.Errorf("%s: the other node gets %v; written is %v", what, err, want)
			}
		}
		for _, row := range []struct {
			what  string
			fault func()
			want  error
			there bool
		}{
			{"mute", func() { b.Mute("a") }, transport.ErrUncertain, false},
			{"deaf", func() { b.Deafen("a") }, transport.ErrUncertain, true},
			{"slow", func() { b.Delay("a", 500*time.Millisecond) }, nil, true},
			{"denied", func() {
				b.Deny(func(r inmem.Request) bool { return r.Op == inmem.OpStore && r.Channel == "ward:denied" })
			}, transport.ErrDenied, false},
			{"cut", func() { b.Cut("a") }, transport.ErrUnavailable, false},
		} {
			row.fault()
			if err := create(row.what); !errors.Is(err, row.want) {
				t.Errorf("%s: %v, want %v", row.what, err, row.want)
			}
			b.Heal("a")
			b.Deny(nil)
			there(row.what, row.what, row.there)
		}
		if err := s.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		there("before the stop", "deaf", true)
		b.Stop()
		if _, err := s.Get(t.Context(), "deaf"); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("stopped: %v, want ErrUnavailable", err)
		}
		b.Start()
		if err := other.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		there("after a stop", "deaf", false)
		for _, x := range []transport.Transport{s, other} {
			if err := x.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.Get(t.Context(), "deaf"); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("closed: %v, want ErrClosed", err)
		}
	})
}

// Whoever watches hears at once, also of an end; under a fault when it is over.
func TestStoreWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inmem.NewBroker()
		s, other := storeOf(t, b, "a"), storeOf(t, b, "b")
		start := time.Now()
		var told []string
		ended := make(chan error, 1)
		go func() {
			ended <- s.Watch(t.Context(), "k", func(e *transport.Entry) {
				what := "nothing"
				if e != nil {
					what = string(e.Value)
				}
				told = append(told, fmt.Sprintf("%s at %v", what, time.Since(start)))
			})
		}()
		synctest.Wait()
		r, err := other.Create(t.Context(), "k", []byte("one"), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if _, err = other.Create(t.Context(), "another", nil, 0); err != nil {
			t.Fatal(err)
		}
		if _, err = other.Update(t.Context(), "k", []byte("two"), 5*time.Second, r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if err = other.Expire(t.Context(), "k", 10*time.Second); err != nil { // it would end at 7 s
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		b.Cut("a")
		if _, err = other.Create(t.Context(), "k", []byte("three"), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b.Heal("a")
		if err = s.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err = s.Close(); err != nil {
			t.Fatal(err)
		}
		if err = <-ended; !errors.Is(err, transport.ErrClosed) {
			t.Errorf("Watch: %v, want ErrClosed", err)
		}
		want := []string{"nothing at 0s", "one at 0s", "two at 2s", "nothing at 15s", "three at 26s"}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("told was %q, want %q", told, want)
		}
		_ = other.Close()
	})
}
