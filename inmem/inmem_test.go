package inmem_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

func TestEverySubscriberHearsOnce(t *testing.T) {
	b := inmem.NewBroker()
	x := connected(t, b, "x", "one", "two")
	y := connected(t, b, "y", "one")
	z := connected(t, b, "z")
	x.mustPublish(t, "one", "1")
	z.mustPublish(t, "two", "2")
	y.mustPublish(t, "three", "3")
	x.hears(t, "one=1", "two=2")
	y.hears(t, "one=1")
	z.hears(t)
}

func TestBrokersNeverMeet(t *testing.T) {
	x := connected(t, inmem.NewBroker(), "x", "one")
	y := connected(t, inmem.NewBroker(), "y", "one")
	y.mustPublish(t, "one", "1")
	x.hears(t)
	y.hears(t, "one=1")
}

func TestSubscribeIsIdempotent(t *testing.T) {
	b := inmem.NewBroker()
	x := connected(t, b, "x", "one", "one")
	if errs := x.Subscribe(t.Context(), transport.OnlyLink, []string{"one"}); errs != nil {
		t.Error(errs)
	}
	x.mustPublish(t, "one", "1")
	x.hears(t, "one=1")
	if errs := x.Unsubscribe(t.Context(), transport.OnlyLink, []string{"one", "one", "other"}); errs != nil {
		t.Error(errs)
	}
	x.mustPublish(t, "one", "2")
	x.hears(t)
}

func TestPublisherMayReuseItsBuffer(t *testing.T) {
	b := inmem.NewBroker()
	var kept [][]byte
	tr, err := b.Opener()(transport.Config{Node: "x"})
	if err != nil {
		t.Fatal(err)
	}
	tr.Start(keeper{&kept})
	defer func() { wantErr(t, "close", tr.Close(), nil) }()
	if err = tr.Connect(t.Context(), transport.OnlyLink); err != nil {
		t.Fatal(err)
	}
	wantErrs(t, "subscribe", tr.Subscribe(t.Context(), transport.OnlyLink, []string{"one"}))
	buf := []byte("first")
	for _, s := range []string{"first", "other"} {
		copy(buf, s)
		wantErrs(t, "publish", tr.Publish(t.Context(), transport.OnlyLink, []transport.Frame{{Channel: "one", Data: buf}}))
	}
	if got := fmt.Sprintf("%s", kept); got != "[first other]" {
		t.Errorf("kept %s", got)
	}
	if cap(kept[0]) != len(kept[0]) {
		t.Errorf("an append to a frame would write into memory that others share: length %d, capacity %d", len(kept[0]), cap(kept[0]))
	}
}

type keeper struct{ frames *[][]byte }

func (k keeper) Frame(_ transport.Link, _ string, data []byte) { *k.frames = append(*k.frames, data) }
func (k keeper) Gap(transport.Link, []string, bool, error)     {}
func (k keeper) Down(transport.Link, error)                    {}

// All nodes hear all channels in one order, and each publisher's frames in its own.
func TestOneOrderForAll(t *testing.T) {
	const nodes, batches, batch = 4, 200, 3
	b := inmem.NewBroker()
	peers := make([]*peer, nodes)
	for i := range peers {
		peers[i] = connected(t, b, transport.NodeID(fmt.Sprint("n", i)), "one", "two")
	}
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			for i := range batches {
				frames := make([]transport.Frame, 0, batch)
				for j := range batch {
					channel := []string{"one", "two"}[(i+j)%2]
					frames = append(frames, transport.Frame{Channel: channel, Data: fmt.Appendf(nil, "%s/%06d", p.id, i*batch+j)})
				}
				if errs := p.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
					t.Errorf("publish: %v", errs)
				}
			}
		})
	}
	wg.Wait()
	first := peers[0].take()
	if len(first) != nodes*batches*batch {
		t.Fatalf("heard %d frames, want %d", len(first), nodes*batches*batch)
	}
	for _, p := range peers[1:] {
		if !slices.Equal(p.take(), first) {
			t.Errorf("%s heard another order than %s", p.id, peers[0].id)
		}
	}
	for _, p := range peers {
		last := ""
		for _, s := range first {
			_, data, _ := strings.Cut(s, "=")
			if strings.HasPrefix(data, string(p.id)) {
				if data <= last {
					t.Errorf("%s after %s", data, last)
				}
				last = data
			}
		}
	}
}

