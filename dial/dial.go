// Package dial opens a node by URL. It is the one place that knows all transports; a program that always uses the same
// one imports that instead and leaves the others out of its binary.
//
//	node, err := dial.URL(ctx, os.Getenv("BACKPLANE_URL"), backplane.Options{})
//
// The scheme picks the transport: inmem, nats, tls (NATS over TLS), redis, rediss (Redis over TLS), and those passed in.
// What else a URL may hold is the transport's to say. In addition every plain option of a node can stand in the query under
// its own name:
//
//	rediss://app:PASSWORD@redis.example:6379?namespace=ward&probeInterval=500ms
//	nats://TOKEN@a.example,b.example?namespace=ward
//
// User, password and token are percent-encoded. No error of this package shows a part of the URL that could be a secret.
package dial

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/nats"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// Scheme is a URL scheme and the transport that it picks. Make one with [With].
type Scheme struct {
	name string
	open func(u string) transport.Opener
}

// With makes a scheme for [URL] and [Parse], so that transports from elsewhere can be picked by URL too:
//
//	node, err := dial.URL(ctx, u, backplane.Options{}, dial.With("pulsar", pulsar.URL))
//
// The function gets the URL without the options of the node, its scheme in lower case, otherwise as it was written; it
// does no I/O, and reports what is wrong with the URL, without quoting it, when its Opener is called. A name is a letter,
// then letters, digits, '+', '-' and '.'; case does not matter. One that is built in, or given before, is replaced.
func With(scheme string, open func(u string) transport.Opener) Scheme {
	return Scheme{name: strings.ToLower(scheme), open: open}
}

// builtIn returns the schemes that need not be passed in.
func builtIn() []Scheme {
	return []Scheme{
		With("inmem", inmem.URL),
		With("nats", nats.URL),
		With("tls", nats.URL),
		With("redis", redis.URL),
		With("rediss", redis.URL),
	}
}

// URL opens a node on the transport that the URL's scheme picks. It is [Parse] followed by [backplane.Open]; see there
// for the context and for what an unreachable broker means. Close the node with its Close. A URL that is wrong gives an
// error before any I/O, a *[backplane.Error] that wraps [backplane.ErrInvalidOption].
func URL(ctx context.Context, rawurl string, o backplane.Options, schemes ...Scheme) (*backplane.Node, error) {
	open, o, err := Parse(rawurl, o, schemes...)
	if err != nil {
		return nil, err
	}
	return backplane.Open(ctx, open, o)
}

// Parse returns what [backplane.Open] takes: an opener for the URL's transport, and o with the options that stand in
// the URL's query. An option that is set in both is an error. It does no I/O. The opener may be used for any number of
// nodes; with "inmem:" they all meet on one broker. Faults that only the transport can see, an unknown parameter for
// example, are errors of the opener, and so of Open.
//
// Errors are *[backplane.Error] and wrap [backplane.ErrInvalidOption]. They say what to write instead.
func Parse(rawurl string, o backplane.Options, schemes ...Scheme) (transport.Opener, backplane.Options, error) {
	open, o, err := parse(rawurl, o, slices.Concat(builtIn(), schemes))
	if err != nil {
		return nil, backplane.Options{}, &backplane.Error{Op: "open", Err: err}
	}
	return open, o, nil
}

func parse(rawurl string, o backplane.Options, schemes []Scheme) (transport.Opener, backplane.Options, error) {
	known := make(map[string]func(string) transport.Opener)
	for _, s := range schemes {
		if !isScheme(s.name) || s.open == nil {
			return nil, o, invalid("a scheme was passed in without function, or with the name %q, which is not one", s.name)
		}
		known[s.name] = s.open
	}
	if err := checkConnectionString(rawurl, o.Namespace != ""); err != nil {
		return nil, o, err
	}
	u, err := split(rawurl)
	if err != nil {
		return nil, o, err
	}
	open := known[u.scheme]
	if open == nil {
		return nil, o, unknownScheme(u, slices.Sorted(maps.Keys(known)))
	}
	if err = u.check(); err != nil {
		return nil, o, err
	}
	own, err := u.takeOptions(&o)
	if err != nil {
		return nil, o, err
	}
	opener := open(own)
	if opener == nil {
		return nil, o, invalid("the function of scheme %q returned no Opener", u.scheme)
	}
	return opener, o, nil
}
