package conformance

import (
	"fmt"
	"strings"

	"github.com/gobackplane/backplane"
)

// Which names there are.

func namesProperties() []Property {
	return []Property{
		{
			ID:    "names/any",
			Says:  "every name of valid UTF-8 from 1 to 1,024 bytes works end to end; every other is refused by Publish and Subscribe with ErrInvalidAddress.",
			Why:   "a name that works halfway is a group that is deaf.",
			Often: "no encoding of names, a check in only one of the two verbs.",
			Since: "v1", about: []string{"must", "origin", "errors"}, run: namesAny,
		},
		{
			ID:    "names/inert",
			Says:  "names that contain a broker's protocol change nothing for the traffic that follows.",
			Why:   "a client that chooses a group's name would command the broker.",
			Often: "names written raw into a text protocol.",
			Since: "v1", about: []string{"must", "origin", "noFalseAlarm"}, run: namesInert,
		},
		{
			ID:    "limits/address",
			Says:  "the longest name works, one byte more is refused with ErrInvalidAddress, and traffic goes on.",
			Why:   "a limit found in production is an outage.",
			Often: "the broker's own limit, reached with prefix and encoding.",
			Since: "v1", about: []string{"must", "errors", "noFalseAlarm"}, run: limitsAddress,
		},
	}
}

func namesAny(w *world) {
	crew := w.crew()
	var names []string
	for c := range rune(0x80) { // each alone, and within a name
		names = append(names, string(c), "a"+string(c)+"b")
	}
	names = append(names,
		"\u0080", "ÿ", "Ā", "߿", "ࠀ", "\uffff", "\ufffd", "\U00010000", "\U0010ffff", "日本語", "🏥🩺", "ward 4B, bed 7",
		strings.Repeat("é", backplane.MaxName/2), strings.Repeat("\x00", 3), " ", "\n\n", "\r\n", strings.Repeat("\U0001f3e5", 64))
	from, to := crew[0], crew[1]
	const workers = 16
	all := groups(names...)
	w.each(workers, func(k int) {
		for i := k; i < len(all); i += workers {
			to.subscribe(all[i])
			from.publish(all[i])
		}
	})
	for _, bad := range []string{
		"", strings.Repeat("x", backplane.MaxName+1), strings.Repeat("x", 1<<20),
		"\xff", "a\xff", "\xc3", "\xc3(", "a\x80", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
	} {
		w.refused(from, group(bad))
	}
	for _, bad := range []string{"", "A", "a b", "a:b", "é", "*", strings.Repeat("x", 65)} {
		w.refused(from, group("room").In(bad))
	}
	w.refused(from, backplane.Address{})
	w.refused(from, backplane.User(""))
	w.refused(from, backplane.All().In("A"))
	if cut, _ := from.can(); cut { // the refusal needs no broker
		from.cut()
		w.refused(from, group(""))
		w.refused(from, group("\xff"))
		from.heal()
		from.publishAgain(all[0])
	} else {
		w.leavesOut(noFault("Cut"))
	}
}

// refused checks that both verbs refuse an address in the same way.
func (w *world) refused(n *instance, a backplane.Address) {
	ctx, cancel := w.patient()
	defer cancel()
	if _, err := n.tryPublish(ctx, a, headerLen); classify(err).Class != badAddress {
		w.check()
		w.fatalf("Publish to %v, which is no address, returned %v, not ErrInvalidAddress", short(a), err)
	}
	if _, err := n.trySubscribe(ctx, a, nil); classify(err).Class != badAddress {
		w.check()
		w.fatalf("Subscribe to %v, which is no address, returned %v, not ErrInvalidAddress", short(a), err)
	}
}

func short(a backplane.Address) string {
	const most = 80
	if s := a.String(); len(s) > most {
		return fmt.Sprintf("%s… (%d bytes)", s[:most], len(a.Name()))
	}
	return a.String()
}

func namesInert(w *world) {
	crew := w.crew()
	room := group("room")
	crew[0].subscribe(room)
	crew[1].subscribe(room)
	for _, name := range []string{
		"a\r\nPUB room 1\r\nx\r\n", "a\r\nUNSUB 1\r\n", "room 1\r\nx",
		"*1\r\n$4\r\nQUIT\r\n", "\r\nQUIT\r\n", "\r\nSHUTDOWN\r\n", "$-1\r\n", "+OK\r\n", "-ERR\r\n",
		"\x00\x00\x00\x01", "'; DROP TABLE x; --", "\"}{\"", "%s%d%n", "${room}", "`room`", "<!--", "../../room", "room\x00", "\x1b[2J", "\x04",
		"SUB room 1", "PING", "MSG room 1 1\r\nx",
	} {
		crew[0].subscribe(group(name))
		crew[1].publish(group(name))
		crew[0].publish(room)
		crew[1].publish(room)
	}
}

func limitsAddress(w *world) {
	crew := w.crew()
	longest := strings.Repeat("x", backplane.MaxName)
	scope := strings.Repeat("s", 64)
	for _, a := range []backplane.Address{
		group(longest), group(longest[1:]), group(strings.Repeat("\U0001f3e5", backplane.MaxName/4)),
		group(longest).In(scope), backplane.User(longest), backplane.All().In(scope), group("x").In("s"), group("x"),
	} {
		crew[0].subscribe(a)
		crew[1].subscribe(a)
		crew[0].publish(a)
		crew[1].publish(a)
		w.refused(crew[0], group(longest+"x"))
		w.refused(crew[1], group(longest[2:]+"é1"))
		w.refused(crew[1], a.In(scope+"s"))
	}
}
