//go:build !race

package integration_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/integration/natsserver"
	"github.com/gobackplane/backplane/nats"
)

// TestFigureSubscribeAcrossServers compares Subscribe at one server of three, each with an instance, with a bare request of
// nats.go to a responder at another one: it is a flush and a request that all answer.
func TestFigureSubscribeAcrossServers(t *testing.T) {
	const (
		batches = 9
		each    = 1500
		most    = 3.0
	)
	cluster := natsserver.StartCluster(t, 3, natsserver.Options{})
	var nodes []*backplane.Node
	for _, s := range cluster.Servers {
		nodes = append(nodes, clustered(t, nats.Options{URL: s.URL()}, backplane.Options{}))
	}
	acquainted(t, nodes...)
	near, far := bare(t, cluster.Servers[0].URL()), bare(t, cluster.Servers[1].URL())
	if _, err := far.Subscribe("echo", func(m *natsgo.Msg) { _ = m.Respond(m.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := far.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the responder to be known", func() bool {
		_, err := near.Request("echo", nil, time.Second)
		return err == nil
	})
	var ratios []float64
	for k := range batches {
		var joins, requests []time.Duration
		for i := range each {
			began := time.Now()
			if _, err := near.Request("echo", []byte("?"), 5*time.Second); err != nil {
				t.Fatal(err)
			}
			requests = append(requests, time.Since(began))
			began = time.Now()
			if _, err := nodes[0].Subscribe(t.Context(), backplane.Group(fmt.Sprintf("%d-%d", k, i)), newListener().hear); err != nil {
				t.Fatal(err)
			}
			joins = append(joins, time.Since(began))
		}
		slices.Sort(joins)
		slices.Sort(requests)
		p99 := each * 99 / 100
		ratios = append(ratios, float64(joins[p99])/float64(requests[p99]))
		t.Logf("Subscribe median %v, p99 %v; a request median %v, p99 %v: p99 %.1f times",
			joins[each/2], joins[p99], requests[each/2], requests[p99], ratios[k])
	}
	slices.Sort(ratios)
	t.Logf("Subscribe's p99 is %.1f times that of a request, the median of %d (%.1f to %.1f)", ratios[batches/2], batches, ratios[0], ratios[batches-1])
	if ratios[batches/2] > most {
		t.Errorf("want at most %.0f times", most)
	}
}

// bare connects nats.go.
func bare(t *testing.T, url string) *natsgo.Conn {
	t.Helper()
	nc, err := natsgo.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
