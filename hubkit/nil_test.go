package hubkit_test

import (
	"errors"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/inmem"
)

// What is missing is told by the call that misses it, and not by a panic of some goroutine later.
func TestNilIsRefused(t *testing.T) {
	if _, err := hubkit.New(nil, hubkit.Options{Name: "ward"}); !errors.Is(err, backplane.ErrInvalidOption) {
		t.Errorf("New without a backplane: %v", err)
	}
	n, err := backplane.Open(t.Context(), inmem.NewBroker().Opener(), backplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := hubkit.New(n, hubkit.Options{Name: "ward"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hub.Connect(t.Context(), nil, hubkit.ConnectOptions{}); !errors.Is(err, backplane.ErrInvalidOption) {
		t.Errorf("Connect without a Conn: %v", err)
	}
	if err := errors.Join(hub.Close(t.Context()), n.Close(t.Context())); err != nil {
		t.Error(err)
	}
}