// From the return of Subscribe on every frame arrives, whatever else goes on; after the return of Disconnect none does.
func TestSubscribeAndDisconnectAreExact(t *testing.T) {
	b := inmem.NewBroker()
	pub := connected(t, b, "pub")
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	for range 2 {
		traffic.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					pub.mustPublish(t, "one", "noise")
				}
			}
		})
	}
	var subs sync.WaitGroup
	for i := range 4 {
		p := join(t, b, transport.NodeID(fmt.Sprint("s", i)))
		subs.Go(func() {
			for n := range 200 {
				wantErr(t, "connect", p.Connect(t.Context(), transport.OnlyLink), nil)
				wantErrs(t, "subscribe", p.Subscribe(t.Context(), transport.OnlyLink, []string{"one"}))
				p.take()
				mark := fmt.Sprint("mark ", n)
				p.mustPublish(t, "one", mark)
				if !slices.Contains(p.take(), "one="+mark) {
					t.Errorf("%s did not hear %s, which followed its Subscribe", p.id, mark)
				}
				if n%2 == 0 {
					wantErrs(t, "unsubscribe", p.Unsubscribe(t.Context(), transport.OnlyLink, []string{"one"}))
					p.take()
					p.mustPublish(t, "one", mark)
				} else {
					p.Disconnect(transport.OnlyLink)
					p.take()
					pub.mustPublish(t, "one", mark)
				}
				p.hears(t)
			}
		})
	}
	subs.Wait()
	close(stop)
	traffic.Wait()
}

func TestStates(t *testing.T) {
	b := inmem.NewBroker()
	x := join(t, b, "x")
	channels := []string{"one", "two"}
	check := func(what string, want error) {
		t.Helper()
		wantErrs(t, what+": publish", x.Publish(t.Context(), 0, x.frames("one", "1", "2")), want, want)
		wantErrs(t, what+": subscribe", x.Subscribe(t.Context(), 0, channels), want, want)
		wantErrs(t, what+": unsubscribe", x.Unsubscribe(t.Context(), 0, channels), want, want)
	}
	check("before Connect", transport.ErrUnavailable)
	x.Disconnect(transport.OnlyLink)
	wantErr(t, "connect", x.Connect(t.Context(), 0), nil)
	wantErrs(t, "subscribe", x.Subscribe(t.Context(), 0, channels))
	wantErr(t, "connect again", x.Connect(t.Context(), 0), nil)
	x.mustPublish(t, "one", "1")
	x.hears(t) // a new connection has no subscriptions, and Connect itself reports no Down
	x.Disconnect(transport.OnlyLink)
	check("after Disconnect", transport.ErrUnavailable)
	wantErr(t, "connect", x.Connect(t.Context(), 0), nil)
	wantErr(t, "close", x.Close(), nil)
	check("after Close", transport.ErrClosed)
	wantErr(t, "connect after Close", x.Connect(t.Context(), 0), transport.ErrClosed)
	wantErr(t, "close again", x.Close(), nil)
	b.Cut("x")
	x.hears(t)
	join(t, b, "x") // the id is free again
}

