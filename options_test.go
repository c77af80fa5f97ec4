package backplane_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/transport"
)

// Every setting that does not fit is refused, and the text names it.
func TestBadOptions(t *testing.T) {
	type options = backplane.Options
	for name, c := range map[string]struct {
		limits transport.Limits
		o      options
		say    []string
	}{
		"namespace":                 {o: options{Namespace: "Ward"}, say: []string{"Namespace"}},
		"namespace too long":        {o: options{Namespace: strings.Repeat("a", 65)}, say: []string{"Namespace"}},
		"namespace missing":         {limits: transport.Limits{Shared: true}, say: []string{"Namespace"}},
		"namespace for the limits":  {limits: transport.Limits{MaxChannel: 60}, o: options{Namespace: strings.Repeat("a", 40)}, say: []string{"Namespace", "40", "60"}},
		"delimiter":                 {limits: transport.Limits{Delimiter: '-'}, say: []string{"delimiter"}},
		"delimiter is @":            {limits: transport.Limits{Delimiter: '@'}, say: []string{"delimiter"}},
		"label too long":            {o: options{Label: strings.Repeat("a", 257)}, say: []string{"Label"}},
		"label that is no text":     {o: options{Label: "\xff"}, say: []string{"Label"}},
		"MaxPayload":                {o: options{MaxPayload: -1}, say: []string{"MaxPayload", "-1"}},
		"MaxPayload too large":      {o: options{MaxPayload: 64<<20 + 1}, say: []string{"MaxPayload"}},
		"MaxPayload for the limits": {limits: transport.Limits{MaxFrame: 100_000}, o: options{MaxPayload: 99_000}, say: []string{"MaxPayload", "99000", "100000", "95904"}},
		"ProbeInterval":             {o: options{ProbeInterval: -1}, say: []string{"ProbeInterval"}},
		"ProbeInterval too short":   {o: options{ProbeInterval: time.Microsecond}, say: []string{"ProbeInterval"}},
		"ProbeTimeout":              {o: options{ProbeTimeout: 2 * time.Hour}, say: []string{"ProbeTimeout"}},
		"ProbeTimeout and Interval": {o: options{ProbeInterval: 5 * time.Second}, say: []string{"ProbeTimeout", "ProbeInterval", "5s", "3s"}},
		"Heartbeat":                 {o: options{Heartbeat: -1}, say: []string{"Heartbeat"}},
		"MemberTimeout":             {o: options{MemberTimeout: -1}, say: []string{"MemberTimeout"}},
		"MemberTimeout, Heartbeat":  {o: options{MemberTimeout: 5 * time.Second}, say: []string{"MemberTimeout", "Heartbeat", "5s", "2s"}},
		"TailMark":                  {o: options{TailMark: -1}, say: []string{"TailMark"}},
		"ReconnectMin":              {o: options{ReconnectMin: -1}, say: []string{"ReconnectMin"}},
		"ReconnectMax":              {o: options{ReconnectMax: -1}, say: []string{"ReconnectMax"}},
		"ReconnectMax and Min":      {o: options{ReconnectMin: 3 * time.Second}, say: []string{"ReconnectMax", "ReconnectMin"}},
		"QueueMessages":             {o: options{QueueMessages: -1}, say: []string{"QueueMessages"}},
		"QueueBytes":                {o: options{QueueBytes: -1}, say: []string{"QueueBytes"}},
		"ReceiveBytes":              {o: options{ReceiveBytes: -1}, say: []string{"ReceiveBytes"}},
		"PublishBytes":              {o: options{PublishBytes: -1}, say: []string{"PublishBytes"}},
		"MaxCounters":               {o: options{MaxCounters: 15}, say: []string{"MaxCounters", "16"}},
		"MaxCounters negative":      {o: options{MaxCounters: -1}, say: []string{"MaxCounters"}},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := backplane.Open(t.Context(), inmem.New(inmem.Options{Limits: c.limits}), c.o)
			if n != nil {
				t.Fatal("a node was opened")
			}
			wantIs(t, "open", err, backplane.ErrInvalidOption)
			if typed, ok := errors.AsType[*backplane.Error](err); !ok || typed.Op != "open" {
				t.Errorf("%#v", err)
			}
			for _, word := range c.say {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
	_, err := backplane.Open(t.Context(), nil, backplane.Options{})
	wantIs(t, "without a transport", err, backplane.ErrInvalidOption)
}

func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, inmem.NewBroker().Opener(), backplane.Options{})
		if n.MaxPayload() != 1_040_384 || n.Namespace() != "default" || len(n.ID()) != 16 {
			t.Errorf("%d, %q, %q", n.MaxPayload(), n.Namespace(), n.ID())
		}
		wantIs(t, "largest payload", n.Publish(t.Context(), ward, make([]byte, 1_040_384)))
		wantIs(t, "larger payload", n.Publish(t.Context(), ward, make([]byte, 1_040_385)), backplane.ErrTooLarge)
	})
}

// The largest payload fits the smallest frame that Open lets through, whatever the name; and the edges of a broker's limits
// carry what they should.
func TestEdgesOfTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letters := func(b byte) bool {
			return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-' || b == '.'
		}
		limits := transport.Limits{MaxFrame: 100_000, MaxChannel: 60, ChannelByte: letters, Delimiter: '.', Shared: true}
		broker := inmem.NewBrokerWith(inmem.Options{Limits: limits})
		o := backplane.Options{Namespace: strings.Repeat("n", 31), MaxPayload: 100_000 - 4096}
		a, b := open(t, broker.Opener(), o), open(t, broker.Opener(), o)
		long := backplane.Group(strings.Repeat("é", 512)).In(strings.Repeat("s", 64))
		for _, to := range []backplane.Address{backplane.All(), long, backplane.User("a.b *>"), backplane.Group("x")} {
			at, _ := listen(t, b, to)
			largest := strings.Repeat("x", a.MaxPayload())
			publish(t, a, to, largest, "")
			expect(t, to.String(), at.heard(), largest, "")
		}
		if len(a.Members()) != 2 {
			t.Errorf("%v", a.Members())
		}
	})
}
