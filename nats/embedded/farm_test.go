package embedded_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/nats/embedded"
)

// farm is three instances with servers of their own, each of which publishes all the time and listens to all.
type farm struct {
	t     *testing.T
	peers []string
	seats []*farmSeat
	every []*farmSeat // also those that were closed
}

// farmSeat is one instance between its start and its end, and what it has heard.
type farmSeat struct {
	name  string
	node  *backplane.Node
	stop  chan struct{}
	ended sync.WaitGroup
	taken atomic.Int64 // how many of its messages were taken: 1 to this
	began []int64      // by publisher in farm.every: how many of its messages had been taken when we had subscribed

	mu    sync.Mutex
	heard map[string]*story // by publisher
	gaps  int               // guarded by mu, as is heard
}

// story is what one subscription heard of one publisher.
type story struct {
	first   int64 // the oldest number
	told    bool  // there was a gap before it
	last    int64 // the newest number
	missing int64 // numbers that were left out without a gap since the one before
	wrong   string
	gap     bool // there was a gap since the newest number
}

func newFarm(t *testing.T) *farm {
	t.Helper()
	f := &farm{t: t, peers: []string{embedded.FreeAddress(t), embedded.FreeAddress(t), embedded.FreeAddress(t)}, seats: make([]*farmSeat, 3)}
	for i := range f.seats {
		f.start(i)
	}
	return f
}

// start opens the instance at an address, subscribes, and begins to publish.
func (f *farm) start(i int) {
	f.t.Helper()
	s := &farmSeat{name: "n" + strconv.Itoa(len(f.every)), stop: make(chan struct{}), heard: make(map[string]*story)}
	s.node = opened(f.t, embedded.New(embedded.Options{Listen: f.peers[i], Peers: f.peers, Secret: "secret"}))
	if _, err := s.node.Subscribe(f.t.Context(), ward, s.hear); err != nil {
		f.t.Fatal(err)
	}
	for _, other := range f.every {
		s.began = append(s.began, other.taken.Load())
	}
	f.every = append(f.every, s)
	f.seats[i] = s
	s.ended.Go(func() {
		for k := int64(1); ; k++ {
			select {
			case <-s.stop:
				return
			default:
			}
			if err := s.node.Publish(f.t.Context(), ward, fmt.Appendf(nil, "%s %d", s.name, k)); err != nil {
				f.t.Errorf("%s cannot publish: %v", s.name, err)
				return
			}
			s.taken.Store(k)
			pause(time.Millisecond)
		}
	})
}

// pause lets others run.
func pause(d time.Duration) { <-time.After(d) }

// hear judges an event: what is missing must be told by a gap before the next message of the same publisher.
func (s *farmSeat) hear(_ context.Context, e backplane.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := e.(*backplane.Message)
	if !ok {
		s.gaps++
		for _, st := range s.heard {
			st.gap = true
		}
		return
	}
	name, text, _ := strings.Cut(string(m.Payload), " ")
	k, _ := strconv.ParseInt(text, 10, 64)
	st := s.heard[name]
	if st == nil {
		st = &story{first: k, told: s.gaps > 0, last: -1}
		s.heard[name] = st
	}
	switch {
	case st.last >= 0 && k <= st.last:
		st.wrong = fmt.Sprintf("%d after %d", k, st.last)
	case st.last >= 0 && k > st.last+1 && !st.gap:
		st.missing += k - st.last - 1
	}
	st.last, st.gap = k, false
}

// end closes the instance at an address.
func (f *farm) end(i int) {
	s := f.seats[i]
	close(s.stop)
	s.ended.Wait()
	closed(f.t, s.node)
	f.seats[i] = nil
}

// caughtUp waits until everybody who is there has heard the last of all that others published, or a gap after it.
func (f *farm) caughtUp() {
	f.t.Helper()
	for _, s := range f.seats {
		if s == nil {
			continue
		}
		for n, p := range f.every {
			want := p.taken.Load()
			if p == s || n < len(s.began) && want == s.began[n] || want == 0 {
				continue // it said nothing since we listen
			}
			deadline := time.After(soon)
			for {
				s.mu.Lock()
				st := s.heard[p.name]
				done := st != nil && (st.last >= want || st.gap) || st == nil && s.gaps > 0
				s.mu.Unlock()
				if done {
					break
				}
				select {
				case <-deadline:
					f.t.Fatalf("%s has not heard %d of %s, and no gap: %+v", s.name, want, p.name, st)
				case <-time.After(10 * time.Millisecond):
				}
			}
		}
	}
}

// Instances that are restarted one at a time lose nothing silently: what was published while a subscription was in force
// is heard, or covered by a gap.
func TestRollingRestartsLoseNothingSilently(t *testing.T) {
	f := newFarm(t)
	f.caughtUp()
	for range 3 {
		for i := range f.seats {
			f.end(i)
			f.caughtUp()
			f.start(i)
			f.caughtUp()
		}
	}
	for i := range f.seats {
		f.end(i)
	}
	gaps := 0
	for _, s := range f.every {
		gaps += s.gaps
		for n, p := range f.every {
			st := s.heard[p.name]
			if st == nil {
				continue
			}
			first := int64(1)
			if n < len(s.began) {
				first = s.began[n] + 2 // one may have been under way
			}
			if st.missing > 0 || st.wrong != "" || st.first > first && !st.told {
				t.Errorf("%s heard of %s: %d missing and no gap, first %d instead of %d; %s", s.name, p.name, st.missing, st.first, first, st.wrong)
			}
		}
	}
	t.Logf("%d instances, %d gaps", len(f.every), gaps)
}
