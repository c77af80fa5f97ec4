//go:build !race

package integration_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/integration/redisserver"
)

// TestFigureQueriesOverManyConnections: what it costs to ask who is there, of 100,000 connections on a few and on many instances over a
// real Redis. All of them run in this process, on its cores.
func TestFigureQueriesOverManyConnections(t *testing.T) {
	for _, row := range []struct{ instances, each int }{{5, 20_000}, {50, 2_000}} {
		t.Run(fmt.Sprintf("%d instances of %d", row.instances, row.each), func(t *testing.T) {
			server := redisserver.Start(t, redisserver.Options{})
			hubs := make([]*hubkit.Hub, row.instances)
			var all sync.WaitGroup
			for i := range hubs {
				n := openRedis(t, server, backplane.Options{Heartbeat: 200 * time.Millisecond, MemberTimeout: time.Second, ProbeInterval: 200 * time.Millisecond, ProbeTimeout: 3 * time.Second})
				h, err := hubkit.New(n, hubkit.Options{Name: "ward"})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := h.Close(context.Background()); err != nil {
						t.Error(err)
					}
				})
				hubs[i] = h
				all.Go(func() {
					for k := range row.each {
						c := idle(t, h, "")
						for _, g := range []string{"big", "ward-" + strconv.Itoa(k%1000)} {
							if err := c.Join(t.Context(), g); err != nil {
								t.Error(err)
							}
						}
					}
					if err := n.Settled(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			total := row.instances * row.each
			measure := func(what string, f func()) time.Duration {
				const times = 7
				var took []time.Duration
				for range times {
					began := time.Now()
					f()
					took = append(took, time.Since(began))
				}
				d := median(took)
				t.Logf("%-28s %v", what, d)
				return d
			}
			count := func(of hubkit.Target, want int) func() {
				return func() {
					c, err := hubs[0].Count(t.Context(), of)
					if err != nil || c.Connections != want || c.Partial() {
						t.Errorf("count %+v: %d of %d, partial %v, %v", of, c.Connections, want, c.Partial(), err)
					}
				}
			}
			if d := measure("count all", count(hubkit.ToAll(), total)); d > time.Second {
				t.Errorf("counting %d connections takes %v", total, d)
			}
			measure("count a group of all", count(hubkit.ToGroups("big"), total))
			measure("count a group of few", count(hubkit.ToGroups("ward-7"), row.instances*max(row.each/1000, 1)))
			page := func(of hubkit.Target, limit int, token string) hubkit.Page {
				p, err := hubs[0].List(t.Context(), of, hubkit.ListOptions{Limit: limit, Token: token})
				if err != nil || p.Partial() {
					t.Fatalf("list %+v: %+v, %v", of, p.Coverage, err)
				}
				return p
			}
			measure("first page of 100 of all", func() { page(hubkit.ToAll(), 100, "") })
			measure("first page of 1,000 of all", func() { page(hubkit.ToAll(), 1000, "") })
			measure("a group of few, whole", func() {
				listed := 0
				for token, more := "", true; more; more = token != "" {
					p := page(hubkit.ToGroups("ward-7"), 1000, token)
					listed, token = listed+len(p.Connections), p.Next
				}
				if want := row.instances * max(row.each/1000, 1); listed != want {
					t.Errorf("%d listed, want %d", listed, want)
				}
			})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began, pages, seen := time.Now(), 0, make(map[string]bool, total)
			for token, more := "", true; more; more = token != "" {
				p := page(hubkit.ToAll(), hubkit.MaxPage, token)
				for _, c := range p.Connections {
					seen[c.ID] = true
				}
				token = p.Next
				pages++
			}
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			each := (after.TotalAlloc - before.TotalAlloc) / uint64(pages)
			t.Logf("all, in %d pages of 1,000: %v, %d KB allocated for each page", pages, took, each/1024)
			if most := uint64(4 << 20); each > most { // on both sides, and by the engines of all instances meanwhile
				t.Errorf("a page allocates %d bytes, at most %d", each, most)
			}
			if len(seen) != total {
				t.Errorf("%d of %d connections were listed", len(seen), total)
			}
		})
	}
}
