package backplane_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// A transport that calls after Disconnect has returned is a broken one: what it says is counted and dropped, and does not
// harm the next connection.
func TestLateCallsOfATransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opener, tp := tapped(inmem.NewBroker(), func(*tap) {})
		n := open(t, opener, backplane.Options{})
		at, _ := listen(t, n, ward)
		time.Sleep(time.Second)
		tp.sink.Down(transport.OnlyLink, errors.New("gone"))
		synctest.Wait() // it has disconnected, and pauses before it connects anew
		tp.sink.Down(transport.OnlyLink, errors.New("gone already"))
		tp.sink.Gap(transport.OnlyLink, nil, true, errors.New("gone already"))
		tp.sink.Frame(transport.OnlyLink, wardChannel, []byte("old"))
		time.Sleep(10 * time.Second)
		publish(t, n, ward, "1")
		expect(t, "ward", at.heard(), "gap:link:0", "1")
		if s := n.Stats(); s.LateCalls != 3 || s.Reconnects != 1 || s.Unreadable != 0 {
			t.Errorf("%d late calls, %d reconnects, %d unreadable frames; want 3, 1, 0", s.LateCalls, s.Reconnects, s.Unreadable)
		}
	})
}
