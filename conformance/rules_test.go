package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gobackplane/backplane"
)

// writeHistory makes a history from lines, one event each:
//
//	n1 sub a room [error]            a subscription named a, of instance n1, to a group
//	n1 pub 1 room [result]           a publish, which returns at once: ok if no result is given
//	n1 call 1 room / n1 ret 1 [result]  the same in two steps
//	a hear 1 / a start 1, a end      a run of a's handler; "a hear 1 as room2", "a hear 1 by n2", "a hear 1 longer", "a hear 1 flip": changed on the way
//	a hear junk                      a message that nobody published
//	a gap link | a gap numbers n1 3  a gap, uncounted or counted
//	a close [result] / a close-call, a close-ret [result]; the same for an instance
//	n1 cut, n1 heal and the like, a stall, a release, a caught-up; quiet, over, stop, start
type script struct {
	t     *testing.T
	r     *recorder
	nodes map[string]int
	subs  map[string]int
	pubs  map[string]int
	runs  map[string]int
}

func writeHistory(t *testing.T, text string) history {
	t.Helper()
	s := &script{
		t: t, r: newRecorder([tokenLen]byte{1}), nodes: map[string]int{}, subs: map[string]int{}, pubs: map[string]int{}, runs: map[string]int{},
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 0 {
			s.line(f[0], f[1:])
		}
	}
	return s.r.snapshot()
}

func (s *script) node(name string) int {
	id, known := s.nodes[name]
	if !known {
		id = s.r.openCall(name, "ns")
		s.r.openReturn(id, backplane.NodeID("id-"+name), nil)
		s.nodes[name] = id
	}
	return id
}

var scriptResults = map[string]error{
	"": nil, "ok": nil,
	"closed": backplane.ErrClosed, "too-large": backplane.ErrTooLarge, "unavailable": backplane.ErrUnavailable,
	"uncertain": backplane.ErrUncertain, "both": errors.Join(backplane.ErrUncertain, backplane.ErrUnavailable), "invalid": backplane.ErrInvalidAddress,
}

func (s *script) result(f []string, at int) error {
	if len(f) <= at {
		return nil
	}
	err, known := scriptResults[f[at]]
	switch {
	case known && err == nil:
		return nil
	case known:
		return &backplane.Error{Op: "test", Err: err}
	case f[at] == "context":
		return context.Canceled
	case f[at] == "both":
		return &backplane.Error{Op: "test", Err: fmt.Errorf("%w: %w", backplane.ErrUncertain, backplane.ErrUnavailable)}
	case f[at] == "leak":
		return &backplane.Error{Op: "test", Err: fmt.Errorf("%w: %s", backplane.ErrUncertain, secret)}
	case f[at] == "bare":
		return backplane.ErrUnavailable
	default:
		return fmt.Errorf("oh: %s", f[at])
	}
}

func (s *script) line(who string, f []string) {
	switch {
	case who == "quiet":
		s.r.markEnd(s.r.mark(markQuiet, -1, -1))
	case who == "over", who == "stop", who == "start":
		s.r.mark(who, -1, -1)
	case f[0] == "sub":
		s.subs[f[1]] = s.r.subscribeCall(s.node(who), s.place(f[2]))
		s.r.subscribeReturn(s.subs[f[1]], s.result(f, 3))
	case f[0] == "pub":
		s.call(who, f[1], f[2])
		s.r.publishReturn(s.pubs[who+f[1]], s.result(f, 3))
	case f[0] == "call":
		s.call(who, f[1], f[2])
	case f[0] == "ret":
		s.r.publishReturn(s.pubs[who+f[1]], s.result(f, 2))
	case slices.Contains([]string{markCut, markHang, markDeafen, markMute, markLose, markPart, markDelay, markSip, markTear, markRefuse, markHeal}, f[0]):
		s.r.mark(f[0], s.node(who), -1)
	case strings.HasPrefix(who, "n"):
		s.nodeLine(who, f)
	default:
		s.subLine(who, f)
	}
}

