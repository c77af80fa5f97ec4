package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

// soon bounds what takes milliseconds, or the seconds in which a server notices that a route is dead and makes a new one.
const soon = 30 * time.Second

// within waits for a claim to become true.
func within(t *testing.T, what string, claim func() bool) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !claim() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", soon, what)
		}
	}
}

// starting starts a server as an opener does.
func starting(t *testing.T, o Options, change ...func(*settings)) (*instance, error) {
	t.Helper()
	if o.Secret == "" && o.Listen != "" {
		o.Secret = "secret"
	}
	set, err := o.settings()
	if err != nil {
		return nil, err
	}
	for _, c := range change {
		c(set)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	return start(ctx, set, slog.New(slog.DiscardHandler))
}

func started(t *testing.T, o Options, change ...func(*settings)) *instance {
	t.Helper()
	i, err := starting(t, o, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.stop)
	return i
}

// reaches reports whether one server answers what is asked through another one.
func reaches(from, to *instance) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := from.here.conn.RequestWithContext(ctx, hereSubject+to.mesh.id, nil)
	return err == nil
}

// meshed waits until each of the servers reaches all others.
func meshed(t *testing.T, all ...*instance) {
	t.Helper()
	for _, a := range all {
		for _, b := range all {
			within(t, "a route from "+a.server.Name()+" to "+b.server.Name(), func() bool { return a == b || reaches(a, b) })
		}
	}
}

// All instances have the same list, in which each of them is as well; whoever starts finds those that run at once.
func TestInstancesWithOneListMeetAtOnce(t *testing.T) {
	peers := []string{FreeAddress(t), FreeAddress(t), FreeAddress(t)}
	var all []*instance
	for _, listen := range peers {
		i := started(t, Options{Listen: listen, Peers: peers})
		for _, other := range all {
			if !reaches(i, other) {
				t.Errorf("%s does not reach %s when it has started", i.server.Name(), other.server.Name())
			}
		}
		all = append(all, i)
	}
	meshed(t, all...)
	for _, i := range all {
		if n := i.server.NumRoutes(); n != 2 {
			t.Errorf("%s has %d routes, want 2", i.server.Name(), n)
		}
	}
}

// Three that start at the same moment find each other too.
func TestInstancesThatStartTogetherMeet(t *testing.T) {
	peers := []string{FreeAddress(t), FreeAddress(t), FreeAddress(t)}
	all := make([]*instance, len(peers))
	errs := make(chan error)
	for n, listen := range peers {
		go func() {
			var err error
			all[n], err = starting(t, Options{Listen: listen, Peers: peers})
			errs <- err
		}()
	}
	for range peers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for _, i := range all {
		if i != nil {
			t.Cleanup(i.stop)
		}
	}
	if !t.Failed() {
		meshed(t, all...)
	}
}

// A name may stand for many addresses, and for others a moment later.
func TestNameOfManyAddresses(t *testing.T) {
	addr := []string{FreeAddress(t), FreeAddress(t), FreeAddress(t)}
	answers := make(chan []string, 1)
	answers <- addr[:1]
	resolve := func(s *settings) {
		s.resolve = func(_ context.Context, peer string) ([]string, error) {
			if peer != "hub.example:6222" {
				t.Errorf("asked for %s", peer)
			}
			addrs := <-answers
			answers <- addrs
			return addrs, nil
		}
	}
	at := func(listen string) *instance {
		return started(t, Options{Listen: listen, Peers: []string{"hub.example"}}, resolve)
	}
	a := at(addr[0])
	<-answers
	answers <- addr[:2]
	b := at(addr[1])
	<-answers
	answers <- addr
	c := at(addr[2])
	for _, other := range []*instance{a, b} {
		if !reaches(c, other) {
			t.Error("the third does not reach one of the others when it has started")
		}
	}
	meshed(t, a, b, c)
}

// wired starts three instances which reach each other through nothing but the relays between any two.
func wired(t *testing.T, peersOf func(from int) []int) (all []*instance, relays [3][3]*relay) {
	t.Helper()
	var listen [3]string
	for n := range listen {
		listen[n] = FreeAddress(t)
	}
	for from := range 3 {
		for to := range 3 {
			if from != to {
				relays[from][to] = newRelay(t, listen[to])
			}
		}
	}
	for from := range 3 {
		o := Options{Listen: listen[from], Advertise: FreeAddress(t)}
		for _, to := range peersOf(from) {
			o.Peers = append(o.Peers, relays[from][to].addr)
		}
		all = append(all, started(t, o))
	}
	meshed(t, all...)
	return all, relays
}

