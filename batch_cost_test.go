//go:build !race

package backplane_test

import (
	"context"
	"runtime"
	"strconv"
	"testing"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
)

// What a batch allocates is what its receiver keeps: the frame, a Message for each, and its place in the queue; in short batches
// what each frame takes counts as well. Not under the race detector: pools then forget at random.
func TestBatchesAllocateWhatIsReceived(t *testing.T) {
	for _, row := range []struct {
		size int
		most uint64 // bytes for each message, of which 128 are its payload
	}{{12, 310}, {256, 290}} {
		t.Run(strconv.Itoa(row.size), func(t *testing.T) {
			if got := batchBytes(t, row.size); got > row.most {
				t.Errorf("a message of a batch allocates %d bytes, want at most %d", got, row.most)
			}
		})
	}
}

func batchBytes(t *testing.T, size int) uint64 {
	t.Helper()
	n := open(t, inmem.NewBroker().Opener(), backplane.Options{})
	to, all := backplane.Group("g"), make(chan struct{}, 1)
	batch := make([]backplane.Outgoing, size)
	for i := range batch {
		batch[i] = backplane.Outgoing{To: to, Payload: make([]byte, 128)}
	}
	heard := 0
	if _, err := n.Subscribe(t.Context(), to, func(context.Context, backplane.Event) {
		if heard++; heard%size == 0 {
			all <- struct{}{}
		}
	}); err != nil {
		t.Fatal(err)
	}
	const rounds = 100
	var before, after runtime.MemStats
	for round := range rounds + 1 {
		if round == 1 { // the first fills pools
			runtime.ReadMemStats(&before)
		}
		if err := n.PublishBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		<-all
	}
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / uint64(rounds*size)
	t.Logf("%d bytes a message", each)
	return each
}