func TestOpenerRefuses(t *testing.T) {
	letters := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
	}
	taken := inmem.NewBroker()
	join(t, taken, "x")
	for name, tc := range map[string]struct {
		open transport.Opener
		say  string
	}{
		"id taken":         {taken.Opener(), `"x"`},
		"backlog":          {inmem.New(inmem.Options{Backlog: -1}), "Backlog"},
		"frame":            {inmem.New(inmem.Options{Limits: transport.Limits{MaxFrame: -1}}), "MaxFrame"},
		"channel":          {inmem.New(inmem.Options{Limits: transport.Limits{MaxChannel: 59}}), "MaxChannel"},
		"bytes":            {inmem.New(inmem.Options{Limits: transport.Limits{ChannelByte: func(c byte) bool { return c == 'a' }}}), "ChannelByte"},
		"delimiter":        {inmem.New(inmem.Options{Limits: transport.Limits{ChannelByte: letters}}), `':'`},
		"url of another":   {inmem.URL("redis://u:secret@host"), "inmem:"},
		"url with host":    {inmem.URL("inmem://secret"), "inmem:"},
		"url with query":   {inmem.URL("inmem:?colour=secret"), `"colour"`},
		"url with word":    {inmem.URL("inmem:?secret"), "parameter"},
		"url with odd key": {inmem.URL("inmem:?@secret=1"), "parameter"},
		"url is no url":    {inmem.URL("secret"), "inmem:"},
		"url with opaque":  {inmem.URL("inmem:secret"), "inmem:"},
		"url is empty":     {inmem.URL(""), "inmem:"},
		"delimiter is set": {inmem.New(inmem.Options{Limits: transport.Limits{ChannelByte: letters, Delimiter: '.'}}), `'.'`},
	} {
		_, err := tc.open(transport.Config{Node: "x"})
		wantErr(t, name, err, transport.ErrInvalidOption)
		if err != nil && (!strings.Contains(err.Error(), tc.say) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %q must say %q and no secret", name, err, tc.say)
		}
	}
}

func TestURLIsANewBroker(t *testing.T) {
	open := inmem.URL("inmem:")
	x := peer{id: "x"}
	for _, o := range []transport.Opener{open, inmem.URL("INMEM://"), open} {
		x.id += "x"
		tr, err := o(transport.Config{Node: x.id})
		if err != nil {
			t.Fatal(err)
		}
		tr.Start(&x)
		t.Cleanup(func() { wantErr(t, "close", tr.Close(), nil) })
		wantErr(t, "connect", tr.Connect(t.Context(), 0), nil)
		wantErrs(t, "subscribe", tr.Subscribe(t.Context(), 0, []string{"one"}))
		x.Transport = tr
	}
	x.mustPublish(t, "one", "1")
	x.hears(t, "one=1", "one=1") // the two of one opener
}

func TestLimits(t *testing.T) {
	limits := transport.Limits{
		MaxFrame:    4,
		MaxChannel:  60,
		ChannelByte: func(c byte) bool { return c != ' ' },
		Delimiter:   '.',
		Shared:      true,
	}
	b := inmem.NewBrokerWith(inmem.Options{Limits: limits})
	x := connected(t, b, "x", "one")
	if got := x.Limits(); got.MaxFrame != 4 || got.MaxChannel != 60 || got.Delimiter != '.' || !got.Shared || got.ChannelByte(' ') {
		t.Errorf("limits are %+v", got)
	}
	wantErrs(t, "publish", x.Publish(t.Context(), 0, x.frames("one", "four", "fiive", "")), nil, transport.ErrTooLarge, nil)
	x.hears(t, "one=four", "one=")
	long := strings.Repeat("l", 61)
	wantErrs(t, "subscribe", x.Subscribe(t.Context(), 0, []string{long[1:], long, "a b"}), nil, transport.ErrDenied, transport.ErrDenied)
	wantErr(t, "publish", x.publish(t, long[1:], "1"), nil)
	wantErr(t, "publish", x.publish(t, long, "2"), transport.ErrDenied)
	wantErr(t, "publish", x.publish(t, "a b", "3"), transport.ErrDenied)
	x.hears(t, long[1:]+"=1")
}