func everyone(from int) []int {
	return slices.DeleteFunc([]int{0, 1, 2}, func(n int) bool { return n == from })
}

// Each pair gets its route back after a cut, and after an end that fell silent, also where only one of the two can
// reach the other.
func TestRoutesComeBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		peers func(from int) []int
		fail  func(*relay)
	}{
		"cut":               {everyone, func(r *relay) { r.Cut() }},
		"hung":              {everyone, func(r *relay) { r.Blackhole() }},
		"cut, one-sided":    {func(from int) []int { return everyone(from)[:from] }, func(r *relay) { r.Cut() }},
		"reset, one-sided":  {func(from int) []int { return everyone(from)[from:] }, func(r *relay) { r.Reset() }},
		"silent, one-sided": {func(from int) []int { return everyone(from)[:from] }, func(r *relay) { r.Blackhole() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, relays := wired(t, c.peers)
			for a := range 3 {
				for b := range a {
					before := routeIDs(all[a], all[b])
					c.fail(relays[a][b])
					c.fail(relays[b][a])
					within(t, "the loss of a route", func() bool { return !slices.Equal(before, routeIDs(all[a], all[b])) })
					relays[a][b].Heal()
					relays[b][a].Heal()
					meshed(t, all...)
				}
			}
		})
	}
}

// routeIDs are the routes that one server has with another one.
func routeIDs(i, to *instance) (ids []uint64) {
	for _, r := range i.mesh.liveRoutes() {
		if r.RemoteID == to.mesh.id {
			ids = append(ids, r.Rid)
		}
	}
	return ids
}

// Two that learned of each other from a third get their route back, although neither has the other in its list.
func TestRoutesThatWereLearnedComeBack(t *testing.T) {
	var listen [3]string
	var front [3]*relay
	for n := range listen {
		listen[n] = FreeAddress(t)
		front[n] = newRelay(t, listen[n])
	}
	var all []*instance
	for n := range listen {
		o := Options{Listen: listen[n], Advertise: front[n].addr}
		if n > 0 {
			o.Peers = []string{front[0].addr}
		}
		all = append(all, started(t, o))
	}
	meshed(t, all...)
	for range 2 {
		before := routeIDs(all[1], all[2])
		front[1].Cut()
		front[2].Cut()
		within(t, "the loss of the route", func() bool { return len(routeIDs(all[1], all[2])) == 0 })
		front[1].Heal()
		front[2].Heal()
		meshed(t, all...)
		if slices.Equal(before, routeIDs(all[1], all[2])) {
			t.Error("the route is still the old one")
		}
	}
}

// What the server has taken before it is stopped reaches its peers.
func TestWhatWasTakenReachesPeers(t *testing.T) {
	peers := []string{FreeAddress(t), FreeAddress(t)}
	a := started(t, Options{Listen: peers[0], Peers: peers})
	const rounds, frames = 30, 50
	heard := make(chan *natsgo.Msg, rounds*frames)
	if _, err := a.here.conn.ChanSubscribe("ward.x", heard); err != nil {
		t.Fatal(err)
	}
	for range rounds {
		b, err := starting(t, Options{Listen: peers[1], Peers: peers})
		if err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, 64<<10)
		for range frames {
			if err := b.here.conn.Publish("ward.x", payload); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.here.conn.FlushTimeout(soon); err != nil {
			t.Fatal(err)
		}
		b.stop()
	}
	within(t, "all that was published", func() bool { return len(heard) == rounds*frames })
}

