package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// full is a transport whose broker has no room for channels that end in "full".
type full struct{ transport.Transport }

func (f full) Subscribe(ctx context.Context, l transport.Link, channels []string) []error {
	errs := make([]error, len(channels))
	for i, channel := range channels {
		if strings.HasSuffix(channel, "full") {
			errs[i] = fmt.Errorf("%w: no room for a channel", transport.ErrTooLarge)
		} else if got := f.Transport.Subscribe(ctx, l, []string{channel}); got != nil {
			errs[i] = got[0]
		}
	}
	return errs
}

// Who waits in vain for a subscription is told what the broker said, and may try again.
func TestRefusalIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := inmem.NewBroker().Opener()
		n := open(t, func(c transport.Config) (transport.Transport, error) {
			tr, err := under(c)
			return full{tr}, err
		}, backplane.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := n.Subscribe(ctx, backplane.Group("full"), func(context.Context, backplane.Event) {})
		if !errors.Is(err, backplane.ErrUnavailable) || errors.Is(err, backplane.ErrTooLarge) || !strings.Contains(err.Error(), "no room for a channel") {
			t.Errorf("%v", err)
		}
		_, err = n.Subscribe(ctx, backplane.Group("other"), func(context.Context, backplane.Event) {})
		if err == nil || !errors.Is(err, backplane.ErrUnavailable) { // ctx has ended
			t.Errorf("%v", err)
		}
		at, _ := listen(t, n, backplane.Group("other"))
		publish(t, n, backplane.Group("other"), "1")
		expect(t, "other", at.heard(), "1")
	})
}
