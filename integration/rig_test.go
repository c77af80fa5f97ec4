package integration_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// patience is how long a transport test waits for what must come.
const patience = 20 * time.Second

// timeout is what a transport is told to give the broker for an answer.
const timeout = 3 * time.Second

// recordingSink is an engine that only writes down what a transport tells it.
type recordingSink struct {
	mu      sync.Mutex
	frames  []transport.Frame // guarded by mu, as is all below
	downs   []error
	gaps    []string // "resubscribe channel channel..."
	changed chan struct{}
}

func newRecordingSink() *recordingSink { return &recordingSink{changed: make(chan struct{})} }

func (s *recordingSink) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *recordingSink) Frame(_ transport.Link, channel string, data []byte) {
	s.note(func() { s.frames = append(s.frames, transport.Frame{Channel: channel, Data: data}) })
}

func (s *recordingSink) Gap(_ transport.Link, channels []string, resubscribe bool, _ error) {
	s.note(func() { s.gaps = append(s.gaps, fmt.Sprint(resubscribe, channels)) })
}

func (s *recordingSink) Down(_ transport.Link, cause error) {
	s.note(func() { s.downs = append(s.downs, cause) })
}

// await returns when cond, which is called with the sink locked, is true.
func (s *recordingSink) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("%s did not happen within %v", what, patience)
		}
	}
}

// awaitDown returns the cause of the only Down.
func (s *recordingSink) awaitDown(t *testing.T) error {
	t.Helper()
	s.await(t, "Down", func() bool { return len(s.downs) > 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.downs) != 1 {
		t.Errorf("Down was called %d times: %v", len(s.downs), s.downs)
	}
	return s.downs[0]
}

// take removes and returns the frames so far.
func (s *recordingSink) take() []transport.Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames := s.frames
	s.frames = nil
	return frames
}

// rig is a transport with its sink and its log.
type rig struct {
	transport.Transport

	sink *recordingSink
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRig makes a transport that is not connected. It is closed with the test.
func newRig(t *testing.T, open transport.Opener) *rig {
	t.Helper()
	var id [8]byte
	_, _ = rand.Read(id[:])
	r := &rig{sink: newRecordingSink(), log: &lockedBuffer{}}
	tr, err := open(transport.Config{
		Node: transport.NodeID(hex.EncodeToString(id[:])), Namespace: "ward", Timeout: timeout,
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Transport = tr
	tr.Start(r.sink)
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

// connected is newRig with a link that is up.
func connected(t *testing.T, open transport.Opener) *rig {
	t.Helper()
	r := newRig(t, open)
	if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatalf("Connect: %v", err)
	}
	return r
}

// channel is the name of a channel, in the form of the transport.
func (r *rig) channel(name string) string { return "ward" + string(r.Limits().Delimiter) + name }

// works proves a link in both directions.
func (r *rig) works(t *testing.T) {
	t.Helper()
	name := r.channel("works")
	r.subscribed(t, name)
	r.published(t, name, "hello")
	r.awaitFrame(t, name, "hello")
	r.sink.take()
}

// subscribed subscribes, and fails the test if it is not all confirmed.
func (r *rig) subscribed(t *testing.T, channels ...string) {
	t.Helper()
	if errs := r.Subscribe(t.Context(), transport.OnlyLink, channels); errs != nil {
		t.Fatalf("Subscribe: %v", errors.Join(errs...))
	}
}

// publish1 publishes one frame and returns its outcome.
func (r *rig) publish1(ctx context.Context, channel, data string) error {
	errs := r.Publish(ctx, transport.OnlyLink, []transport.Frame{{Channel: channel, Data: []byte(data)}})
	if errs == nil {
		return nil
	}
	return errs[0]
}

// published is publish1 for what must be taken.
func (r *rig) published(t *testing.T, channel, data string) {
	t.Helper()
	if err := r.publish1(t.Context(), channel, data); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

// awaitFrame waits until the last frame is this one.
func (r *rig) awaitFrame(t *testing.T, channel, data string) {
	t.Helper()
	r.sink.await(t, "a frame on "+channel, func() bool {
		for _, f := range r.sink.frames {
			if f.Channel == channel && string(f.Data) == data {
				return true
			}
		}
		return false
	})
}

// login is an attempt to log in, with the options of a transport.
type login[O any] struct {
	o     O
	class error // nil: let in
	says  string
}

// tryLogins proves what becomes of attempts. Who is not let in is told why, and what to change; no text shows a password,
// which is "s3cret" everywhere.
func tryLogins[O any](t *testing.T, open func(O) transport.Opener, logins map[string]login[O]) {
	t.Helper()
	for name, c := range logins {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, open(c.o))
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			err := r.Connect(ctx, transport.OnlyLink)
			if !errors.Is(err, c.class) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("Connect: %v", err)
			}
			if text := fmt.Sprint(err, r.log); strings.Contains(text, "s3cret") {
				t.Errorf("%s shows the password", text)
			}
			if err != nil {
				return
			}
			r.works(t)
			if c, ok := r.Transport.(transport.Checker); ok {
				if err := c.Check(ctx, transport.OnlyLink); err != nil {
					t.Errorf("Check: %v", err)
				}
			}
		})
	}
}
