package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/dial"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// target is the backplane that a URL names: our engine over one of our transports.
type target struct {
	url     string
	name    string // "redis"; nothing of the URL that could be secret
	options backplane.Options

	mu      sync.Mutex
	brokers map[string]*inmem.Broker // by world; guarded by mu
}

// newTarget reads a URL. It performs no I/O.
func newTarget(url string) (*target, error) {
	t := &target{url: url, brokers: map[string]*inmem.Broker{}}
	_, options, err := dial.Parse(url, backplane.Options{}, t.schemes(conformance.Instance{})...)
	if err != nil {
		return nil, err
	}
	scheme, _, _ := strings.Cut(url, ":")
	t.name, t.options = strings.ToLower(scheme), options
	if t.name == "tls" { // which says nothing of NATS
		t.name = "nats"
	}
	return t, nil
}

// schemes are those of package dial, with the instance's dialer, and an in-memory broker for each of the suite's worlds.
func (t *target) schemes(in conformance.Instance) []dial.Scheme {
	overRedis := func(u string) transport.Opener { return redis.New(redis.Options{URL: u, Dialer: in.Dial}) }
	overNATS := func(u string) transport.Opener { return nats.New(nats.Options{URL: u, Dialer: in.Dial}) }
	inMemory := func(u string) transport.Opener {
		check := inmem.URL(u)
		return func(c transport.Config) (transport.Transport, error) {
			if _, err := check(c); err != nil {
				return nil, err
			}
			return t.broker(in.World).Opener()(c)
		}
	}
	return []dial.Scheme{
		dial.With("inmem", inMemory),
		dial.With("nats", overNATS), dial.With("tls", overNATS),
		dial.With("redis", overRedis), dial.With("rediss", overRedis),
	}
}

// transport opens an instance's transport.
func (t *target) transport(in conformance.Instance) transport.Opener {
	open, _, err := dial.Parse(t.url, backplane.Options{}, t.schemes(in)...)
	if err != nil {
		return func(transport.Config) (transport.Transport, error) { return nil, err }
	}
	return open
}

// try opens one node and closes it, so that what is wrong with the URL, the password or the broker is told once and at
// once, instead of by every property.
func (t *target) try(ctx context.Context, patience time.Duration) error {
	const namespace = "ct-try"
	o := t.options
	o.Namespace, o.RequireBroker = namespace, true
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	node, err := backplane.Open(ctx, t.transport(conformance.Instance{World: namespace}), o)
	if err != nil {
		return fmt.Errorf("no backplane to put to the test: %w", err)
	}
	return node.Close(ctx)
}

func (t *target) broker(world string) *inmem.Broker {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.brokers[world] == nil {
		t.brokers[world] = inmem.NewBroker()
	}
	return t.brokers[world]
}

// hooks are what the suite can do to a target beside dialing.
func (t *target) hooks() []conformance.Option {
	options := []conformance.Option{conformance.Claims(conformance.AbilityCluster, conformance.AbilityHealth)} // what every node is
	if t.options.MaxPayload > 0 {
		options = append(options, conformance.MaxPayload(t.options.MaxPayload))
	}
	if t.name != "inmem" {
		return options
	}
	return append(options, conformance.Inject(t.faults), conformance.Broker(
		func(_ context.Context, world string) error { t.broker(world).Stop(); return nil },
		func(_ context.Context, world string) error { t.broker(world).Start(); return nil },
	))
}

// faults are those of the in-memory broker.
func (t *target) faults(in conformance.Instance, bp backplane.Backplane) conformance.Faults {
	n, ours := bp.(*backplane.Node)
	if !ours {
		return conformance.Faults{}
	}
	b := t.broker(in.World)
	return conformance.Faults{
		Cut:    func() { b.Cut(n.ID()) },
		Hang:   func() { b.Hang(n.ID()) },
		Deafen: func() { b.Deafen(n.ID()) },
		Mute:   func() { b.Mute(n.ID()) },
		Lose:   func() { b.Drop(n.ID(), math.MaxInt, nil) },
		Heal:   func() { b.Heal(n.ID()) },
	}
}
