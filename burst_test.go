package backplane_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// A route between two servers of a broker that carries nothing for a while, and no link fails: what one node sends does not
// reach another one, neither a message nor its tail mark, and nothing follows. The heartbeats that are missing tell.
func TestBurstOfLossWithoutALinkEventIsTold(t *testing.T) {
	for _, burst := range []time.Duration{2600 * time.Millisecond, 5 * time.Second, 7 * time.Second} {
		t.Run(burst.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
				ward, other := backplane.Group("ward:4B"), backplane.Group("other")
				atA, _ := listen(t, a, ward)
				atB, _ := listen(t, b, ward)
				besides, _ := listen(t, b, other)
				time.Sleep(5 * time.Second)

				id, err := hex.DecodeString(string(a.ID()))
				if err != nil {
					t.Fatal(err)
				}
				broker.Drop(b.ID(), 1<<30, func(_ string, frame []byte) bool { return bytes.Contains(frame[:9], id) })
				publish(t, a, ward, "the only one")
				time.Sleep(burst)
				broker.Drop(b.ID(), 0, nil)
				time.Sleep(2*time.Second + 100*time.Millisecond) // until the next heartbeat

				expect(t, "the publisher", atA.heard(), "the only one")
				for what, e := range map[string]*ear{"the subscription": atB, "another one": besides} {
					if got := e.heard(); !slices.Contains(got, "gap:member:0") {
						t.Errorf("%s heard %q of a loss", what, got)
					}
				}
				time.Sleep(20 * time.Second)
				expect(t, "afterwards", atB.heard())
			})
		})
	}
}

// The heartbeats that a node missed while its own link was down are covered by the gap of the link.
func TestOwnOutageIsNoLossOfMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		open(t, broker.Opener(), backplane.Options{})
		b := open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, backplane.Group("ward:4B"))
		time.Sleep(5 * time.Second)
		broker.Cut(b.ID())
		time.Sleep(6 * time.Second)
		broker.Heal(b.ID())
		time.Sleep(10 * time.Second)
		expect(t, "after an outage of its own", atB.heard(), "gap:link:0")
	})
}

// A heartbeat whose fate is not known to its sender counts for nothing: the next one has the same number.
func TestOutageOfAPublisherIsNoGapForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		a, b := open(t, broker.Opener(), backplane.Options{}), open(t, broker.Opener(), backplane.Options{})
		atB, _ := listen(t, b, backplane.Group("ward:4B"))
		for _, fault := range []func(backplane.NodeID){broker.Cut, broker.Deafen, broker.Mute, broker.Hang, broker.Kick} {
			fault(a.ID())
			time.Sleep(4 * time.Second)
			broker.Heal(a.ID())
			time.Sleep(5 * time.Second)
		}
		expect(t, "what did not happen to it", atB.heard())
	})
}