func (s *script) place(name string) place { return place{"ns", group(name)} }

func (s *script) call(node, number, to string) {
	id := s.r.nextPublish(s.node(node), s.place(to))
	s.pubs[node+number] = id
	s.r.publishCall(id, s.r.payload(id, headerLen), false)
}

func (s *script) nodeLine(who string, f []string) {
	switch f[0] {
	case "open":
		s.node(who)
	case "close":
		s.r.closeCall(s.node(who))
		s.r.closeReturn(s.node(who), s.result(f, 1))
	default:
		s.t.Fatalf("script: %s %v", who, f)
	}
}

func (s *script) subLine(who string, f []string) {
	sub, known := s.subs[who]
	if !known {
		s.t.Fatalf("script: no subscription %s", who)
	}
	switch f[0] {
	case "hear", "start":
		run, _ := s.r.runStart(sub, s.message(sub, f))
		s.runs[who] = run
		if f[0] == "hear" {
			s.r.runEnd(sub, run)
		}
	case "end":
		s.r.runEnd(sub, s.runs[who])
	case "gap":
		g := &backplane.Gap{Address: s.r.h.Subs[sub].Place.Address, Cause: causes[f[1]]}
		if len(f) > 2 {
			g.Publisher = backplane.NodeID("id-" + f[2])
			g.Missed, _ = strconv.ParseUint(f[3], 10, 64)
		}
		run, _ := s.r.runStart(sub, g)
		s.r.runEnd(sub, run)
	case "close":
		s.r.unsubscribeCall(sub, false)
		s.r.unsubscribeReturn(sub, s.result(f, 1))
	case "close-inside":
		s.r.unsubscribeCall(sub, true)
		s.r.unsubscribeReturn(sub, nil)
	case "stall", "release":
		s.r.mark(f[0], -1, sub)
	case "caught-up":
		s.r.mark(markCaughtUp, -1, sub)
	default:
		s.t.Fatalf("script: %s %v", who, f)
	}
}

var causes = map[string]backplane.GapCause{
	"link": backplane.GapLink, "numbers": backplane.GapNumbers, "overflow": backplane.GapOverflow, "member": backplane.GapMember,
}

// message makes what "hear" tells. Publishes are named "1" for n1's, "n2/1" for another's.
func (s *script) message(sub int, f []string) *backplane.Message {
	if f[1] == "junk" {
		return &backplane.Message{Address: s.r.h.Subs[sub].Place.Address, Publisher: "id-n1", Payload: []byte("junk")}
	}
	node, number, other := strings.Cut(f[1], "/")
	if !other {
		node, number = "n1", f[1]
	}
	pub, known := s.pubs[node+number]
	if !known {
		s.t.Fatalf("script: no publish %s of %s", number, node)
	}
	m := &backplane.Message{
		Address: s.r.h.Subs[sub].Place.Address, Publisher: backplane.NodeID("id-" + node), Payload: s.r.payload(pub, headerLen),
	}
	for i := 2; i < len(f); i++ {
		switch f[i] {
		case "as":
			m.Address = group(f[i+1])
		case "by":
			m.Publisher = backplane.NodeID("id-" + f[i+1])
		case "longer":
			m.Payload = append(m.Payload, 0)
		case "flip":
			m.Payload[len(m.Payload)-1] ^= 1 // the header's own checksum: then it is nobody's
		}
	}
	return m
}

