package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/gobackplane/backplane"
)

// farm is what one process runs: a row of instances behind a balancer, and beside it the same row without a backplane
// (or with one, if the first has none), so that the page can show the difference. With one instance there is neither a
// balancer nor a second row: it listens itself.
type farm struct {
	url       string
	about     string // for people
	instances []*instance
	balancers []*balancer
	front     *server // serves the balancers; nil with one instance
}

// The paths of the second row.
const (
	pathWithout = "/without/"
	pathWith    = "/with/"
)

// startFarm starts what the command line asks for. On error nothing is left running.
func startFarm(ctx context.Context, c config, stderr io.Writer) (*farm, error) {
	f := &farm{}
	if err := f.start(ctx, c, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = f.close(closing) // the first error is the one to tell
		return nil, err
	}
	return f, nil
}

func (f *farm) start(ctx context.Context, c config, log *slog.Logger) error {
	seats, err := newSeats(c.backplane, log)
	if err != nil {
		return err
	}
	if c.instances == 1 {
		f.about = "one instance, backplane " + seats.name()
		in, startErr := f.startInstance(ctx, seats, "", c.listen, "")
		if startErr != nil {
			return startErr
		}
		f.url = in.url
		return nil
	}

	f.about = fmt.Sprintf("%d instances, backplane %s", c.instances, seats.name())
	mux := http.NewServeMux()
	switch {
	case c.check:
		err = f.startRow(ctx, mux, seats, c.instances, "/", "")
	case c.backplane == noBackplane:
		err = f.startRows(ctx, mux, seats, defaultBackplane, c.instances, pathWith)
	default:
		err = f.startRows(ctx, mux, seats, noBackplane, c.instances, pathWithout)
	}
	if err != nil {
		return err
	}
	l, err := listen(ctx, c.listen)
	if err != nil {
		return err
	}
	f.url = "http://" + l.Addr().String()
	f.front = serveOn(l, mux)
	return nil
}

// startRows starts a row on / and the one to compare it with on another path.
func (f *farm) startRows(ctx context.Context, mux *http.ServeMux, first *seats, second string, n int, path string) error {
	if err := f.startRow(ctx, mux, first, n, "/", path); err != nil {
		return err
	}
	seats, err := newSeats(second, first.o.Logger)
	if err != nil {
		return err
	}
	return f.startRow(ctx, mux, seats, n, path, "/")
}

// startRow starts n instances, each an HTTP server on a port of its own, as they would be on hosts of their own, and the
// balancer in front of them.
func (f *farm) startRow(ctx context.Context, mux *http.ServeMux, s *seats, n int, path, other string) error {
	var urls []string
	for i := range n {
		in, err := f.startInstance(ctx, s, string(rune('A'+i)), "127.0.0.1:0", other)
		if err != nil {
			return err
		}
		urls = append(urls, in.url)
	}
	b, err := newBalancer(urls)
	if err != nil {
		return err
	}
	f.balancers = append(f.balancers, b)
	mux.Handle(path, http.StripPrefix(path[:len(path)-1], b))
	return nil
}

// startInstance starts one instance. It is called after its address if it has no name.
func (f *farm) startInstance(ctx context.Context, s *seats, name, address, other string) (*instance, error) {
	l, err := listen(ctx, address)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = l.Addr().String()
	}
	node, err := s.node(ctx, name)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	in, err := newInstance(name, description{backplane: s.name(), other: other}, node, s.key, s.o.Logger)
	if err != nil {
		if errors.Is(err, backplane.ErrInvalidOption) { // all others are right
			err = fmt.Errorf("%s: must be 32 to 1,024 characters, not all the same", keyVariable)
		}
		return nil, errors.Join(err, l.Close(), node.Close(ctx))
	}
	in.serve(l)
	f.instances = append(f.instances, in)
	return in, nil
}

// close stops everything, from the front to the back: no new connections, then the connections, then the backplane.
func (f *farm) close(ctx context.Context) error {
	if f.front != nil {
		f.front.stop(ctx)
	}
	errs := make([]error, len(f.instances))
	var closing sync.WaitGroup
	for i, in := range f.instances {
		closing.Go(func() { errs[i] = in.close(ctx) })
	}
	closing.Wait()
	if f.front != nil {
		f.front.end() // the sockets that went through a balancer have ended with those of the instances
	}
	for _, b := range f.balancers {
		b.close()
	}
	return errors.Join(errs...)
}
