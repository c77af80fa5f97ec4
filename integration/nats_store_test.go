package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/transport"
)

const natsPatience = time.Minute

// jetStreamOf speaks JetStream to a server.
func jetStreamOf(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	conn, err := natsgo.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// bucketOf is about what the store makes for a namespace.
func bucketOf(namespace string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_backplane-" + namespace, Subjects: []string{"$KV.backplane-" + namespace + ".>"}, MaxMsgsPerSubject: 1,
		Discard: jetstream.DiscardNew, AllowMsgTTL: true,
	}
}

// keptInBucket returns the keys that have values, and how long the server keeps each from its writing on.
func keptInBucket(t *testing.T, js jetstream.JetStream, name string) map[string]time.Duration {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]time.Duration{}
	for subject := range info.State.Subjects {
		m, err := stream.GetLastMsgForSubject(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		seconds, err := strconv.Atoi(m.Header.Get("Nats-TTL"))
		if err != nil {
			t.Errorf("%s stays for ever: %v", subject, err)
		}
		if m.Header.Get("KV-Operation") != "" {
			continue
		}
		kept[subject] = time.Duration(seconds) * time.Second
	}
	return kept
}

func natsOnDisk(t *testing.T) (s killable, open transport.Opener) {
	t.Helper()
	p := natsserver.StartProcess(t, natsserver.Options{JetStream: true})
	return p, nats.URL(p.URL())
}

// natsInMemory has a bucket that somebody made to be kept in memory.
func natsInMemory(t *testing.T) (s killable, open transport.Opener) {
	t.Helper()
	p := natsserver.StartProcess(t, natsserver.Options{JetStream: true})
	c := bucketOf("faults")
	c.Storage = jetstream.MemoryStorage
	if _, err := jetStreamOf(t, p.URL()).CreateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return p, nats.URL(p.URL())
}

// jetStreamCluster starts servers that keep a store together, and waits until they have a leader that knows them all.
func jetStreamCluster(t *testing.T, o natsserver.Options) *natsserver.Cluster {
	t.Helper()
	o.JetStream = true
	c := natsserver.StartCluster(t, 3, o)
	eventually(t, "JetStream has a leader that knows all servers", func() bool {
		for _, s := range c.Servers {
			if r := s.Running(); r.JetStreamIsLeader() && len(r.JetStreamClusterPeers()) == len(c.Servers) {
				return true
			}
		}
		return false
	})
	return c
}

// eventually waits until something that tells nobody has happened.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(natsPatience)
	for !happened() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// Nodes that miss the bucket at the same moment make one.