func TestRules(t *testing.T) {
	const start = "n1 open\n n2 open\n n2 sub a room\n"
	for _, c := range []struct {
		name, history string
		broken        string // the rules, in their order
	}{
		{"origin – heard where it was sent – pass", start + "n1 pub 1 room\n a hear 1", ""},
		{"origin – heard at another address – fail", start + "n1 sub b other\n n1 pub 1 other\n b hear 1\n a hear 1", "origin"},
		{"origin – told with another address – fail", start + "n1 pub 1 room\n a hear 1 as other", "origin"},
		{"origin – told with another publisher – fail", start + "n1 pub 1 room\n a hear 1 by n2", "origin"},
		{"origin – nobody published it – fail", start + "a hear junk", "origin"},
		{"origin – damaged in its header – fail", start + "n1 pub 1 room\n a gap link\n n2 cut\n a hear 1 flip", "origin noFalseAlarm"},

		{"intact – a byte more – fail", start + "n1 pub 1 room\n a hear 1 longer", "intact"},

		{"once – two messages – pass", start + "n1 pub 1 room\n n1 pub 2 room\n a hear 1\n a hear 2", ""},
		{"once – one message twice – fail", start + "n1 pub 1 room\n a hear 1\n a hear 1", "once"},
		{"once – two subscriptions hear it – pass", start + "n2 sub b room\n n1 pub 1 room\n a hear 1\n b hear 1", ""},

		{"order – as published – pass", start + "n1 pub 1 room\n n1 pub 2 room\n a hear 1\n a hear 2", ""},
		{"order – the other way round – fail", start + "n1 pub 1 room\n n1 pub 2 room\n a hear 2\n a hear 1", "order"},
		{"order – two publishers interleave – pass", start + "n1 pub 1 room\n n2 pub 1 room\n a hear n2/1\n a hear 1", ""},
		{"order – the publishes overlapped – pass", start + "n1 call 1 room\n n1 pub 2 room\n n1 ret 1\n a hear 2\n a hear 1", ""},
		{"order – an uncertain one comes late – fail", start + "n1 pub 1 room uncertain\n n1 pub 2 room\n a hear 2\n a hear 1", "order"},
		{"order – another address is in between – pass", start + "n1 sub b other\n n1 pub 1 other\n n1 pub 2 room\n a hear 2\n b hear 1", ""},

		{"mustNot – refused and not heard – pass", start + "n1 pub 1 room unavailable", ""},
		{"mustNot – refused and heard – fail", start + "n1 pub 1 room unavailable\n a hear 1", "mustNot"},
		{"mustNot – uncertain and heard – pass", start + "n1 pub 1 room uncertain\n a hear 1", ""},
		{"mustNot – published long before – fail", "n1 pub 1 room\n quiet\n n2 sub a room\n a hear 1", "mustNot"},
		{"mustNot – published shortly before – pass", "n1 pub 1 room\n n2 sub a room\n a hear 1", ""},

		{"barrier – closed after the last run – pass", start + "n1 pub 1 room\n a hear 1\n a close\n n1 pub 2 room", ""},
		{"barrier – a run after Close – fail", start + "n1 pub 1 room\n a close\n a hear 1", "barrier"},
		{"barrier – Close returns during a run – fail", start + "n1 pub 1 room\n a start 1\n a close\n a end", "barrier"},
		{"barrier – Close from inside the run – pass", start + "n1 pub 1 room\n a start 1\n a close-inside\n a end", ""},
		{"barrier – Close gives up on a run – pass", start + "n1 pub 1 room\n a start 1\n a close context\n a end", ""},
		{
			"barrier – a run after Close gave up on one – fail", start + "n1 pub 1 room\n n1 pub 2 room\n a start 1\n a close oh\n a end\n a hear 2",
			"barrier errors",
		},
		{"barrier – the instance is closed – fail", start + "n1 pub 1 room\n n2 close\n a hear 1", "barrier"},
		{"barrier – Subscribe had failed – fail", "n2 sub a room unavailable\n n1 pub 1 room\n a hear 1", "barrier"},

		{"serial – two runs at once – fail", start + "n1 pub 1 room\n n1 pub 2 room\n a start 1\n a hear 2", "serial"},

		{"must – not heard – fail", start + "n1 pub 1 room", "must"},
		{"must – not heard, but the next – fail", start + "n1 pub 1 room\n n1 pub 2 room\n a hear 2", "must"},
		{"must – published before Subscribe returned – pass", "n1 open\n n1 call 1 room\n n2 sub a room\n n1 ret 1", ""},
		{"must – uncertain and not heard – pass", start + "n1 pub 1 room uncertain", ""},
		{"must – closed in time – pass", start + "n1 call 1 room\n a close\n n1 ret 1", ""},
		{"must – queued when it was closed – pass", start + "n1 pub 1 room\n a close", ""},
		{"must – lost before what was heard, then closed – fail", start + "n1 pub 1 room\n n1 pub 2 room\n a hear 2\n a close", "must"},
		{"must – its messages vanished – fail", start + "n2 lose\n n1 pub 1 room\n n2 heal", "must"},
		{"must – its link is slow – fail", start + "n2 delay\n n1 pub 1 room", "must"},
		{"must – the broker was stopped – fail", start + "n1 pub 1 room\n stop\n start", "must"},
		{"must – closed by the suite at the end – fail", start + "n1 pub 1 room\n over\n n2 close", "must"},
		{"must – covered by a gap – pass", start + "n2 cut\n n1 pub 1 room\n n2 heal\n a gap link", ""},
		{"must – a gap before it was published – fail", start + "n2 cut\n n2 heal\n a gap link\n n1 pub 1 room", "must"},
		{"must – counted – pass", start + "n2 cut\n n1 pub 1 room\n n1 pub 2 room\n n1 pub 3 room\n n2 heal\n a gap numbers n1 2\n a hear 3", ""},
		{"must – counted too few – fail", start + "n2 cut\n n1 pub 1 room\n n1 pub 2 room\n n1 pub 3 room\n n2 heal\n a gap numbers n1 1\n a hear 3", "must"},
		{
			"must – counted for another publisher – fail", start + "n2 cut\n n2 heal\n n1 pub 1 room\n n2 pub 1 room\n a gap numbers n2 1\n a hear n2/1",
			"must counts",
		},
		{"must – the other subscription was told – fail", start + "n2 sub b room\n n2 cut\n n1 pub 1 room\n n2 heal\n b gap link", "must"},
		{
			"must – overlapping publishes, a gap between – pass",
			start + "n2 cut\n n1 call 1 room\n n1 pub 2 room\n n2 heal\n a gap link\n n1 pub 3 room\n a hear 3\n n1 ret 1\n n1 pub 4 room\n a hear 4", "",
		},

		{"lossIsLoud – the gap comes first – pass", start + "n2 cut\n n1 pub 1 room\n n2 heal\n n1 pub 2 room\n a gap link\n a hear 2", ""},
		{
			"lossIsLoud – the gap comes after the next – fail",
			start + "n2 cut\n n1 pub 1 room\n n2 heal\n n1 pub 2 room\n a hear 2\n a gap link",
			"lossIsLoud",
		},
		{
			"lossIsLoud – the next is another publisher's – pass",
			start + "n2 cut\n n1 pub 1 room\n n2 heal\n n2 pub 1 room\n a hear n2/1\n a gap numbers n1 1", "",
		},

		{"counts – more than is missing – fail", start + "n2 cut\n n1 pub 1 room\n n2 heal\n a gap numbers n1 2", "counts"},
		{
			"counts – an uncertain one from before it subscribed may have been taken afterwards – pass",
			"n1 pub 1 room uncertain\n" + start + "n2 cut\n n2 heal\n a gap numbers n1 1", "",
		},
		{
			"counts – one that was taken before it subscribed does not count – fail",
			"n1 pub 1 room\n" + start + "n2 cut\n n2 heal\n a gap numbers n1 1", "counts",
		},
		{"counts – an uncertain one counts – pass", start + "n1 pub 1 room uncertain\n n1 pub 2 room\n a gap numbers n1 1\n a hear 2", ""},
		{
			"counts – a refused one does not count – fail", start + "n2 cut\n n2 heal\n n1 pub 1 room unavailable\n" +
				"n1 pub 2 room\n a gap numbers n1 1\n a hear 2",
			"counts",
		},

		{"taken – its publisher was cut off and it was not – fail", start + "n1 pub 1 room\n n1 cut\n n1 heal\n n1 pub 2 room\n a gap numbers n1 1\n a hear 2", "taken"},
		{"taken – it was cut off itself – pass", start + "n2 cut\n n1 pub 1 room\n n2 heal\n n1 pub 2 room\n a gap numbers n1 1\n a hear 2", ""},
		{"taken – its handler was stuck – pass", start + "n1 cut\n n1 heal\n a stall\n n1 pub 1 room\n a gap overflow\n a release", ""},
		{"taken – the broker was stopped – pass", start + "n1 pub 1 room\n stop\n start\n a gap link", ""},
		{"taken – of uncertain fate – pass", start + "n1 cut\n n1 pub 1 room uncertain\n n1 heal\n n1 pub 2 room\n a gap numbers n1 1\n a hear 2", ""},
		{
			"taken – it came while its publisher hung, and a member's gap told so – pass",
			"n1 hang\n" + start + "n1 heal\n n1 pub 1 room\n n1 pub 2 room\n a gap member n1 0\n a hear 2", "",
		},
		{
			"taken – it came after its publisher had hung – fail",
			"n1 hang\n n1 heal\n" + start + "n1 pub 1 room\n n1 pub 2 room\n a gap member n1 0\n a hear 2", "taken",
		},
		{
			"taken – it came while its publisher hung, and numbers told so – fail",
			"n1 hang\n" + start + "n1 heal\n n1 pub 1 room\n n1 pub 2 room\n a gap numbers n1 1\n a hear 2", "taken",
		},
		{
			"taken – it came while its publisher hung, and a gap of another member told so – fail",
			"n1 hang\n" + start + "n1 heal\n n1 pub 1 room\n n1 pub 2 room\n a gap member n2 0\n a hear 2", "taken",
		},
		{"taken – closed meanwhile – pass", start + "n1 pub 1 room\n n1 cut\n n1 heal\n a gap numbers n1 1\n a close", ""},

		{"noFalseAlarm – nothing happened – fail", start + "a gap link", "noFalseAlarm"},
		{"noFalseAlarm – another instance was cut – fail", start + "n1 cut\n n1 heal\n a gap link", "noFalseAlarm"},
		{"noFalseAlarm – another instance died – pass", start + "n1 cut\n n1 heal\n a gap member", ""},
		{"noFalseAlarm – its own link hung – pass", start + "n2 hang\n a gap link", ""},
		{"noFalseAlarm – it was cut later – fail", start + "a gap link\n n2 cut", "noFalseAlarm"},
		{"noFalseAlarm – its own link was mute – pass", start + "n2 mute\n a gap link", ""},
		{"noFalseAlarm – it was cut, before it has caught up – pass", start + "n2 cut\n n2 heal\n a gap link\n n1 pub 1 room\n a hear 1\n a gap link\n a caught-up", ""},
		{"noFalseAlarm – it was cut, after it has caught up – fail", start + "n2 cut\n n2 heal\n a gap link\n a caught-up\n a gap link", "noFalseAlarm"},
		{"noFalseAlarm – it was cut once more – pass", start + "n2 cut\n n2 heal\n a caught-up\n n2 cut\n n2 heal\n a gap link", ""},
		{"noFalseAlarm – it was deaf, after it has caught up – pass", start + "n2 deafen\n n2 heal\n a caught-up\n a gap link", ""},
		{"noFalseAlarm – another link was mute – fail", start + "n1 mute\n a gap link", "noFalseAlarm"},
		{"noFalseAlarm – its own messages vanished – pass", start + "n2 lose\n n1 pub 1 room\n n2 heal\n a gap numbers n1 1", ""},
		{"noFalseAlarm – another one's messages vanished – fail", start + "n1 lose\n n1 heal\n a gap numbers", "noFalseAlarm"},
		{"noFalseAlarm – another one took it for dead – pass", start + "n1 lose\n n1 heal\n a gap member", ""},
		{"noFalseAlarm – its link is slow – fail", start + "n2 delay\n n2 sip\n a gap link", "noFalseAlarm"},
		{"noFalseAlarm – its link was torn – pass", start + "n2 tear\n a gap link", ""},
		{"noFalseAlarm – it was refused – pass", start + "n2 refuse\n a gap link", ""},
		{"noFalseAlarm – the broker was stopped – pass", start + "stop\n start\n a gap link", ""},
		{"noFalseAlarm – the broker was stopped later – fail", start + "a gap link\n stop\n start", "noFalseAlarm"},
		{"noFalseAlarm – overflow of a stalled handler – pass", start + "a stall\n a gap overflow\n a release", ""},
		{"noFalseAlarm – overflow before it has caught up – pass", start + "a stall\n a release\n a gap overflow\n a caught-up", ""},
		{"noFalseAlarm – overflow after it has caught up – fail", start + "a stall\n a release\n a caught-up\n a gap overflow", "noFalseAlarm"},
		{"noFalseAlarm – overflow of a second stall – pass", start + "a stall\n a release\n a caught-up\n a stall\n a gap overflow", ""},
		{"noFalseAlarm – overflow of a free handler – fail", start + "a gap overflow", "noFalseAlarm"},

		{"errors – documented – pass", start + "n1 pub 1 room uncertain\n n1 pub 2 room too-large\n n1 sub b room unavailable", ""},
		{"errors – undocumented – fail", "n1 pub 1 room oops", "errors"},
		{"errors – uncertain and definite – fail", "n1 pub 1 room both", "errors"},
		{"errors – no *Error – fail", "n1 pub 1 room bare", "errors"},
		{"errors – shows the payload – fail", "n1 pub 1 room leak", "errors"},
		{"errors – a subscribe that is uncertain – fail", "n1 sub a room uncertain", "errors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := writeHistory(t, c.history)
			var rules []string
			for _, v := range judge(h) {
				if len(rules) == 0 || rules[len(rules)-1] != v.Rule {
					rules = append(rules, v.Rule)
				}
				if v.Witness == "" || !strings.HasSuffix(v.Witness, ".") {
					t.Errorf("a witness is a sentence, not %q", v.Witness)
				}
			}
			if got := strings.Join(rules, " "); got != c.broken {
				t.Errorf("broken: %q, want %q: %v", got, c.broken, judge(h))
			}
			if want := strings.HasSuffix(c.name, "pass"); want != (c.broken == "") {
				t.Error("the case's name says otherwise")
			}
		})
	}
}

// TestRulesHaveHomes holds properties and rules together.
func TestRulesHaveHomes(t *testing.T) {
	known := map[string]bool{}
	for _, p := range Properties() {
		if known[p.ID] {
			t.Errorf("%s is there twice", p.ID)
		}
		known[p.ID] = true
		if p.Says == "" || p.Why == "" || p.Often == "" || p.Since == "" || !strings.HasSuffix(p.Says, ".") {
			t.Errorf("%s lacks words: %+v", p.ID, p)
		}
		for _, name := range p.about {
			found := false
			for _, r := range allRules() {
				found = found || r.name == name
			}
			if !found {
				t.Errorf("%s is about a rule %q that there is not", p.ID, name)
			}
		}
	}
	for _, r := range allRules() {
		if !known[r.home] {
			t.Errorf("rule %s has no home: %s", r.name, r.home)
		}
		if p, _ := find(r.home); !slices.Contains(p.about, r.name) {
			t.Errorf("the home of rule %s is %s, which is not about it", r.name, r.home)
		}
	}
}
