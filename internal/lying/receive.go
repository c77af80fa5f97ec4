package lying

import (
	"slices"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

const (
	latest   = 5 * time.Second  // how late a delayed frame is, at most
	longest  = 10 * time.Second // how late a repeat is, at most
	overtake = time.Second      // how long a frame waits for the next one of its channel
	slowest  = time.Second      // how long an answer takes, at most
	outage   = 7 * time.Second  // how long a burst is, at most
)

// receiver is the sink that the inner transport sees.
type receiver struct{ l *liar }

// held is a frame that will arrive late.
type held struct {
	link    transport.Link
	channel string
	data    []byte
	lie     Lie
	timer   *time.Timer
}

// Frame implements [transport.Sink].
func (r receiver) Frame(link transport.Link, channel string, data []byte) {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.deaf[link]:
		l.write(DeafLink, channel, data)
		return
	case l.lost[channel]:
		l.write(SilentLoss, channel, data)
		return
	case time.Now().Before(l.mute[publisher(data)]):
		l.write(Burst, channel, data)
		return
	}
	overtaken := slices.IndexFunc(l.held, func(h *held) bool { return h.lie == Reorder && h.channel == channel })
	switch lie := l.book.draw(Drop, Repeat, Reorder, Delay, Tear, Garble, SilentLoss, DeafLink, Burst); lie {
	case "":
		l.hand(link, channel, data)
	case Repeat:
		l.hand(link, channel, data)
		l.hold(link, channel, data, lie, l.book.within(longest))
	case Reorder:
		l.hold(link, channel, data, lie, overtake)
	case Delay:
		l.hold(link, channel, data, lie, l.book.within(latest))
	case Tear:
		l.write(lie, channel, data)
		l.hand(link, channel, data[:l.book.below(len(data))])
	case Garble:
		l.write(lie, channel, data)
		l.hand(link, channel, append([]byte{0xff}, data...)) // not a version of ours
	case SilentLoss:
		l.lost[channel] = true
		l.write(lie, channel, data)
	case Burst:
		l.mute[publisher(data)] = time.Now().Add(l.book.within(outage))
		l.write(lie, channel, data)
	case DeafLink:
		l.deaf[link] = true
		l.write(lie, channel, data)
	default:
		l.write(lie, channel, data)
	}
	if overtaken >= 0 {
		l.release(l.held[overtaken])
	}
}

// publisher returns who published a frame.
func publisher(data []byte) wire.Publisher {
	r, err := wire.NewReader(data)
	if err != nil {
		return wire.Publisher{} // nobody's
	}
	return r.Publisher
}

// Gap implements [transport.Sink].
func (r receiver) Gap(link transport.Link, channels []string, resubscribe bool, cause error) {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.l.sink.Gap(link, channels, resubscribe, cause)
}

// Down implements [transport.Sink].
func (r receiver) Down(link transport.Link, cause error) {
	r.l.forget(link)
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.l.sink.Down(link, cause)
}

// hand gives a frame to the engine. mu is held.
func (l *liar) hand(link transport.Link, channel string, data []byte) {
	l.write("", channel, data)
	l.sink.Frame(link, channel, data)
}

// hold keeps a frame for later. mu is held.
func (l *liar) hold(link transport.Link, channel string, data []byte, lie Lie, d time.Duration) {
	l.write(lie, channel, data)
	h := &held{link: link, channel: channel, data: data, lie: lie}
	h.timer = time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.release(h)
	})
	l.held = append(l.held, h)
}

// release hands over a frame that was held, unless that was done or it is lost. mu is held.
func (l *liar) release(h *held) {
	i := slices.Index(l.held, h)
	if i < 0 {
		return
	}
	h.timer.Stop()
	l.held = slices.Delete(l.held, i, i+1)
	l.hand(h.link, h.channel, h.data)
}

func (l *liar) write(lie Lie, channel string, data []byte) {
	l.book.write(Entry{Node: l.node, Lie: lie, Channel: channel, Data: data})
}
