package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/gobackplane/backplane/integration/redisserver"
	"github.com/gobackplane/backplane/redis"
	"github.com/gobackplane/backplane/transport"
)

// What every transport does that has a broker: transport by transport there is only what is its own.

// overEachTransport runs a test over each kind of server, and each way to get to it.
func overEachTransport(t *testing.T, f func(t *testing.T, open transport.Opener)) {
	t.Run("miniredis", func(t *testing.T) { f(t, redis.URL("redis://"+miniredis.RunT(t).Addr())) })
	overEachServer(t, f)
}

// overEachServer leaves out miniredis, which is no server: it hands a message to a subscriber after it has answered who
// published it.
func overEachServer(t *testing.T, f func(t *testing.T, open transport.Opener)) {
	t.Run("redis-server", func(t *testing.T) { f(t, redis.URL(redisserver.Start(t, redisserver.Options{}).URL())) })
	t.Run("nats", func(t *testing.T) { overNATS(t, f) })
}

func TestTransportCarriesFramesInOrder(t *testing.T) {
	overEachTransport(t, func(t *testing.T, open transport.Opener) {
		a, b := connected(t, open), connected(t, open)
		one, two, nobody := a.channel("one"), a.channel("two"), a.channel("nobody")
		a.subscribed(t, one, two)
		b.subscribed(t, one)
		frames := make([]transport.Frame, 1000)
		for i := range frames {
			frames[i] = transport.Frame{Channel: []string{one, two, nobody}[i%3], Data: fmt.Append(nil, i)}
		}
		if errs := a.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
		a.published(t, one, "last")
		a.awaitFrame(t, one, "last")
		b.awaitFrame(t, one, "last")
		want := slices.Concat(frames, []transport.Frame{{Channel: one, Data: []byte("last")}})
		i := 0
		for _, got := range a.sink.take() {
			for want[i].Channel == nobody {
				i++
			}
			if got.Channel != want[i].Channel || string(got.Data) != string(want[i].Data) {
				t.Fatalf("heard %s %q, want %s %q", got.Channel, got.Data, want[i].Channel, want[i].Data)
			}
			i++
		}
		if i != len(want) {
			t.Errorf("heard up to frame %d of %d", i, len(want))
		}
		if n := len(b.sink.take()); n != 335 {
			t.Errorf("the node on one channel heard %d frames, want 335", n)
		}
	})
}

// A channel's name is any bytes that the limits allow, as long as they allow, and a payload any bytes.
func TestTransportCarriesAnyBytes(t *testing.T) {
	overEachTransport(t, func(t *testing.T, open transport.Opener) {
		r := connected(t, open)
		limits, bytewise, allowed := r.Limits(), make([]byte, 256), []byte(nil)
		for i := range bytewise {
			bytewise[i] = byte(i)
			if b := byte(i); limits.ChannelByte == nil || b != limits.Delimiter && limits.ChannelByte(b) {
				allowed = append(allowed, b)
			}
		}
		longest := limits.MaxChannel
		if longest == 0 { // there is none
			longest = 100_000
		}
		base := r.channel("")
		names := []string{base + "a", base + string(allowed), base + strings.Repeat("g", longest-len(base))}
		if limits.ChannelByte == nil {
			names = append(names, base, base+"*", base+"\r\n$1\r\n", base+" \x00ä")
		}
		r.subscribed(t, names...)
		for _, name := range names {
			for _, data := range [][]byte{{}, []byte("\r\n"), bytewise, bytes.Repeat(bytewise, 4<<10)} {
				r.published(t, name, string(data))
				r.sink.await(t, "a frame", func() bool { return len(r.sink.frames) > 0 })
				if got := r.sink.take(); len(got) != 1 || got[0].Channel != name || !bytes.Equal(got[0].Data, data) {
					t.Fatalf("%d frames came for %d bytes on %.20q", len(got), len(data), name)
				}
			}
		}
	})
}

// When Subscribe has returned every channel is heard, and when Unsubscribe has returned none is.
func TestTransportConfirmsManyChannels(t *testing.T) {
	overEachTransport(t, func(t *testing.T, open transport.Opener) {
		r := connected(t, open)
		n := 20_000
		if strings.HasSuffix(t.Name(), "miniredis") { // its cost of a frame grows with the channels
			n = 2000
		}
		names, frames := make([]string, n), make([]transport.Frame, n)
		for i := range names {
			names[i] = r.channel(strconv.Itoa(i))
			frames[i] = transport.Frame{Channel: names[i], Data: []byte(names[i])}
		}
		r.subscribed(t, names...)
		r.subscribed(t, names[:10]...) // again: they must not be heard twice
		publish := func() {
			for batch := range slices.Chunk(frames, 2000) {
				if errs := r.Publish(t.Context(), transport.OnlyLink, batch); errs != nil {
					t.Fatal(errors.Join(errs...))
				}
			}
		}
		publish()
		r.sink.await(t, "every frame", func() bool { return len(r.sink.frames) >= n })
		for i, f := range r.sink.take() {
			if f.Channel != names[i] || string(f.Data) != names[i] {
				t.Fatalf("frame %d is %q on %s", i, f.Data, f.Channel)
			}
		}
		if errs := r.Unsubscribe(t.Context(), transport.OnlyLink, names[1:]); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
		publish()
		r.published(t, names[0], "fence")
		r.awaitFrame(t, names[0], "fence")
		if got := r.sink.take(); len(got) != 2 {
			t.Errorf("%d frames came, want that of the channel that is left, and the fence", len(got))
		}
	})
}

// What was sent before a confirmation is with the sink when Subscribe returns.
func TestTransportConfirmationsDoNotOvertakeFrames(t *testing.T) {
	overEachServer(t, func(t *testing.T, open transport.Opener) {
		r, other := connected(t, open), connected(t, open)
		a := r.channel("a")
		r.subscribed(t, a)
		frames := slices.Repeat([]transport.Frame{{Channel: a, Data: make([]byte, 100)}}, 500)
		for i := range 20 {
			if errs := other.Publish(t.Context(), transport.OnlyLink, frames); errs != nil {
				t.Fatal(errors.Join(errs...))
			}
			r.subscribed(t, r.channel(fmt.Sprint("b", i)))
			if n := len(r.sink.take()); n != len(frames) {
				t.Fatalf("%d of %d frames had reached the sink", n, len(frames))
			}
		}
	})
}

// A new connection has no subscriptions, and nothing of the old one is heard any more.
func TestTransportConnectsAnew(t *testing.T) {
	overEachTransport(t, func(t *testing.T, open transport.Opener) {
		r := connected(t, open)
		a, b := r.channel("a"), r.channel("b")
		r.subscribed(t, a)
		if err := r.Connect(t.Context(), transport.OnlyLink); err != nil {
			t.Fatal(err)
		}
		r.subscribed(t, b)
		r.published(t, a, "nobody")
		r.published(t, b, "fence")
		r.awaitFrame(t, b, "fence")
		if got := r.sink.take(); len(got) != 1 {
			t.Errorf("%d frames came, want the fence", len(got))
		}
		if len(r.sink.downs) > 0 {
			t.Errorf("Down: %v", r.sink.downs)
		}
	})
}
