package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/transport"
)

func channels(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("ward:%d", i)
	}
	return names
}

// guard lets only some channels be subscribed, and refuses a command with another one whole.
func guard(f *fake, forbidden func(channel string) bool, reply string) {
	f.on("SUBSCRIBE", func(c *fakeConn, args []string) string {
		if slices.ContainsFunc(args[1:], forbidden) {
			return reply + "\r\n"
		}
		return ordinary(c, args)
	})
}

func TestSubscribeCutsAndConfirms(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	n := connect(t, to(f))
	all := channels(10_000)
	if errs := n.Subscribe(t.Context(), transport.OnlyLink, all); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	if errs := n.Unsubscribe(t.Context(), transport.OnlyLink, all[:600]); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	got := f.commands()
	if len(got) != 22 { // 20 × 512, and 2
		t.Errorf("%d commands", len(got))
	}
	var names []string
	for _, command := range got[:20] {
		fields := strings.Fields(command)
		if fields[0] != "SUBSCRIBE" || len(fields) > 513 {
			t.Errorf("%s with %d channels", fields[0], len(fields)-1)
		}
		names = append(names, fields[1:]...)
	}
	if !slices.Equal(names, all) {
		t.Error("not the channels, in order")
	}
	long := make([]string, 100)
	for i := range long {
		long[i] = strings.Repeat("x", 3000) + strconv.Itoa(i)
	}
	if errs := n.Subscribe(t.Context(), transport.OnlyLink, long); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	for _, command := range f.commands()[22:] {
		if len(command) > 70<<10 {
			t.Errorf("a command of %d bytes", len(command))
		}
	}
	if errs := n.Subscribe(t.Context(), transport.OnlyLink, nil); errs != nil {
		t.Error(errs)
	}
}

// The channels that the user has no permission for are found, and no other is refused.
func TestSubscribeFindsTheForbidden(t *testing.T) {
	t.Parallel()
	for _, forbidden := range [][]int{{0}, {511}, {512}, {1999}, {0, 1, 2, 3}, {7, 700, 701, 1500}, {}} {
		f := newFake(t)
		guard(f, func(channel string) bool {
			return slices.ContainsFunc(forbidden, func(i int) bool { return channel == fmt.Sprintf("ward:%d", i) })
		}, "-NOPERM No permissions to access a channel")
		n := connect(t, to(f))
		errs := n.Subscribe(t.Context(), transport.OnlyLink, channels(2000))
		var denied []int
		for i, err := range errs {
			if err == nil {
				continue
			}
			if class(t, err) != "denied" || !strings.Contains(err.Error(), "&namespace:*") {
				t.Error(err)
			}
			denied = append(denied, i)
		}
		if !slices.Equal(denied, forbidden) && len(denied)+len(forbidden) > 0 {
			t.Errorf("forbidden %v, denied %v", forbidden, denied)
		}
		if most := 4 + 22*len(forbidden); len(f.commands()) > most {
			t.Errorf("forbidden %v: %d commands, want at most %d", forbidden, len(f.commands()), most)
		}
		n.sink.await(t) // the link goes on
	}
}

// What is refused for another reason than a channel is not searched for.
func TestSubscribeRefusedWhole(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		"-NOPERM User ward has no permissions to run the 'subscribe' command":  "denied",
		"-NOPERM this user has no permissions to run the 'subscribe' command":  "denied",
		"-LOADING Redis is loading the dataset in memory":                      "unavailable",
		"-ERR unknown command 'SUBSCRIBE', with args beginning with: 'ward:0'": "denied",
	} {
		f := newFake(t)
		guard(f, func(string) bool { return true }, reply)
		n := connect(t, to(f))
		errs := n.Subscribe(t.Context(), transport.OnlyLink, channels(1000))
		if len(errs) != 1000 {
			t.Fatalf("%s: %d outcomes", reply, len(errs))
		}
		for _, err := range errs {
			if class(t, err) != want || strings.Contains(err.Error(), "ward:0") {
				t.Fatalf("%s: %v", reply, err)
			}
		}
		if len(f.commands()) != 2 {
			t.Errorf("%s: %d commands", reply, len(f.commands()))
		}
	}
}