func TestNATSStoreBucketIsMadeOnce(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{JetStream: true})
	const nodes = 8
	stores := make([]backplane.Store, nodes)
	for i := range stores {
		stores[i] = storeIn(t, nats.URL(server.URL()), "ward")
	}
	var work sync.WaitGroup
	start := make(chan struct{})
	for i, s := range stores {
		work.Go(func() {
			<-start
			if _, err := s.Create(t.Context(), fmt.Sprintf("k/%d", i), []byte("v"), 0); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	close(start)
	work.Wait()
	stream, err := jetStreamOf(t, server.URL()).Stream(t.Context(), "KV_backplane-ward")
	if err != nil {
		t.Fatal(err)
	}
	if info := stream.CachedInfo(); info.State.Msgs != nodes || info.Config.Storage != jetstream.FileStorage || info.Config.Replicas != 1 {
		t.Errorf("the bucket is %+v, and has %d values, want %d", info.Config, info.State.Msgs, nodes)
	}
}

// Where there is no JetStream, or a bucket that cannot keep what the store promises, every call says so, and what helps.
func TestNATSStoreSaysWhatIsWrong(t *testing.T) {
	with := func(change func(*jetstream.StreamConfig)) func(*testing.T) string {
		return func(t *testing.T) string {
			server := natsserver.Start(t, natsserver.Options{JetStream: true})
			c := bucketOf("ward")
			change(&c)
			if _, err := jetStreamOf(t, server.URL()).CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			return server.URL()
		}
	}
	for what, row := range map[string]struct {
		start    func(*testing.T) string
		replicas int
		says     string
	}{
		"no JetStream": {func(t *testing.T) string { return natsserver.Start(t, natsserver.Options{}).URL() }, 0, "-js"},
		"none for the account": {func(t *testing.T) string {
			return natsserver.Start(t, natsserver.Options{JetStream: true, Config: []string{
				`accounts { A { users: [ {user: a, password: a} ] } }`, `no_auth_user: a`,
			}}).URL()
		}, 0, "jetstream: enabled"},
		"no cluster":     {func(t *testing.T) string { return natsserver.Start(t, natsserver.Options{JetStream: true}).URL() }, 3, "Replicas"},
		"history":        {with(func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }), 0, "history"},
		"age":            {with(func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }), 0, "1h0m0s"},
		"no ends":        {with(func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false }), 0, "--allow-msg-ttl"},
		"drops old ones": {with(func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardOld, 1<<20 }), 0, "drops"},
		"small values":   {with(func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }), 0, "1000"},
		"work queue":     {with(func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }), 0, "retention"},
		"sealed":         {with(func(c *jetstream.StreamConfig) { c.NoAck = true }), 0, "acknowledge"},
		"subjects":       {with(func(c *jetstream.StreamConfig) { c.Subjects = []string{"other"} }), 0, "subjects"},
		"subjects taken": {with(func(c *jetstream.StreamConfig) { c.Name = "other" }), 0, "another stream"},
	} {
		t.Run(what, func(t *testing.T) {
			s := storeIn(t, nats.New(nats.Options{URL: row.start(t), Replicas: row.replicas}), "ward")
			ctx, cancel := context.WithTimeout(t.Context(), natsPatience)
			defer cancel()
			_, err := s.Get(ctx, "k")
			wants(t, "Get", err, backplane.ErrUnsupported)
			if err != nil && !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v does not say %q", err, row.says)
			}
			_, err = s.Create(ctx, "k", nil, 0)
			wants(t, "Create", err, backplane.ErrUnsupported)
			wants(t, "Watch", s.Watch(ctx, "k", nil), backplane.ErrUnsupported)
		})
	}
}

// Whoever watches is told at once, and leaves nothing behind.
func TestNATSStoreWatchIsToldAtOnce(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{JetStream: true})
	s := storeIn(t, nats.URL(server.URL()), "ward")
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan *backplane.Entry), make(chan error, 1)
	go func() { ended <- s.Watch(ctx, "k", func(e *backplane.Entry) { told <- e }) }()
	<-told
	stream, err := jetStreamOf(t, server.URL()).Stream(t.Context(), "KV_backplane-ward")
	if err != nil {
		t.Fatal(err)
	}
	const changes = 10
	began := time.Now()
	r, err := s.Create(t.Context(), "k", nil, 0)
	for range changes {
		if err != nil {
			t.Fatal(err)
		}
		if e := <-told; e == nil || e.Revision != r {
			t.Fatalf("told was %+v, want revision %x", e, r)
		}
		r, err = s.Update(t.Context(), "k", nil, time.Hour, r)
	}
	if took := time.Since(began); took > changes*time.Second/2 {
		t.Errorf("%d changes were told in %v", changes, took)
	}
	<-told
	cancel()
	wants(t, "Watch", <-ended, context.Canceled)
	eventually(t, "the consumer is removed", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Consumers == 0
	})
}

