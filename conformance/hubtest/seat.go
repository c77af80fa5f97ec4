package hubtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/gobackplane/backplane/internal/faultnet"
)

// seat is one opened instance.
type seat struct {
	w         *world
	name      string
	namespace string
	link      *faultnet.Link
	node      Node

	mu     sync.Mutex
	hubs   map[string]*hub // guarded by mu
	closed bool            // guarded by mu, as what follows
	cut    bool
}

// hub is a hub of a name on an instance.
type hub struct {
	*seat

	raw Hub
	of  string // its name

	gaps   []gapCall // what the gap hook was called with; guarded by the world's mu
	states []string  // what the state hook was called with; guarded by the world's mu
}

// gapCall is a call of the gap hook.
type gapCall struct {
	cause string
	ids   []string
}

func (s *seat) open() {
	err := s.w.call(s, nil, "Open", func(ctx context.Context) (string, error) {
		var err error
		s.node, err = s.w.suite.open(ctx, s.instance())
		return "", err
	})
	if err != nil {
		s.w.fatalf("%s could not be opened: %w", s.name, err)
	}
}

// hub returns the hub of a name, which it makes at the first call.
func (s *seat) hub(name string) *hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.hubs[name]; h != nil {
		return h
	}
	h := &hub{seat: s, of: name}
	hooks := Hooks{
		Gap: func(cause string, ids []string) {
			s.w.note(nil, "%s: the gap hook is called: %s, %d connections", s.name, cause, len(ids))
			s.w.mu.Lock()
			defer s.w.mu.Unlock()
			h.gaps = append(h.gaps, gapCall{cause, ids})
			s.w.change()
		},
		State: func(state string) {
			s.w.note(nil, "%s: the state hook is called: %s", s.name, state)
			s.w.mu.Lock()
			defer s.w.mu.Unlock()
			h.states = append(h.states, state)
			s.w.change()
		},
	}
	if s.w.property.Contract == resumeChapter {
		hooks.Restore = func(user string, groups []string) []string { return s.restores(user, groups) }
	}
	var err error
	s.labelled(func() { h.raw, err = s.node.Hub(name, hooks) })
	if err != nil {
		s.w.fatalf("%s could not make the hub %q: %w", s.name, name, err)
	}
	s.hubs[name] = h
	return h
}

// names returns the names of the hubs made so far.
func (s *seat) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.hubs))
}

// labelled runs f so that every goroutine it starts is known as this instance's.
func (s *seat) labelled(f func()) {
	pprofDo(s.w.ctx, s.w.name+"/"+s.name, f)
}

// connect connects a client to the ward of an instance and puts it into groups.
func (s *seat) connect(o ConnectOptions, groups ...string) *client {
	return s.hub(ward).connect(o, groups...)
}

// member connects an anonymous client.
func (s *seat) member(groups ...string) *client { return s.connect(ConnectOptions{}, groups...) }

// user connects a client of a user.
func (s *seat) user(user string, groups ...string) *client {
	return s.connect(ConnectOptions{User: user}, groups...)
}

// answering connects a client that answers at once what it is asked.
func (s *seat) answering(answer func(request string) (string, error)) *client {
	h := s.hub(ward)
	c := s.w.newClient(h, "")
	c.answer = answer
	if err := s.w.connect(c, ConnectOptions{}); err != nil {
		s.w.failf([]*client{c}, "Connect of %s failed: %w", c.name, err)
	}
	return c
}

func (h *hub) connect(o ConnectOptions, groups ...string) *client {
	c := h.w.newClient(h, o.User)
	if err := h.w.connect(c, o); err != nil {
		h.w.failf([]*client{c}, "Connect of %s failed: %w", c.name, err)
	}
	for _, g := range groups {
		c.join(g)
	}
	return c
}

// works reports whether the instance is open and reachable.
func (s *seat) works() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && !s.cut
}

// close closes the instance's hubs and then its node, which must succeed.
func (s *seat) close() {
	ctx, cancel := s.w.patient()
	defer cancel()
	s.shut(ctx)
	s.w.check()
}

func (s *seat) shut(ctx context.Context) {
	s.mu.Lock()
	hubs, closed := make([]*hub, 0, len(s.hubs)), s.closed
	for _, h := range s.hubs {
		hubs = append(hubs, h)
	}
	s.closed = true
	s.mu.Unlock()
	if closed || s.node == nil {
		return
	}
	err := s.w.callWith(ctx, s, nil, "Close", func(ctx context.Context) (string, error) {
		var errs []error
		for _, h := range hubs {
			errs = append(errs, h.raw.Close(ctx))
		}
		return "", errors.Join(append(errs, s.node.Close(ctx))...)
	})
	if err != nil {
		s.w.fail(&Failure{Witness: fmt.Sprintf("%s: Close failed: %v.", s.name, err), err: err})
	}
}

// finish closes the instance at the end of its world, if nobody has.
func (s *seat) finish(ctx context.Context) {
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	if cut {
		s.heal()
	}
	s.shut(ctx)
}
