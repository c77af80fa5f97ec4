package hubkit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// moodyStore is a store that answers with an error while it has one.
type moodyStore struct {
	backplane.Store

	mu           sync.Mutex
	reads, write error // guarded by mu; nil for none
}

func (s *moodyStore) become(reads, write error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads, s.write = reads, write
}

func (s *moodyStore) Get(ctx context.Context, key string) (backplane.Entry, error) {
	s.mu.Lock()
	err := s.reads
	s.mu.Unlock()
	if err != nil {
		return backplane.Entry{}, err
	}
	return s.Store.Get(ctx, key)
}

func (s *moodyStore) Delete(ctx context.Context, key string, seen backplane.Revision) error {
	s.mu.Lock()
	err := s.write
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Store.Delete(ctx, key, seen)
}

// onMoody runs a test over a node with such a store.
func onMoody(t *testing.T, test func(t *testing.T, seat backplane.Backplane, store *moodyStore)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := backplane.Open(t.Context(), inmem.NewBroker().Opener(), backplane.Options{})
		if err != nil {
			t.Fatal(err)
		}
		inner, _ := n.Store()
		store := &moodyStore{Store: inner}
		test(t, storeless{n, store}, store)
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// UserGroups over a broker without a store, or that does not permit its use, is an error of New that says so.
func TestNewRefusesAStoreThatDoesNotServe(t *testing.T) {
	unsupported := fmt.Errorf("%w: put jetstream {} into the configuration", backplane.ErrUnsupported)
	denied := fmt.Errorf("%w: the user needs +evalsha", backplane.ErrDenied)
	for what, row := range map[string]struct{ reads, write, want error }{
		"no store":               {unsupported, nil, unsupported},
		"reading is not allowed": {denied, nil, denied},
		"writing is not allowed": {nil, denied, denied},
	} {
		t.Run(what, func(t *testing.T) {
			onMoody(t, func(t *testing.T, seat backplane.Backplane, store *moodyStore) {
				store.become(row.reads, row.write)
				_, err := hubkit.New(seat, hubkit.Options{Name: "ward", UserGroups: true})
				if !errors.Is(err, row.want) || !errors.Is(err, backplane.ErrInvalidOption) || !strings.Contains(err.Error(), "UserGroups") {
					t.Errorf("%v, want ErrInvalidOption, UserGroups and %v", err, row.want)
				}
				h, err := hubkit.New(seat, hubkit.Options{Name: "ward"})
				if err != nil {
					t.Fatal("without UserGroups:", err)
				}
				closeHub(t, h)
			})
		})
	}
}

// What cannot be known at New is told when it is: once in the log, and by readiness, until the store serves.
func TestStoreThatDoesNotServeLater(t *testing.T) {
	onMoody(t, func(t *testing.T, seat backplane.Backplane, store *moodyStore) {
		var log strings.Builder
		store.become(backplane.ErrUnavailable, nil)
		h, err := hubkit.New(seat, hubkit.Options{Name: "ward", UserGroups: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ready := func(want int, refused bool) {
			t.Helper()
			answer := httptest.NewRecorder()
			h.ReadyHandler(hubkit.ReadyOptions{}).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
			if answer.Code != want || h.Health().StoreRefused != refused {
				t.Errorf("ready answers %d %q, want %d; health says %v", answer.Code, answer.Body, want, h.Health().StoreRefused)
			}
		}
		settleFor(t, time.Minute)
		ready(http.StatusOK, false) // it is the backplane's state that is to tell
		store.become(fmt.Errorf("%w: put jetstream {} into the configuration", backplane.ErrUnsupported), nil)
		settleFor(t, time.Minute)
		ready(http.StatusServiceUnavailable, true)
		if k := strings.Count(log.String(), "jetstream {}"); k != 1 {
			t.Errorf("the log says what helps %d times:\n%s", k, log.String())
		}
		store.become(nil, nil)
		settleFor(t, time.Minute)
		ready(http.StatusOK, false)
		if _, err := h.Connect(t.Context(), conntest.New(), hubkit.ConnectOptions{User: "nurse"}); err != nil {
			t.Error(err)
		}
		closeHub(t, h)
	})
}

func closeHub(t *testing.T, h *hubkit.Hub) {
	t.Helper()
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
}