// A bucket made by an operator, with more than the store asks for, is used.
func TestNATSStoreUsesABucketThatIsThere(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{JetStream: true})
	js := jetStreamOf(t, server.URL())
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
		Bucket: "shared", Storage: jetstream.MemoryStorage, LimitMarkerTTL: time.Minute, MaxBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	open := nats.New(nats.Options{URL: server.URL(), Bucket: "shared"})
	a, b := storeIn(t, open, "ward"), storeIn(t, open, "ward2")
	told := watch(t, a, "k")
	tells(t, told, "")
	r, err := a.Create(t.Context(), "k", []byte("v"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	tells(t, told, "v")
	holds(t, "created", a, "k", []byte("v"), r)
	_, err = b.Get(t.Context(), "k")
	wants(t, "Get in another namespace", err, backplane.ErrKeyNotFound)
	tells(t, told, "")
	eventually(t, "the server notes the end", func() bool {
		_, err := kv.Get(t.Context(), "ward.k")
		return errors.Is(err, jetstream.ErrKeyNotFound)
	})
	if r, err = a.Create(t.Context(), "k", []byte("again"), 0); err != nil {
		t.Fatal(err)
	}
	holds(t, "created again", a, "k", []byte("again"), r)
	tells(t, told, "again")
	if err = kv.Delete(t.Context(), "ward.k"); err != nil {
		t.Fatal(err)
	}
	tells(t, told, "")
}

// Nothing is left of what has ended or was deleted.
func TestNATSStoreIsSwept(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{JetStream: true})
	s := storeIn(t, nats.URL(server.URL()), "ward")
	for _, key := range []string{"a", "b", "c"} {
		r, err := s.Create(t.Context(), key, []byte("v"), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if key == "c" {
			_, err = s.Update(t.Context(), key, []byte("w"), time.Millisecond, r)
		} else {
			err = s.Expire(t.Context(), key, 100*time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stream, err := jetStreamOf(t, server.URL()).Stream(t.Context(), "KV_backplane-ward")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bucket is empty", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	})
}

// A server that is silent costs a call its time and no more, and what was written meanwhile is uncertain.
func TestNATSStoreOverAFrozenServer(t *testing.T) {
	server := natsserver.StartProcess(t, natsserver.Options{JetStream: true})
	o := quick()
	s, _ := storeNode(t, nats.URL(server.URL()), o).Store()
	r, err := s.Create(t.Context(), "k", []byte("v"), 0)
	if err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	began := time.Now()
	_, err = s.Update(t.Context(), "k", []byte("w"), 0, r)
	wants(t, "Update", err, backplane.ErrUnavailable) // it did not come so far
	_, err = s.Create(t.Context(), "new", bytes.Repeat([]byte("v"), backplane.MaxValue), 0)
	if !errors.Is(err, backplane.ErrUncertain) && !errors.Is(err, backplane.ErrUnavailable) {
		t.Errorf("Create: %v", err)
	}
	_, err = s.Get(t.Context(), "k")
	wants(t, "Get", err, backplane.ErrUnavailable)
	if took := time.Since(began); took > natsPatience/4 {
		t.Errorf("three calls took %v", took)
	}
	server.Thaw()
	eventually(t, "the value can be read again", func() bool {
		e, err := s.Get(t.Context(), "k")
		return err == nil && e.Revision == r
	})
}

// A bucket that somebody deletes is a store that has lost its memory.
func TestNATSStoreAfterItsBucketWasDeleted(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{JetStream: true})
	s := storeIn(t, nats.URL(server.URL()), "ward")
	ctx, js := t.Context(), jetStreamOf(t, server.URL())
	told := watch(t, s, "k")
	tells(t, told, "")
	var last backplane.Revision
	for what, next := range map[string]func() error{
		"Create": func() error { _, err := s.Create(ctx, "k", []byte("w"), 0); return err },
		"Get": func() error {
			_, err := s.Get(ctx, "k")
			wants(t, "Get", err, backplane.ErrKeyNotFound)
			return nil
		},
		"Update": func() error {
			_, err := s.Update(ctx, "k", []byte("w"), 0, last)
			wants(t, "Update", err, backplane.ErrConflict)
			return nil
		},
	} {
		var err error
		if last, err = s.Create(ctx, "k", []byte(what), 0); err != nil {
			t.Fatal(err)
		}
		tells(t, told, what)
		if err = js.DeleteStream(ctx, "KV_backplane-ward"); err != nil {
			t.Fatal(err)
		}
		if err = next(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if what == "Create" {
			tells(t, told, "w")
			e, err := s.Get(ctx, "k")
			if err != nil {
				t.Fatal(err)
			}
			wants(t, "Delete", s.Delete(ctx, "k", e.Revision), nil)
		}
		tells(t, told, "")
	}
}

// What another program, or a later version, keeps under a key is neither read nor overwritten.
func TestNATSStoreLeavesForeignValuesAlone(t *testing.T) {
	server := natsserver.Start(t, natsserver.Options{JetStream: true})
	s := storeIn(t, nats.URL(server.URL()), "ward")
	_, err := s.Get(t.Context(), "k")
	wants(t, "Get of nothing", err, backplane.ErrKeyNotFound)
	kv, err := jetStreamOf(t, server.URL()).KeyValue(t.Context(), "backplane-ward")
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{
		"future": "\x02\x01\x23\x45\x67\x89\xab\xcd\xef\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00value",
		"short":  "\x01", "empty": "", "text": "some text of another program, longer than a head",
	} {
		if _, err := kv.PutString(t.Context(), "ward."+key, value); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get(t.Context(), key)
		wants(t, "Get of "+key, err, backplane.ErrUnsupported)
		_, err = s.Update(t.Context(), key, nil, 0, 0x0123456789abcdef)
		wants(t, "Update of "+key, err, backplane.ErrUnsupported)
		wants(t, "Delete of "+key, s.Delete(t.Context(), key, 0x0123456789abcdef), backplane.ErrUnsupported)
		wants(t, "Expire of "+key, s.Expire(t.Context(), key, time.Hour), backplane.ErrUnsupported)
		_, err = s.Create(t.Context(), key, nil, 0)
		wants(t, "Create of "+key, err, backplane.ErrConflict)
		if e, err := kv.Get(t.Context(), "ward."+key); err != nil || string(e.Value()) != value {
			t.Errorf("%s is %q, %v now", key, e.Value(), err)
		}
	}
}

// natsStoreRights are what a user of a namespace needs for the store beside the rights for pub/sub, as documented.
func natsStoreRights(namespace string) []string {
	stream := "KV_backplane-" + namespace
	return []string{
		"$JS.API.STREAM.INFO." + stream, "$JS.API.STREAM.CREATE." + stream, "$JS.API.STREAM.MSG.GET." + stream,
		"$JS.API.CONSUMER.CREATE." + stream + ".>", "$KV.backplane-" + namespace + "." + namespace + ".>",
	}
}

// natsUser is a line for the server's configuration: a user that may publish on these subjects, and subscribe to its namespace.
func natsUser(name string, publish []string, subscribe string) string {
	return fmt.Sprintf(`user: %s, password: secret, permissions: {publish: ["%s"], subscribe: [%s]}`, name, strings.Join(publish, `", "`), subscribe)
}

// The documented permissions are enough, and what is missing is named at once: the server only complains.
func TestNATSStorePermissions(t *testing.T) {
	rights := append(natsStoreRights("ward"), "ward.>", "ward2.>")
	users := []string{natsUser("full", rights, `"ward.>"`)}
	without := func(name, right string) {
		users = append(users, natsUser(name, slices.DeleteFunc(slices.Clone(rights), func(r string) bool { return strings.Contains(r, right) }), `"ward.>"`))
	}
	without("noinfo", ".INFO.")
	without("nocreate", "STREAM.CREATE.")
	without("noget", ".GET.")
	without("nowatch", ".CONSUMER.")
	without("nowrite", "$KV.")
	users = append(users, natsUser("noinbox", rights, `"ward.s.>"`), natsUser("other", rights, `"ward.>", "ward2.>"`))
	server := natsserver.Start(t, natsserver.Options{JetStream: true, Users: users})
	ctx := t.Context()
	storeAs := func(name string) backplane.Store { return storeIn(t, nats.URL(server.URLAs(name, "secret")), "ward") }
	refused := func(what string, err error, says string) {
		t.Helper()
		wants(t, what, err, backplane.ErrDenied)
		if err != nil && (!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, does not say %q", what, err, says)
		}
	}

	_, err := storeAs("nocreate").Get(ctx, "secret")
	refused("no bucket", err, "$JS.API.STREAM.CREATE.KV_backplane-ward")
	full := storeAs("full")
	r, err := full.Create(ctx, "secret", []byte("v"), time.Hour)
	wants(t, "Create", err, nil)
	if r, err = full.Update(ctx, "secret", []byte("w"), time.Hour, r); err != nil {
		t.Error(err)
	}
	wants(t, "Expire", full.Expire(ctx, "secret", time.Hour), nil)
	holds(t, "all is permitted", full, "secret", []byte("w"), r)
	tells(t, watch(t, full, "secret"), "w")
	for _, name := range []string{"nocreate", "nowatch", "nowrite"} {
		s := storeAs(name)
		holds(t, name, s, "secret", []byte("w"), r)
		tells(t, watch(t, s, "secret"), "w")
	}
	_, err = storeAs("noinfo").Get(ctx, "secret")
	refused("no INFO", err, "$JS.API.STREAM.INFO.KV_backplane-ward")
	_, err = storeAs("noget").Get(ctx, "secret")
	refused("no GET", err, "$JS.API.STREAM.MSG.GET.KV_backplane-ward")
	refused("no GET", storeAs("noget").Watch(ctx, "secret", nil), "$JS.API.STREAM.MSG.GET.KV_backplane-ward")
	nowrite, noinbox := storeAs("nowrite"), storeAs("noinbox")
	_, err = nowrite.Create(ctx, "secret", nil, 0)
	refused("Create", err, "$KV.backplane-ward.ward.>")
	refused("Delete", nowrite.Delete(ctx, "secret", r), "$KV.backplane-ward.ward.>")
	for range 2 { // the server complains the first time only
		_, err = noinbox.Get(ctx, "secret")
		refused("no inbox", err, "ward._inbox.>")
	}
	_, err = storeIn(t, nats.URL(server.URLAs("other", "secret")), "ward2").Get(ctx, "secret")
	refused("another namespace", err, "$JS.API.STREAM.INFO.KV_backplane-ward2")
	shared := storeIn(t, nats.New(nats.Options{URL: server.URLAs("other", "secret"), Bucket: "backplane-ward"}), "ward2")
	_, err = shared.Create(ctx, "secret", nil, 0)
	refused("another namespace in the same bucket", err, "$KV.backplane-ward.ward2.>")
	wants(t, "Delete", full.Delete(ctx, "secret", r), nil)
}

// In a cluster a bucket of three outlives the server that leads it, a bucket of one waits for its server, and neither ever says
// that a value is not there that only cannot be read.
func TestNATSStoreInAClusterThatLosesAServer(t *testing.T) {
	for _, replicas := range []int{3, 1} {
		t.Run(strconv.Itoa(replicas), func(t *testing.T) {
			c := jetStreamCluster(t, natsserver.Options{})
			ctx := t.Context()
			connected := func(to *natsserver.Server) backplane.Store {
				return storeIn(t, nats.New(nats.Options{URL: to.URL(), Replicas: replicas}), "ward")
			}
			first := connected(c.Servers[0])
			var r backplane.Revision
			var err error
			eventually(t, "the new bucket to be known at this server", func() bool {
				r, err = first.Create(ctx, "k", []byte("v"), time.Hour)
				return !errors.Is(err, backplane.ErrUnavailable)
			})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := jetStreamOf(t, c.Servers[0].URL()).Stream(ctx, "KV_backplane-ward")
			if err != nil {
				t.Fatal(err)
			}
			info := stream.CachedInfo()
			if info.Config.Replicas != replicas {
				t.Fatalf("the bucket has %d replicas", info.Config.Replicas)
			}
			leader := slices.IndexFunc(c.Servers, func(s *natsserver.Server) bool { return s.Addr == info.Cluster.Leader })
			s := connected(c.Servers[(leader+1)%3])
			holds(t, "before", s, "k", []byte("v"), r)
			c.Servers[leader].Stop()
			if replicas == 1 {
				_, err = s.Get(ctx, "k")
				wants(t, "Get without the only server", err, backplane.ErrUnavailable)
				if err = c.Servers[leader].TryRestart(); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the value can be read again", func() bool {
				e, err := s.Get(ctx, "k")
				if err != nil && !errors.Is(err, backplane.ErrUnavailable) {
					t.Fatalf("Get: %v", err)
				}
				return err == nil && e.Revision == r && string(e.Value) == "v"
			})
			var next backplane.Revision
			eventually(t, "the value can be replaced again", func() bool {
				next, err = s.Update(ctx, "k", []byte("w"), 0, r)
				if err != nil && !errors.Is(err, backplane.ErrUnavailable) {
					t.Fatalf("Update: %v", err)
				}
				return err == nil
			})
			holds(t, "afterwards", connected(c.Servers[(leader+2)%3]), "k", []byte("w"), next)
		})
	}
}
