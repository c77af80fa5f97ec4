package backplane_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// A node that lost the answer to a publish and is cut off for long sends the frame again when it is back. Who heard it
// the first time drops the repeat, though the node was declared dead meanwhile; and what is too old to be known as a
// repeat is not sent again.
func TestRepeatAfterALongOutageIsNotHeardTwice(t *testing.T) {
	for _, c := range []struct {
		name    string
		outage  time.Duration
		outcome error
	}{
		{"shorter than declared dead", 3 * time.Second, nil},
		{"declared dead", 11 * time.Second, nil},
		{"perhaps forgotten", 15 * time.Second, backplane.ErrUncertain},
		{"forgotten", 60 * time.Second, backplane.ErrUncertain},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				a := open(t, broker.Opener(), backplane.Options{WaitWhenDown: true})
				b := open(t, broker.Opener(), backplane.Options{})
				ward := backplane.Group("ward:4B")
				atB, _ := listen(t, b, ward)
				publish(t, a, ward, "1")
				expect(t, "before", atB.heard(), "1")

				broker.Deafen(a.ID()) // the broker takes the frame, and the answer does not arrive
				result := make(chan error, 1)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				go func() { result <- a.Publish(ctx, ward, []byte("2")) }()
				expect(t, "the first attempt", atB.heard(), "2")
				broker.Cut(a.ID())
				time.Sleep(c.outage)
				broker.Heal(a.ID())
				if err := <-result; !errors.Is(err, c.outcome) {
					t.Errorf("Publish returned %v, want %v", err, c.outcome)
				}
				time.Sleep(3 * time.Second)
				for _, e := range atB.heard() {
					if e == "2" {
						t.Error("heard twice")
					}
				}
			})
		})
	}
}

// A tail mark's fate is not known, and messages of its epoch go on: that is no reason to begin a new one later.
func TestDoubtedMarkInAStreamThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{WaitWhenDown: true}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, ward)
		time.Sleep(10 * time.Second)
		publish(t, a, ward, "m")
		time.Sleep(1500 * time.Millisecond)
		broker.Deafen(a.ID())
		time.Sleep(1500 * time.Millisecond) // the mark is taken, and a does not hear of it
		broker.Cut(a.ID())
		time.Sleep(2500 * time.Millisecond)
		broker.Heal(a.ID())
		time.Sleep(time.Second)
		want := []string{"m"}
		for range 60 {
			time.Sleep(500 * time.Millisecond)
			publish(t, a, ward, "m")
			want = append(want, "m")
		}
		expect(t, "whose link was well", atB.heard(), want...)
	})
}