// Frames go on while subscriptions are confirmed and refused, also those that come between the confirmations of one
// command, and one byte at a time.
func TestFramesBetweenConfirmations(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.on("SUBSCRIBE", func(c *fakeConn, args []string) string {
		var b strings.Builder
		for i, channel := range args[1:] {
			b.WriteString(message("ward:other", fmt.Sprint("before ", i)))
			b.WriteString(confirmation("subscribe", channel, i))
			b.WriteString(message(channel, "\r\n$-1\r\n"))
		}
		for _, x := range []byte(b.String()) {
			if _, err := c.Write([]byte{x}); err != nil {
				return ""
			}
		}
		return message("", "") + "-NOPERM x\r\n"
	})
	n := connect(t, to(f))
	if errs := n.Subscribe(t.Context(), transport.OnlyLink, []string{"ward:a", "ward:b"}); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	// The refusal was for nothing that was asked: it is taken for the reason of what follows.
	n.sink.await(t, "frame ward:other before 0", "frame ward:a \r\n$-1\r\n", "frame ward:other before 1", "frame ward:b \r\n$-1\r\n", "frame  ", "down")
	if err := n.sink.cause(); class(t, err) != "denied" {
		t.Error(err)
	}
	f.on("SUBSCRIBE", func(c *fakeConn, args []string) string {
		return ordinary(c, args) + message(strings.Repeat("n", receiveBuffer), "long name") + message("ward:big", strings.Repeat("z", 3*trusted+1))
	})
	n = connect(t, to(f))
	if errs := n.Subscribe(t.Context(), transport.OnlyLink, []string{"ward:a"}); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	n.sink.await(t, "frame "+strings.Repeat("n", receiveBuffer)+" long name", fmt.Sprintf("frame ward:big %d bytes", 3*trusted+1))
}

// A subscription that the server ends by itself is a gap of its channel.
func TestSubscriptionEndedByTheServer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.on("UNSUBSCRIBE", func(c *fakeConn, args []string) string {
		return confirmation("unsubscribe", "ward:b", 1) + ordinary(c, args)
	})
	n := connect(t, to(f))
	if errs := n.Subscribe(t.Context(), transport.OnlyLink, []string{"ward:a", "ward:b"}); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	if errs := n.Unsubscribe(t.Context(), transport.OnlyLink, []string{"ward:a"}); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	n.sink.await(t, "gap [ward:b] true")
	if n.sink.cause() == nil {
		t.Error("a gap without a cause")
	}
}

// What a server must not send ends the link, with one Down, and everything that waits.
func TestNonsenseEndsTheLink(t *testing.T) {
	t.Parallel()
	for _, nonsense := range []string{
		"+OK\r\n", ":1\r\n", "$3\r\nfoo\r\n", "*3\r\n$3\r\nfoo\r\n$1\r\na\r\n:1\r\n", "*4\r\n$7\r\nmessage\r\n", "*-1\r\n", "\r\n", "*\r\n", "*x\r\n", "*3\n",
		"*3\r\n:7\r\n", "*3\r\n$-1\r\n", "*3\r\n$7\r\nmessageXX", "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$536870913\r\n",
		"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\naXX",
		"*3\r\n$7\r\nmessage\r\n$99999999999999999999\r\n", confirmation("subscribe", "ward:other", 1),
		confirmation("subscribe", "ward:0", 1) + "-NOPERM x\r\n",
		"*3\r\n$9\r\nsubscribe\r\n$6\r\nward:0\r\n$1\r\n1\r\n", strings.Repeat("*", receiveBuffer), "-" + strings.Repeat("x", receiveBuffer) + "\r\n",
	} {
		f := newFake(t)
		f.says("SUBSCRIBE", nonsense)
		n := connect(t, to(f))
		errs := n.Subscribe(t.Context(), transport.OnlyLink, channels(2))
		if got := classesOf(t, errs); got != "unavailable,unavailable" {
			t.Errorf("%.60q: %s: %v", nonsense, got, errors.Join(errs...))
		}
		n.sink.await(t, "down")
		if got := classesOf(t, n.send(t.Context(), "x")); got != "unavailable" {
			t.Errorf("%.60q: afterwards: %s", nonsense, got)
		}
	}
}