// What a peer, or this machine, refuses is an error at once that names the setting.
func TestRefusedAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, stranger := newAuthority(t, dir, "ca"), newAuthority(t, dir, "stranger")
	withTLS := func(o Options, by authority, name string) Options {
		o.CAFile = ca.certFile
		o.CertFile, o.KeyFile = by.issue(t, name)
		return o
	}
	for name, c := range map[string]struct {
		change func(first, second *Options)
		says   []string
	}{
		"name":            {func(a, b *Options) { a.Name, b.Name = "hub-0", "hub-0" }, []string{"Name", "hub-0"}},
		"cluster":         {func(a, b *Options) { a.Cluster, b.Cluster = "red", "blue" }, []string{"Cluster", "red", "blue"}},
		"secret":          {func(a, b *Options) { b.Secret = "hush" }, []string{"Secret"}},
		"address":         {func(a, b *Options) { b.Listen = a.Listen }, []string{"Listen", "in use"}},
		"interface":       {func(a, b *Options) { b.Listen = "192.0.2.1:6222" }, []string{"Listen"}},
		"only first TLS":  {func(a, b *Options) { *a = withTLS(*a, ca, "127.0.0.1") }, []string{"CertFile"}},
		"only second TLS": {func(a, b *Options) { *b = withTLS(*b, ca, "127.0.0.1") }, []string{"CertFile"}},
		"our certificate": {func(a, b *Options) { *a, *b = withTLS(*a, ca, "127.0.0.1"), withTLS(*b, stranger, "127.0.0.1") }, []string{"CertFile", "does not accept"}},
		"its certificate": {func(a, b *Options) { *a, *b = withTLS(*a, stranger, "127.0.0.1"), withTLS(*b, ca, "127.0.0.1") }, []string{"CAFile"}},
		"its name":        {func(a, b *Options) { *a, *b = withTLS(*a, ca, "127.0.0.9"), withTLS(*b, ca, "127.0.0.1") }, []string{"ServerName", "127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peers := []string{FreeAddress(t), FreeAddress(t)}
			first, second := Options{Listen: peers[0], Secret: "secret"}, Options{Listen: peers[1], Peers: peers[:1], Secret: "secret"}
			c.change(&first, &second)
			started(t, first)
			begun := time.Now()
			i, err := starting(t, second)
			if err == nil {
				i.stop()
				t.Fatal("it has started")
			}
			if !errors.Is(err, transport.ErrDenied) || !errors.Is(err, transport.ErrInvalidOption) {
				t.Errorf("%v is not ErrDenied and ErrInvalidOption", err)
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("%q shows the secret", err)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v to know", took)
			}
		})
	}
}

// Certificates that fit make routes with TLS, by the names of the peers or by the one name that is set.
func TestRoutesWithTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	for name, c := range map[string]struct{ cert, serverName string }{
		"by address": {"127.0.0.1", ""},
		"by name":    {"hub.example", "hub.example"},
	} {
		t.Run(name, func(t *testing.T) {
			peers := []string{FreeAddress(t), FreeAddress(t)}
			var all []*instance
			for _, listen := range peers {
				o := Options{Listen: listen, Peers: peers, CAFile: ca.certFile, ServerName: c.serverName}
				o.CertFile, o.KeyFile = ca.issue(t, c.cert)
				all = append(all, started(t, o))
			}
			meshed(t, all...)
			if all[0].server.NumRoutes() != 1 {
				t.Error("there is more, or less, than one route")
			}
		})
	}
}

// The server opens no port but the one for routes, and none at all without peers.
func TestOpensNoOtherPort(t *testing.T) {
	for name, o := range map[string]Options{"alone": {}, "with peers": {Listen: FreeAddress(t)}} {
		before := listeningPorts(t)
		i := started(t, o)
		var added []netip.AddrPort
		for _, port := range listeningPorts(t) {
			if !slices.Contains(before, port) {
				added = append(added, port)
			}
		}
		want := []netip.AddrPort(nil)
		if o.Listen != "" {
			want = append(want, netip.MustParseAddrPort(o.Listen))
		}
		if !slices.Equal(added, want) || i.server.Addr() != nil {
			t.Errorf("%s: it listens on %v, want %v", name, added, want)
		}
	}
}

// listeningPorts are those that this process listens on, IPv4.
func listeningPorts(t *testing.T) (ports []netip.AddrPort) {
	t.Helper()
	mine := map[string]bool{}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		t.Log("no /proc: what the server says of itself has to do")
		return nil
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			mine[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !mine[f[9]] {
				continue
			}
			var a, b, c, d, port int
			if n, _ := fmt.Sscanf(f[1], "%02X%02X%02X%02X:%04X", &d, &c, &b, &a, &port); n == 5 {
				ports = append(ports, netip.MustParseAddrPort(fmt.Sprintf("%d.%d.%d.%d:%d", a, b, c, d, port)))
			}
		}
	}
	return ports
}
