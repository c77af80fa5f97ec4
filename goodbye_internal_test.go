package backplane

import (
	"testing"
	"testing/synctest"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/wire"
)

// A node that closes may still answer the hello of one that has just come. In a rolling restart of 200 nodes this left
// hundreds of members behind that were declared dead 8 seconds later.
func TestHeartbeatAfterGoodbyeRevivesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(t.Context(), inmem.NewBroker().Opener(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		other := wire.Publisher{1, 2, 3}
		for _, flags := range []heartbeatFlags{flagHello, flagGoodbye, flagDirect, 0} {
			if err := n.heartbeatHeard(other, n.heartbeat(flags, 0)); err != nil {
				t.Fatal(err)
			}
			if members, want := len(n.Members()), map[heartbeatFlags]int{flagHello: 2}[flags]; members != max(want, 1) {
				t.Errorf("after flags %d: %d members", flags, members)
			}
		}
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