// A message that is cut off is not handed over.
func TestTornMessage(t *testing.T) {
	t.Parallel()
	whole := message("ward:a", "hello")
	for cut := 1; cut < len(whole); cut++ {
		f := newFake(t)
		f.on("SUBSCRIBE", func(c *fakeConn, args []string) string {
			_, _ = io.WriteString(c, ordinary(c, args)+whole+whole[:cut])
			_ = c.Close()
			return ""
		})
		n := connect(t, to(f))
		n.Subscribe(t.Context(), transport.OnlyLink, []string{"ward:a"}) // the end of the link may overtake its outcome
		n.sink.await(t, "frame ward:a hello", "down")
		if err := n.sink.cause(); class(t, err) != "unavailable" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// What ends a Subscribe under way: nothing of it is confirmed, and a context leaves the link as it is.
func TestSubscribeInterrupted(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"context", "Disconnect", "Close", "Connect", "Down"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			release := make(chan struct{})
			came := make(chan struct{}, 100)
			f.on("SUBSCRIBE", func(c *fakeConn, args []string) string {
				if args[1] == "ward:0" {
					return ordinary(c, args)
				}
				came <- struct{}{}
				<-release
				return ordinary(c, args)
			})
			n := connect(t, to(f))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			outcome := make(chan []error, 1)
			names := channels(20 * batchChannels)
			go func() { outcome <- n.Subscribe(ctx, transport.OnlyLink, names) }()
			<-came
			switch way {
			case "context":
				cancel()
			case "Disconnect":
				n.Disconnect(transport.OnlyLink)
			case "Close":
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			case "Connect":
				if err := n.Connect(t.Context(), transport.OnlyLink); err != nil {
					t.Error(err)
				}
			case "Down":
				f.kick()
				n.sink.await(t, "down")
			}
			errs := <-outcome
			clear(names) // they are the caller's again
			close(release)
			if len(errs) != 20*batchChannels {
				t.Fatalf("%d outcomes", len(errs))
			}
			for i, err := range errs {
				// The first command was confirmed; whether its confirmation was seen in time is open.
				if got := class(t, err); got != "unavailable" && (got != "taken" || i >= batchChannels) {
					t.Fatalf("channel %d: %v", i, err)
				}
			}
			if way != "context" {
				return
			}
			if err := errs[len(errs)-1]; !errors.Is(err, context.Canceled) {
				t.Errorf("%v is not a canceled context", err)
			}
			// The late confirmations belong to nobody, and disturb nobody.
			if errs := n.Subscribe(t.Context(), transport.OnlyLink, []string{"ward:late"}); errs != nil {
				t.Error(errors.Join(errs...))
			}
			n.sink.await(t)
		})
	}
}

// Calls share the connection, and each gets its own answers.
func TestConcurrentSubscribes(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	guard(f, func(channel string) bool { return strings.HasSuffix(channel, "7") }, "-NOPERM No permissions to access a channel")
	n := connect(t, to(f))
	const callers = 200
	results := make(chan error, callers)
	for i := range callers {
		go func() {
			names := []string{fmt.Sprintf("ward:%d:3", i), fmt.Sprintf("ward:%d:7", i), fmt.Sprintf("ward:%d:5", i)}
			errs := n.Subscribe(t.Context(), transport.OnlyLink, names)
			if got := classesOf(t, errs); got != "taken,denied,taken" {
				results <- fmt.Errorf("caller %d: %s", i, got)
				return
			}
			if errs := n.Unsubscribe(t.Context(), transport.OnlyLink, names); errs != nil {
				results <- errors.Join(errs...)
				return
			}
			results <- nil
		}()
	}
	for range callers {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	n.sink.await(t)
}
