package lying_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/lying"
	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// listener is a sink that writes down what it gets.
type listener struct {
	mu  sync.Mutex
	got []string // guarded by mu
}

func (l *listener) Frame(_ transport.Link, channel string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := []byte("?")
	if r, err := wire.NewReader(data); err == nil {
		var m wire.Message
		text = nil
		for r.Next(&m) {
			text = append(text, m.Payload...)
		}
	}
	l.got = append(l.got, channel+":"+string(text))
}

func (l *listener) Gap(transport.Link, []string, bool, error) {}
func (l *listener) Down(transport.Link, error)                {}

func (l *listener) heard() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.got)
}

// pairOf connects two nodes to a broker; the second lies.
func pairOf(t *testing.T, book *lying.Book) (honest, liar transport.Transport, heard *listener) {
	t.Helper()
	broker := inmem.NewBroker()
	heard = &listener{}
	for i, open := range []transport.Opener{broker.Opener(), book.Wrap(broker.Opener())} {
		tr, err := open(transport.Config{Node: transport.NodeID(strconv.Itoa(i))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		})
		sink := &listener{}
		if i == 1 {
			sink, liar = heard, tr
		} else {
			honest = tr
		}
		tr.Start(sink)
		if err := tr.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
	}
	if errs := liar.Subscribe(t.Context(), transport.OnlyLink, []string{"a", "b"}); errs != nil {
		t.Fatal(errs)
	}
	return honest, liar, heard
}

// frameOf is a frame with one message.
func frameOf(channel, payload string) transport.Frame {
	b := wire.AppendHeader(nil, wire.Publisher{7})
	return transport.Frame{Channel: channel, Data: wire.AppendMessage(b, wire.Data, 'g', "", channel, 1, 1, nil, []byte(payload))}
}

func send(t *testing.T, tr transport.Transport, frames ...transport.Frame) []error {
	t.Helper()
	return tr.Publish(t.Context(), transport.OnlyLink, frames)
}

func TestLiesAboutFramesThatComeIn(t *testing.T) {
	for lie, want := range map[lying.Lie]struct{ soon, late []string }{
		lying.Drop:       {nil, nil},
		lying.Repeat:     {[]string{"a:1", "b:2", "a:3"}, []string{"a:1", "b:2", "a:3", "a:1", "b:2", "a:3"}},
		lying.Delay:      {nil, []string{"a:1", "b:2", "a:3"}},
		lying.Tear:       {[]string{"a:", "b:", "a:"}, []string{"a:", "b:", "a:"}},
		lying.Garble:     {[]string{"a:?", "b:?", "a:?"}, []string{"a:?", "b:?", "a:?"}},
		lying.SilentLoss: {nil, nil},
		lying.DeafLink:   {nil, nil},
		lying.Burst:      {nil, nil},
	} {
		t.Run(string(lie), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := lying.NewBook(1, nil)
				honest, _, heard := pairOf(t, book)
				book.SetOdds(lying.Odds{lie: 1})
				if errs := send(t, honest, frameOf("a", "1"), frameOf("b", "2"), frameOf("a", "3")); errs != nil {
					t.Fatal(errs)
				}
				book.SetOdds(nil)
				compare(t, "soon", heard.heard(), want.soon, lie)
				time.Sleep(20 * time.Second)
				compare(t, "late", heard.heard(), want.late, lie)
				if book.Told(lie) == 0 {
					t.Error("the book does not count it")
				}
			})
		})
	}
}

func compare(t *testing.T, when string, got, want []string, lie lying.Lie) {
	t.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	if lie == lying.Repeat || lie == lying.Delay { // at times that are drawn
		slices.Sort(got)
		slices.Sort(want)
	}
	if lie == lying.Tear { // where is drawn; whole messages are not among what is left
		for i := range got {
			got[i] = got[i][:2]
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: heard %q, want %q", when, got, want)
	}
}

func TestReorderedFrameIsOvertakenByTheNextOfItsChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := lying.NewBook(1, nil)
		honest, _, heard := pairOf(t, book)
		book.SetOdds(lying.Odds{lying.Reorder: 1})
		send(t, honest, frameOf("a", "1"))
		book.SetOdds(nil)
		send(t, honest, frameOf("b", "2"), frameOf("a", "3"))
		if got, want := heard.heard(), []string{"b:2", "a:3", "a:1"}; !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
	})
}

