package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// overStores runs a test over every store there is. Time stands still for the values of miniredis, so it is left out
// where that matters.
func overStores(t *testing.T, timed bool, f func(t *testing.T, open transport.Opener)) {
	t.Run("inmem", func(t *testing.T) { f(t, inmem.NewBroker().Opener()) })
	if !timed {
		t.Run("miniredis", func(t *testing.T) { f(t, redis.URL("redis://"+miniredis.RunT(t).Addr())) })
	}
	t.Run("redis-server", func(t *testing.T) { f(t, redis.URL(redisserver.Start(t, redisserver.Options{}).URL())) })
	t.Run("nats-server", func(t *testing.T) { f(t, nats.URL(natsserver.Start(t, natsserver.Options{JetStream: true}).URL())) })
	t.Run("nats cluster", func(t *testing.T) {
		c := jetStreamCluster(t, natsserver.Options{})
		next := -1
		f(t, func(config transport.Config) (transport.Transport, error) { // each node at another server
			next++
			return nats.New(nats.Options{URL: c.Servers[next%3].URL(), Replicas: 3})(config)
		})
	})
}

// storeNode opens a node that ends with the test.
func storeNode(t *testing.T, open transport.Opener, o backplane.Options) *backplane.Node {
	t.Helper()
	if o.Namespace == "" {
		o.Namespace = "ward"
	}
	n, err := backplane.Open(t.Context(), open, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func storeIn(t *testing.T, open transport.Opener, namespace string) backplane.Store {
	t.Helper()
	s, ok := storeNode(t, open, backplane.Options{Namespace: namespace}).Store()
	if !ok {
		t.Fatal("the node has no store")
	}
	return s
}

// wants fails where an error is another one.
func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// holds fails where a key has not this value in this revision.
func holds(t *testing.T, what string, s backplane.Store, key string, value []byte, r backplane.Revision) {
	t.Helper()
	e, err := s.Get(t.Context(), key)
	if err != nil || !bytes.Equal(e.Value, value) || e.Revision != r || e.Age < 0 || e.Age > time.Minute {
		t.Errorf("%s: %d bytes in revision %x of age %v, %v; want %d in %x", what, len(e.Value), e.Revision, e.Age, err, len(value), r)
	}
}

// A value is what the last write that named its revision made of it, on whatever node.
func TestStoreComparesAndSets(t *testing.T) {
	overStores(t, false, func(t *testing.T, open transport.Opener) {
		a, b := storeIn(t, open, "ward"), storeIn(t, open, "ward")
		ctx, key := t.Context(), "users/nurse-17"
		_, err := a.Get(ctx, key)
		wants(t, "Get of nothing", err, backplane.ErrKeyNotFound)
		_, err = a.Update(ctx, key, []byte("x"), 0, 7)
		wants(t, "Update of nothing", err, backplane.ErrConflict)
		wants(t, "Delete of nothing", a.Delete(ctx, key, 7), backplane.ErrKeyNotFound)
		wants(t, "Expire of nothing", a.Expire(ctx, key, time.Second), backplane.ErrKeyNotFound)
		wants(t, "Expire of nothing, for ever", a.Expire(ctx, key, 0), backplane.ErrKeyNotFound)

		first, err := a.Create(ctx, key, []byte("one"), time.Hour)
		wants(t, "Create", err, nil)
		holds(t, "created", b, key, []byte("one"), first)
		_, err = b.Create(ctx, key, []byte("other"), 0)
		wants(t, "Create of what is there", err, backplane.ErrConflict)
		second, err := b.Update(ctx, key, []byte("two"), 0, first)
		wants(t, "Update", err, nil)
		_, err = a.Update(ctx, key, []byte("other"), 0, first)
		wants(t, "Update of an old revision", err, backplane.ErrConflict)
		wants(t, "Delete of an old revision", a.Delete(ctx, key, first), backplane.ErrConflict)
		holds(t, "updated", a, key, []byte("two"), second)
		wants(t, "Expire", a.Expire(ctx, key, time.Hour), nil)
		wants(t, "Expire, for ever", a.Expire(ctx, key, 0), nil)
		wants(t, "Expire, for ever, again", a.Expire(ctx, key, 0), nil)
		holds(t, "after Expire", b, key, []byte("two"), second)
		wants(t, "Delete", b.Delete(ctx, key, second), nil)
		_, err = a.Get(ctx, key)
		wants(t, "Get of what was deleted", err, backplane.ErrKeyNotFound)

		third, err := a.Create(ctx, key, []byte("one"), 0)
		wants(t, "Create of what was deleted", err, nil)
		if first == second || second == third || first == third {
			t.Errorf("the revisions are %x, %x and %x", first, second, third)
		}
		_, err = storeIn(t, open, "ward2").Get(ctx, key)
		wants(t, "Get in another namespace", err, backplane.ErrKeyNotFound)
	})
}

func TestStoreKeepsAnyBytes(t *testing.T) {
	overStores(t, false, func(t *testing.T, open transport.Opener) {
		s := storeIn(t, open, "ward")
		bytewise := make([]byte, 256)
		for i := range bytewise {
			bytewise[i] = byte(i)
		}
		for i, value := range [][]byte{nil, {}, []byte("\r\n\x00'"), bytewise, bytes.Repeat(bytewise, backplane.MaxValue/256)} {
			key := "key/" + strconv.Itoa(i)
			given := bytes.Clone(value)
			r, err := s.Create(t.Context(), key, given, 0)
			if err != nil {
				t.Fatal(err)
			}
			clear(given)
			holds(t, key, s, key, value, r)
		}
	})
}

// Of writers that have seen the same one succeeds.
func TestStoreLosesNoUpdate(t *testing.T) {
	overStores(t, false, func(t *testing.T, open transport.Opener) {
		const writers, each = 6, 20
		stores := []backplane.Store{storeIn(t, open, "ward"), storeIn(t, open, "ward")}
		if _, err := stores[0].Create(t.Context(), "count", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		increment := func(s backplane.Store) error {
			for {
				e, err := s.Get(t.Context(), "count")
				if err != nil {
					return err
				}
				n, err := strconv.Atoi(string(e.Value))
				if err != nil {
					return err
				}
				_, err = s.Update(t.Context(), "count", strconv.AppendInt(nil, int64(n)+1, 10), 0, e.Revision)
				if !errors.Is(err, backplane.ErrConflict) {
					return err
				}
			}
		}
		var work sync.WaitGroup
		for i := range writers {
			work.Go(func() {
				for range each {
					if err := increment(stores[i%2]); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		work.Wait()
		if e, err := stores[0].Get(t.Context(), "count"); err != nil || string(e.Value) != strconv.Itoa(writers*each) {
			t.Errorf("the count is %s, %v; want %d", e.Value, err, writers*each)
		}
	})
}

// A call that is given up says what became of it: what was not done is not done later.
func TestStoreErrorsAreTrue(t *testing.T) {
	overStores(t, false, func(t *testing.T, open transport.Opener) {
		const calls = 400
		s := storeIn(t, open, "ward")
		if _, err := s.Create(t.Context(), "first", nil, 0); err != nil {
			t.Fatal(err)
		}
		outcomes := make([]error, calls)
		for i := range outcomes {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Microsecond)
			_, outcomes[i] = s.Create(ctx, "k/"+strconv.Itoa(i), nil, 0)
			cancel()
		}
		if _, err := s.Create(t.Context(), "last", nil, 0); err != nil {
			t.Fatal(err)
		}
		for i, outcome := range outcomes {
			_, err := s.Get(t.Context(), "k/"+strconv.Itoa(i))
			switch {
			case errors.Is(outcome, backplane.ErrUncertain):
			case outcome == nil:
				wants(t, "Get of what was created", err, nil)
			default:
				wants(t, "Create that was given up", outcome, backplane.ErrUnavailable)
				wants(t, "Get of what was not created", err, backplane.ErrKeyNotFound)
			}
		}
	})
}

// A new time to live is no new revision: who has seen the value can replace it still.
func TestStoreExpireIsNoChange(t *testing.T) {
	overStores(t, false, func(t *testing.T, open transport.Opener) {
		a, b := storeIn(t, open, "ward"), storeIn(t, open, "ward")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := a.Create(ctx, "k", []byte("0"), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		work.Go(func() {
			for ctx.Err() == nil {
				if err := b.Expire(ctx, "k", time.Hour); err != nil && ctx.Err() == nil {
					t.Errorf("Expire: %v", err)
					return
				}
			}
		})
		for n := 1; n <= 50; n++ {
			holds(t, "meanwhile", a, "k", strconv.AppendInt(nil, int64(n)-1, 10), r)
			if r, err = a.Update(ctx, "k", strconv.AppendInt(nil, int64(n), 10), time.Hour, r); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		work.Wait()
	})
}

// watch starts to watch a key; what it is told comes in on the channel, "" for nothing.
func watch(t *testing.T, s backplane.Store, key string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan string, 100), make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, key, func(e *backplane.Entry) {
			if e == nil {
				told <- ""
				return
			}
			told <- string(e.Value)
		})
	}()
	t.Cleanup(func() {
		cancel()
		wants(t, "Watch", <-ended, context.Canceled)
	})
	return told
}

func tells(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("the watch tells %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the watch tells nothing, want %q", want)
	}
}

// A value ends when its time is over, and not before; and whoever watches is told.
func TestStoreExpires(t *testing.T) {
	overStores(t, true, func(t *testing.T, open transport.Opener) {
		a, b := storeIn(t, open, "ward"), storeIn(t, open, "ward")
		ctx := t.Context()
		told := watch(t, b, "short")
		tells(t, told, "")
		if _, err := a.Create(ctx, "kept", []byte("k"), 2*time.Second); err != nil {
			t.Fatal(err)
		}
		wants(t, "Expire, for ever", b.Expire(ctx, "kept", 0), nil)
		r, err := a.Create(ctx, "replaced", []byte("r"), 2*time.Second)
		wants(t, "Create", err, nil)
		if r, err = b.Update(ctx, "replaced", []byte("R"), 0, r); err != nil {
			t.Fatal(err)
		}
		if _, err = a.Create(ctx, "short", []byte("s"), time.Hour); err != nil {
			t.Fatal(err)
		}
		tells(t, told, "s")
		const left = 2500 * time.Millisecond
		before := time.Now()
		wants(t, "Expire", b.Expire(ctx, "short", left), nil)
		eventually(t, "the value ends", func() bool {
			_, err = a.Get(ctx, "short")
			return err != nil
		})
		if lasted := time.Since(before); lasted < left {
			t.Errorf("it lasted %v, and should %v", lasted, left)
		}
		wants(t, "Get of what has ended", err, backplane.ErrKeyNotFound)
		tells(t, told, "") // by now the times of the other two would be over, too
		holds(t, "replaced without an end", a, "replaced", []byte("R"), r)
		wants(t, "Expire, when it is no more new", b.Expire(ctx, "kept", time.Hour), nil)
		if e, err := a.Get(ctx, "kept"); err != nil || string(e.Value) != "k" || e.Age < 2*time.Second {
			t.Errorf("what was to stay is %q of age %v, %v", e.Value, e.Age, err)
		}
		if r, err = a.Create(ctx, "short", []byte("again"), 0); err != nil {
			t.Fatal(err)
		}
		tells(t, told, "again")
		wants(t, "Delete", a.Delete(ctx, "short", r), nil)
		tells(t, told, "")
	})
}

// Who watches is told when the node has been closed.
func TestStoreEndsWithItsNode(t *testing.T) {
	overStores(t, false, func(t *testing.T, open transport.Opener) {
		n, err := backplane.Open(t.Context(), open, backplane.Options{Namespace: "ward"})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := n.Store()
		told, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- s.Watch(t.Context(), "k", func(*backplane.Entry) { close(told) }) }()
		<-told
		if err = n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		wants(t, "Watch", <-ended, backplane.ErrClosed)
		_, err = s.Get(t.Context(), "k")
		wants(t, "Get", err, backplane.ErrClosed)
	})
}

// killable is a server that can be killed and started again.
type killable interface {
	Kill()
	Restart()
}

// A server that dies takes what it keeps in memory with it, and not what it keeps on disk. Meanwhile nothing is done, and
// afterwards everything works without help.
func TestStoreOverAKilledServer(t *testing.T) {
	overRedis := func(config ...string) func(*testing.T) (killable, transport.Opener) {
		return func(t *testing.T) (killable, transport.Opener) {
			s := redisserver.Start(t, redisserver.Options{Config: config})
			return s, redis.URL(s.URL())
		}
	}
	for what, row := range map[string]struct {
		start func(*testing.T) (killable, transport.Opener)
		keeps bool
	}{
		"Redis in memory": {overRedis(), false},
		"Redis on disk":   {overRedis("appendonly yes", "appendfsync always"), true},
		"NATS in memory":  {natsInMemory, false},
		"NATS on disk":    {natsOnDisk, true},
	} {
		t.Run(what, func(t *testing.T) {
			server, open := row.start(t)
			n := storeNode(t, open, quick())
			s, _ := n.Store()
			told := watch(t, s, "k")
			tells(t, told, "")
			r, err := s.Create(t.Context(), "k", []byte("v"), 0)
			wants(t, "Create", err, nil)
			tells(t, told, "v")
			states := make(chan backplane.State, 100)
			defer n.OnHealth(func(h backplane.Health) { states <- h.State })()
			server.Kill()
			_, err = s.Update(t.Context(), "k", []byte("w"), 0, r)
			if !errors.Is(err, backplane.ErrUnavailable) && !errors.Is(err, backplane.ErrUncertain) {
				t.Errorf("Update without a server: %v", err)
			}
			_, err = s.Get(t.Context(), "k")
			wants(t, "Get without a server", err, backplane.ErrUnavailable)
			await := func(state backplane.State) {
				late := time.After(20 * time.Second)
				for {
					select {
					case s := <-states:
						if s == state {
							return
						}
					case <-late:
						t.Fatalf("the node does not become %v", state)
					}
				}
			}
			await(backplane.Down)
			server.Restart()
			await(backplane.Up)
			if row.keeps {
				holds(t, "after the restart", s, "k", []byte("v"), r)
				return
			}
			tells(t, told, "")
			_, err = s.Update(t.Context(), "k", []byte("w"), 0, r)
			wants(t, "Update of what the server forgot", err, backplane.ErrConflict)
			r, err = s.Create(t.Context(), "k", []byte("new"), 0)
			wants(t, "Create of what the server forgot", err, nil)
			holds(t, "after the restart", s, "k", []byte("new"), r)
		})
	}
}

// storeRights are what a user of one namespace needs for the store beside the rights for pub/sub, as documented.
const storeRights = " ~%s:* +get +set +del +exists +pexpire +persist +time +eval"

func TestStorePermissions(t *testing.T) {
	user := func(name, more string) string { return name + " " + fmt.Sprintf(rights, "ward") + " &ward2:*" + more }
	server := redisserver.Start(t, redisserver.Options{Users: []string{
		user("full", fmt.Sprintf(storeRights, "ward")), user("none", ""), user("half", " ~ward:* +eval +get +time"),
	}})
	open := func(name string) transport.Opener { return redis.URL(server.URLAs(name, "secret")) }
	ctx := t.Context()
	full := storeIn(t, open("full"), "ward")
	r, err := full.Create(ctx, "k", []byte("v"), time.Hour)
	wants(t, "Create", err, nil)
	if r, err = full.Update(ctx, "k", []byte("w"), 0, r); err != nil {
		t.Error(err)
	}
	wants(t, "Expire", full.Expire(ctx, "k", time.Hour), nil)
	wants(t, "Expire, for ever", full.Expire(ctx, "k", 0), nil)
	holds(t, "all is permitted", full, "k", []byte("w"), r)
	wants(t, "Delete", full.Delete(ctx, "k", r), nil)
	for name, namespace := range map[string]string{"full": "ward2", "none": "ward"} {
		s := storeIn(t, open(name), namespace)
		_, err := s.Get(ctx, "k")
		wants(t, name+" in "+namespace+": Get", err, backplane.ErrDenied)
		_, err = s.Create(ctx, "k", nil, 0)
		wants(t, name+" in "+namespace+": Create", err, backplane.ErrDenied)
		wants(t, name+" in "+namespace+": Delete", s.Delete(ctx, "k", 1), backplane.ErrDenied)
		wants(t, name+" in "+namespace+": Expire", s.Expire(ctx, "k", 0), backplane.ErrDenied)
		wants(t, name+" in "+namespace+": Watch", s.Watch(ctx, "k", nil), backplane.ErrDenied)
	}
	_, err = storeIn(t, open("half"), "ward").Create(ctx, "k", nil, 0)
	wants(t, "a script that may not write", err, backplane.ErrDenied)
}

// What another program, or a later version, keeps under a key is neither read nor overwritten.
func TestStoreLeavesForeignValuesAlone(t *testing.T) {
	server := redisserver.Start(t, redisserver.Options{})
	s := storeIn(t, redis.URL(server.URL()), "ward")
	for key, command := range map[string][]string{
		"future": {"SET", "ward:kv/future", "20123456789abcdef000001700000000value"},
		"short":  {"SET", "ward:kv/short", "1"},
		"text":   {"SET", "ward:kv/text", "1this is no hexadecimal number but text"},
		"list":   {"LPUSH", "ward:kv/list", "value"},
	} {
		server.Do(command...)
		_, err := s.Get(t.Context(), key)
		wants(t, "Get of "+key, err, backplane.ErrUnsupported)
		if key == "future" {
			_, err = s.Update(t.Context(), key, nil, 0, 0x0123456789abcdef)
			wants(t, "Update of "+key, err, backplane.ErrUnsupported)
			wants(t, "Delete of "+key, s.Delete(t.Context(), key, 0x0123456789abcdef), backplane.ErrUnsupported)
		}
		_, err = s.Create(t.Context(), key, nil, 0)
		if err == nil {
			t.Errorf("Create overwrote %s", key)
		}
	}
}
