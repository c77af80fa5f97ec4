package backplane_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/wire"
)

var foreign = wire.Publisher{9, 9, 9}

// What cannot be read is counted, told to the subscriptions of its channel, and logged once for a burst.
func TestUnreadableFrames(t *testing.T) {
	good := frameOf(foreign, 1, 1, "good")
	for name, frame := range map[string][]byte{
		"empty":             {},
		"unknown version":   {2, 0, 0, 0, 0, 0, 0, 0, 0},
		"short header":      {wire.Version, 1, 2},
		"cut off":           good[:len(good)-1],
		"unknown flag":      append(bytes.Clone(good), 0xc1),
		"length that lies":  append(bytes.Clone(good), 0x01, 'g', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"must-understand":   wire.AppendMessage(wire.AppendHeader(nil, foreign), wire.Data, 'g', "", ward.Name(), 1, 1, wire.AppendField(nil, 7, nil), []byte("x")),
		"fields that break": wire.AppendMessage(wire.AppendHeader(nil, foreign), wire.Data, 'g', "", ward.Name(), 1, 1, []byte{0xff}, []byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := inmem.NewBroker()
				var log logbook
				n := open(t, broker.Opener(), backplane.Options{Logger: log.logger()})
				at, _ := listen(t, n, ward)
				other, _ := listen(t, n, backplane.User("u"))
				s := joinStranger(t, broker)
				for range 5 {
					s.send(t, wardChannel, frame)
				}
				heard := at.heard()
				gaps, messages := 0, 0
				for _, h := range heard {
					switch {
					case strings.HasPrefix(h, "gap:unreadable:"):
						gaps++
					case h == "good":
						messages++
					default:
						t.Errorf("heard %q", h)
					}
				}
				if gaps == 0 || messages > 1 {
					t.Errorf("%d gaps, %d messages: %q", gaps, messages, heard)
				}
				expect(t, "another channel", other.heard())
				if u := n.Stats().Unreadable; u != uint64(gaps) {
					t.Errorf("%d counted, %d told", u, gaps)
				}
				if k := log.count("could not be read"); k != 1 {
					t.Errorf("logged %d times", k)
				}
				time.Sleep(time.Minute)
				s.send(t, wardChannel, frame, frame)
				if k := log.count("could not be read"); k > 2 {
					t.Errorf("logged %d times", k)
				}
				at.heard()
				publish(t, n, ward, "after")
				expect(t, "after", at.heard(), "after")
			})
		})
	}
}

// Messages of types and for addresses that are none of a subscription's business are skipped, and so are optional fields.
func TestStrangeFramesAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		at, _ := listen(t, n, ward)
		frame := wire.AppendHeader(nil, foreign)
		frame = wire.AppendMessage(frame, 9, 'g', "", ward.Name(), 1, 1, nil, []byte("unknown type"))
		frame = wire.AppendMessage(frame, wire.Data, 'g', "", "other", 1, 1, nil, []byte("other name"))
		frame = wire.AppendNext(frame, wire.Data, nil, []byte("other name, too"))
		frame = wire.AppendMessage(frame, wire.Data, 'u', "", ward.Name(), 1, 1, nil, []byte("other kind"))
		frame = wire.AppendMessage(frame, wire.Data, 'g', "hub", ward.Name(), 1, 1, nil, []byte("other scope"))
		frame = wire.AppendMessage(frame, wire.Heartbeat, 'g', "", ward.Name(), 1, 1, nil, []byte("not here"))
		frame = wire.AppendMessage(frame, wire.Data, 'g', "", ward.Name(), 1, 1, wire.AppendField(nil, 8, []byte("optional")), []byte("mine"))
		frame = wire.AppendNext(frame, wire.Data, nil, []byte("mine, too"))
		joinStranger(t, broker).send(t, wardChannel, frame, wire.AppendHeader(nil, foreign))
		expect(t, "ward", at.heard(), "mine", "mine, too")
		if s := n.Stats(); s.Unreadable != 0 || s.Gaps != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Whatever comes in on whatever channel, also on the engine's own: the node lives, stays Up, and does its work.
func TestGarbageEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		n := open(t, broker.Opener(), backplane.Options{})
		at, _ := listen(t, n, ward)
		s := joinStranger(t, broker)
		r := rand.New(rand.NewPCG(1, 2))
		inbox := "inbox/" + string(n.ID())
		for range 3000 {
			body := make([]byte, r.IntN(60))
			for i := range body {
				body[i] = byte(r.Uint32())
			}
			if len(body) > 0 && r.IntN(2) == 0 {
				body[0] = 1 // a version that is known
			}
			from := wire.Publisher{byte(r.IntN(5)), 1}
			for _, name := range []string{"members", inbox, "probe/" + string(n.ID()) + "/0"} {
				typ := wire.Type(r.IntN(8))
				s.send(t, "default:s:"+name, body, wire.AppendMessage(wire.AppendHeader(nil, from), typ, 's', "", name, 1, 1, nil, body))
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		wantHealth(t, "afterwards", n.Health(), backplane.Up, "")
		publish(t, n, ward, "still there")
		expect(t, "ward", at.heard(), "still there")
		if m := n.Members(); len(m) != 1 {
			t.Errorf("%d members", len(m))
		}
	})
}