// What lasts ends when the link is connected, and a lost channel also when it is unsubscribed.
func TestWhatLastsEnds(t *testing.T) {
	for name, c := range map[string]struct {
		lie  lying.Lie
		cure func(context.Context, transport.Transport) error
	}{
		"silent loss, connected": {lying.SilentLoss, func(ctx context.Context, tr transport.Transport) error { return tr.Connect(ctx, transport.OnlyLink) }},
		"deaf link, connected":   {lying.DeafLink, func(ctx context.Context, tr transport.Transport) error { return tr.Connect(ctx, transport.OnlyLink) }},
		"silent loss, unsubscribed": {lying.SilentLoss, func(ctx context.Context, tr transport.Transport) error {
			return errors.Join(tr.Unsubscribe(ctx, transport.OnlyLink, []string{"a"})...)
		}},
		"burst, over": {lying.Burst, func(context.Context, transport.Transport) error { pass(7 * time.Second); return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := lying.NewBook(1, nil)
				honest, liar, heard := pairOf(t, book)
				book.SetOdds(lying.Odds{c.lie: 1})
				send(t, honest, frameOf("a", "1"))
				book.SetOdds(nil)
				send(t, honest, frameOf("a", "2"))
				if got := heard.heard(); len(got) != 0 {
					t.Errorf("heard %q", got)
				}
				if err := c.cure(t.Context(), liar); err != nil {
					t.Fatal(err)
				}
				if errs := liar.Subscribe(t.Context(), transport.OnlyLink, []string{"a"}); errs != nil {
					t.Fatal(errs)
				}
				send(t, honest, frameOf("a", "3"))
				if got, want := heard.heard(), []string{"a:3"}; !slices.Equal(got, want) {
					t.Errorf("heard %q, want %q", got, want)
				}
			})
		})
	}
}

// A liar must keep the rules of a sink: nothing comes after Disconnect, not even what was held back.
func TestNothingComesAfterDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := lying.NewBook(1, nil)
		honest, liar, heard := pairOf(t, book)
		book.SetOdds(lying.Odds{lying.Delay: 1})
		send(t, honest, frameOf("a", "1"))
		liar.Disconnect(transport.OnlyLink)
		time.Sleep(time.Minute)
		if got := heard.heard(); len(got) != 0 {
			t.Errorf("heard %q", got)
		}
	})
}

func TestLiesAboutPublishing(t *testing.T) {
	for lie, want := range map[lying.Lie]struct {
		err   error
		taken bool
	}{
		lying.SentUnknown: {transport.ErrUncertain, true},
		lying.LostUnknown: {transport.ErrUncertain, false},
		lying.LostTaken:   {nil, false},
		lying.Refused:     {transport.ErrUnavailable, false},
	} {
		t.Run(string(lie), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := lying.NewBook(1, nil)
				_, liar, heard := pairOf(t, book)
				book.SetOdds(lying.Odds{lie: 1})
				errs := send(t, liar, frameOf("a", "1"), frameOf("b", "2"))
				for i := range 2 {
					var err error
					if errs != nil {
						err = errs[i]
					}
					if !errors.Is(err, want.err) || want.err == nil && err != nil {
						t.Errorf("frame %d: %v, want %v", i, err, want.err)
					}
				}
				if got := heard.heard(); (len(got) == 2) != want.taken {
					t.Errorf("heard %q", got)
				}
				for _, e := range book.Entries() {
					if e.Out && (e.Lie != lie || !errors.Is(e.Err, want.err)) {
						t.Errorf("the book says %q, %v", e.Lie, e.Err)
					}
				}
			})
		})
	}
}

func TestLiesAboutSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := lying.NewBook(1, nil)
		honest, liar, heard := pairOf(t, book)
		ask := func(lie lying.Lie, f func(context.Context, transport.Link, []string) []error, channel string) []error {
			book.SetOdds(lying.Odds{lie: 1})
			defer book.SetOdds(nil)
			return f(t.Context(), transport.OnlyLink, []string{channel})
		}
		if errs := ask(lying.FalseConfirm, liar.Subscribe, "c"); errs != nil {
			t.Error(errs)
		}
		if errs := ask(lying.FalseFailure, liar.Subscribe, "d"); errs == nil || !errors.Is(errs[0], transport.ErrUnavailable) {
			t.Error(errs)
		}
		if errs := ask(lying.FalseLeave, liar.Unsubscribe, "a"); errs != nil {
			t.Error(errs)
		}
		if errs := ask(lying.FalseFailure, liar.Unsubscribe, "b"); errs == nil || !errors.Is(errs[0], transport.ErrUnavailable) {
			t.Error(errs)
		}
		send(t, honest, frameOf("a", "1"), frameOf("b", "2"), frameOf("c", "3"), frameOf("d", "4"))
		if got, want := heard.heard(), []string{"a:1", "d:4"}; !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
		began := time.Now()
		ask(lying.Slow, liar.Subscribe, "e")
		if d := time.Since(began); d <= 0 || d > time.Second {
			t.Errorf("a slow answer took %v", d)
		}
	})
}
