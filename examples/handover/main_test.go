package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/inmem"
)

// servers are two instances of the hub, with a nurse in ward 4B on each.
type servers struct {
	broker *inmem.Broker
	nodes  []*backplane.Node
	hubs   []*hubkit.Hub
	conns  []*conntest.Conn
}

func start(t *testing.T) *servers {
	t.Helper()
	s := &servers{broker: inmem.NewBroker()}
	for _, nurse := range []string{"nurse-17", "nurse-18"} {
		node := s.node(t)
		hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := hub.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		conn := conntest.New()
		c, err := hub.Connect(t.Context(), conn, hubkit.ConnectOptions{User: nurse})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Join(t.Context(), "4B"); err != nil {
			t.Fatal(err)
		}
		s.nodes, s.hubs, s.conns = append(s.nodes, node), append(s.hubs, hub), append(s.conns, conn)
	}
	return s
}

func (s *servers) node(t *testing.T) *backplane.Node {
	t.Helper()
	node, err := backplane.Open(t.Context(), s.broker.Opener(), backplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return node
}

func TestJobSendsAndReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		node := s.node(t)
		j := job{hub: "ward", text: "handover", wards: []string{"4B", "5"}, nurses: []string{"nurse-18"}}
		var out bytes.Buffer
		if err := j.do(t.Context(), node, &out); err != nil {
			t.Fatal(err)
		}
		want := "ward 4B: 2 connections on 2 instances\nward 5: 0 connections on 0 instances\nnurse-18: 1 connections on 1 instances\n"
		if out.String() != want {
			t.Errorf("it said\n%swant\n%s", out.String(), want)
		}
		synctest.Wait()
		for i, conn := range s.conns {
			if got := strings.Join(conn.Payloads(), " "); got != "handover" { // once, although nurse-18 is named twice
				t.Errorf("nurse %d got %q", i, got)
			}
		}
	})
}

// Who does not answer is named, and what is counted is said to be the least.
func TestJobNamesWhoDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		node := s.node(t)
		j := job{hub: "ward", text: "handover", wards: []string{"4B"}}
		if err := node.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
		silent := s.nodes[1].ID()
		s.broker.Hang(silent)
		defer s.broker.Heal(silent)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var out bytes.Buffer
		if err := j.do(ctx, node, &out); err != nil {
			t.Fatal(err)
		}
		if want := "ward 4B: at least 1 connections on 1 instances\n  no answer of  " + string(silent) + "\n"; out.String() != want {
			t.Errorf("it said\n%swant\n%s", out.String(), want)
		}
	})
}

// The job's node hears nothing of what the servers tell their clients: the broker does not even send it.
func TestJobHearsNoTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		node := s.node(t)
		j := job{hub: "ward", text: "handover", wards: []string{"4B"}, nurses: []string{"nurse-18"}}
		synctest.Wait()
		if err := j.do(t.Context(), node, new(bytes.Buffer)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // and no time passes from here on, so that there are no heartbeats and probes
		const each = 200
		job, server := node.Stats(), s.nodes[1].Stats()
		for range each {
			for _, to := range []hubkit.Target{hubkit.ToAll(), hubkit.ToGroups("4B"), hubkit.ToUsers("nurse-18")} {
				if err := s.hubs[0].Send(t.Context(), to, []byte("bell")); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if now := s.nodes[1].Stats(); now.Delivered-server.Delivered != 3*each || now.FramesReceived == server.FramesReceived {
			t.Errorf("a server was to hear %d messages and heard %d", 3*each, now.Delivered-server.Delivered)
		}
		now := node.Stats()
		if now.FramesReceived != job.FramesReceived || now.Delivered != 0 || now.Subscriptions != 0 {
			t.Errorf("the job heard %d frames and %d messages, with %d subscriptions", now.FramesReceived-job.FramesReceived, now.Delivered, now.Subscriptions)
		}
	})
}

func TestBadCommandLines(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"-backplane", "inmem:", "-text", "x"},
		{"-backplane", "inmem:", "-ward", "4B"},
		{"-text", "x", "-ward", "4B"},
		{"-backplane", "inmem:", "-text", "x", "-ward", "4B", "odd"},
		{"-backplane", "nowhere:", "-text", "x", "-ward", "4B"},
		{"-backplane", "inmem:", "-text", "x", "-ward", ""},
	} {
		if err := run(t.Context(), args, new(bytes.Buffer)); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
