package hubkit_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// This file shows how a hub server is tested without sockets, without a broker and without waiting: with in-memory
// nodes and recording connections in a synctest bubble. Its clock runs only while everybody waits, so a minute of outage
// takes no time, and synctest.Wait returns when all that can happen has happened.

// board is the hub server under test. It counts the bells of a ward, and after a gap it does not trust its count.
type board struct {
	hub   *hubkit.Hub
	stale chan []*hubkit.Connection
}

func newBoard(bp backplane.Backplane) (*board, error) {
	b := &board{stale: make(chan []*hubkit.Connection, 1)}
	var err error
	b.hub, err = hubkit.New(bp, hubkit.Options{
		Name:  "ward",
		OnGap: func(_ context.Context, _ hubkit.Gap, concerned []*hubkit.Connection) { b.stale <- concerned },
	})
	return b, err
}

func (b *board) watch(ctx context.Context, sock hubkit.Conn, ward string) error {
	c, err := b.hub.Connect(ctx, sock, hubkit.ConnectOptions{Label: "board of " + ward})
	if err != nil {
		return err
	}
	return c.Join(ctx, ward)
}

func (b *board) ring(ctx context.Context, ward, bed string) error {
	return b.hub.Send(ctx, hubkit.ToGroups(ward), []byte("bell "+bed))
}

func TestExampleOfACutAndItsGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		broker := inmem.NewBroker()
		var nodes []*backplane.Node
		var boards []*board
		for range 2 {
			node, err := backplane.Open(ctx, broker.Opener(), backplane.Options{})
			if err != nil {
				t.Fatal(err)
			}
			b, err := newBoard(node)
			if err != nil {
				t.Fatal(err)
			}
			nodes, boards = append(nodes, node), append(boards, b)
		}
		nurse := conntest.New()
		if err := boards[0].watch(ctx, nurse, "4B"); err != nil {
			t.Fatal(err)
		}

		ring := func(bed string) {
			t.Helper()
			if err := boards[1].ring(ctx, "4B", bed); err != nil {
				t.Fatal(err)
			}
		}
		ring("1")
		if err := nurse.WaitPayload(ctx, "bell 1"); err != nil {
			t.Fatal(err)
		}

		broker.Cut(nodes[0].ID()) // the nurse's instance loses the broker
		ring("2")                 // and misses this
		<-time.NewTimer(time.Minute).C
		broker.Heal(nodes[0].ID())

		if concerned := <-boards[0].stale; len(concerned) != 1 || concerned[0].Label() != "board of 4B" {
			t.Errorf("the gap concerns %d connections", len(concerned))
		}
		synctest.Wait() // the nurse's notice has been written; else it would come together with the next bell
		ring("3")
		if err := nurse.WaitPayload(ctx, "bell 3"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		told := nurse.Deliveries()
		if len(told) != 3 || !told[1].Lost() || told[1].Payload != nil {
			t.Errorf("the nurse got %+v: want bell 1, the notice, bell 3", told)
		}

		for i := range nodes {
			if err := boards[i].hub.Close(ctx); err != nil {
				t.Error(err)
			}
			if err := nodes[i].Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}
