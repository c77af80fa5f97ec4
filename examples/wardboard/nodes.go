package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/dial"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/nats/embedded"
	"github.com/gobackplane/backplane/transport"
)

// namespace keeps ward boards apart from what else is on the broker, unless the URL names another one.
const namespace = "wardboard"

// keyVariable names the variable of the environment with the key of resume tokens, from 32 characters on; make one with
// "openssl rand -hex 32". Without it each process has a key of its own, and its clients come back to that process only.
const keyVariable = "WARDBOARD_KEY"

// seats opens the nodes of the instances of this process.
type seats struct {
	url  string
	open func() transport.Opener
	o    backplane.Options

	// key is that of the instances' resume tokens: equal for all, or what one makes the others refuse.
	key []byte

	broker *inmem.Broker // that all nodes meet on; nil where it is not in this process, or each node has one of its own
}

// embeddedScheme is that of a backplane that is a NATS server inside each instance.
const embeddedScheme = "nats+embedded"

func embeds(rawurl string) bool {
	scheme, _, _ := strings.Cut(rawurl, ":")
	return strings.EqualFold(scheme, embeddedScheme)
}

// newSeats reads the backplane's URL; it does no I/O.
func newSeats(rawurl string, logger *slog.Logger) (*seats, error) {
	s := &seats{url: rawurl, o: backplane.Options{Logger: logger}, key: []byte(os.Getenv(keyVariable))}
	if len(s.key) == 0 {
		s.key = []byte(rand.Text() + rand.Text())
	}
	if rawurl == noBackplane {
		// A broker for each instance: no two of them ever meet. This is a hub server that has no backplane.
		s.open = func() transport.Opener { return inmem.NewBroker().Opener() }
		return s, nil
	}
	// One opener for all instances: with "inmem:" that is one broker, on which they meet.
	inMemory := dial.With("inmem", func(u string) transport.Opener {
		if u != defaultBackplane {
			return inmem.URL(u) // it says what is wrong
		}
		s.broker = inmem.NewBroker()
		return s.broker.Opener()
	})
	// With "nats+embedded:" it is one server in this process; a row of processes that embed theirs has -instances 1.
	opener, o, err := dial.Parse(rawurl, s.o, inMemory, dial.With(embeddedScheme, embedded.URL))
	if err != nil {
		return nil, wrongUse("backplane", "%v", reason(err))
	}
	s.open, s.o = func() transport.Opener { return opener }, o
	if s.o.Namespace == "" {
		s.o.Namespace = namespace
	}
	// For somebody at a terminal a wrong port is better told at once. A real server leaves this out: it starts without the
	// broker, says in its health check that it is down, and connects when the broker comes.
	s.o.RequireBroker = true
	return s, nil
}

// node opens the node of an instance. The label is for people who look at the list of members.
func (s *seats) node(ctx context.Context, label string) (*backplane.Node, error) {
	o := s.o
	if o.Label == "" {
		o.Label = label
	}
	n, err := backplane.Open(ctx, s.open(), o)
	switch {
	case errors.Is(err, backplane.ErrInvalidOption):
		return nil, wrongUse("backplane", "%v", reason(err))
	case err != nil:
		return nil, fmt.Errorf("-backplane %s: %w", s.name(), reason(err))
	}
	return n, nil
}

// name is the URL without what could be a secret.
func (s *seats) name() string {
	u, err := url.Parse(s.url)
	if err != nil || u.Host == "" {
		scheme, _, isURL := strings.Cut(s.url, ":")
		if isURL {
			scheme += ":"
		}
		return scheme
	}
	return u.Scheme + "://" + u.Host
}

// reason takes off the "backplane: open: " that the flag's name replaces.
func reason(err error) error {
	if e, ok := errors.AsType[*backplane.Error](err); ok {
		return e.Err
	}
	return err
}
