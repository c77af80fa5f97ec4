package hubtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gobackplane/backplane"
)

// The chapter of delivery: who gets what is sent.
func deliveryProperties() []Property {
	return []Property{
		{
			ID: "deliver/all", Contract: "H1", Since: "v1",
			Says:  "a send to all, from any instance, reaches every connection on every instance once.",
			Why:   "clients of one instance would miss what others see.",
			Often: "delivery to the own instance beside the broker's echo; an instance that subscribes too late.",
			run:   deliverAll,
		},
		{
			ID: "deliver/group", Contract: "H1", Since: "v1",
			Says:  "a send to a group reaches its members on every instance, also from an instance that has none, and nobody else.",
			Why:   "a ward would miss its alarms, or hear those of another one.",
			Often: "membership that only its own instance knows.",
			run:   deliverGroup,
		},
		{
			ID: "deliver/user", Contract: "H1", Since: "v1",
			Says:  "a send to a user reaches all the user's connections on every instance, and nobody else.",
			Why:   "the second tab would stay silent.",
			Often: "a table that holds one connection for each user; ids that are compared without case.",
			run:   deliverUser,
		},
		{
			ID: "deliver/user-counted", Contract: "H4", Since: "v1",
			Says:  "a user stays reachable as long as one of the user's connections is left.",
			Why:   "closing one tab would silence the other.",
			Often: "a subscription that ends with the first connection that leaves.",
			run:   deliverUserCounted,
		},
		{
			ID: "deliver/connection", Contract: "H1", Since: "v1",
			Says:  "a send to a connection's id reaches it once from any instance, its own among them, and nobody else.",
			Why:   "an answer to one client would be lost, doubled, or read by another.",
			Often: "an id that only its own instance can resolve; a local shortcut beside the way over the broker.",
			run:   deliverConnection,
		},
		{
			ID: "deliver/except", Contract: "H1", Since: "v1",
			Says:  "connections of an except-list get nothing of the send, on whatever instance, by whatever target; all others get it.",
			Why:   "who has typed a message would get it back.",
			Often: "an except-list that only the sending instance applies.",
			run:   deliverExcept,
		},
		{
			ID: "deliver/nobody-gone", Contract: "H3", Since: "v1",
			Says:  "a connection that has ended, by itself or by Disconnect, gets nothing more, by whatever target.",
			Why:   "a message would be written to a socket that belongs to nobody, or to somebody else.",
			Often: "memberships that outlive their connection.",
			run:   deliverNobodyGone,
		},
		{
			ID: "deliver/barrier", Contract: "H2", Since: "v1",
			Says:  "what is sent after Connect or Join has returned, from any instance, is delivered.",
			Why:   "a client would miss what happens right after it has asked for the state.",
			Often: "a subscribe that is not waited for.",
			run:   deliverBarrier,
		},
		{
			ID: "deliver/order", Contract: "H1", Since: "v1",
			Says:  "what one instance sends to one group, user or connection, or to all, arrives in the order of the calls.",
			Why:   "an old value would overwrite the new one.",
			Often: "a goroutine for each message; several workers on one queue.",
			run:   deliverOrder,
		},
		{
			ID: "deliver/payload", Contract: "H1", Since: "v1",
			Says:  "payloads of any bytes, from none to half a mebibyte, arrive unchanged, the buffer is free when Send returns, and too much is ErrTooLarge.",
			Why:   "a chart would be cut, or show another patient's numbers.",
			Often: "text encodings, limits of a frame, a buffer that is kept.",
			run:   deliverPayload,
		},
	}
}

func deliverAll(w *world) {
	all := w.crew()
	clients := []*client{all[0].member(), all[0].user("u"), all[1].member("4B"), all[2].member()}
	for i, s := range all {
		s.send(everybody(), strconv.Itoa(i))
	}
	w.fence()
	for _, c := range clients {
		c.got("0", "1", "2")
	}
}

func deliverGroup(w *world) {
	all := w.crew()
	a, b := all[0].member("4B"), all[1].member("4B")
	others := []*client{all[0].member(), all[1].member("4C"), all[1].user("4B"), all[2].member("4b")}
	for i, s := range all {
		s.send(groups("4B"), strconv.Itoa(i))
	}
	w.fence()
	a.got("0", "1", "2")
	b.got("0", "1", "2")
	for _, c := range others {
		c.got()
	}
}

func deliverUser(w *world) {
	all := w.crew()
	mine := []*client{all[0].user("u"), all[0].user("u"), all[1].user("u")}
	others := []*client{all[1].user("U"), all[1].member("u"), all[2].user("u2"), all[0].member()}
	for i, s := range all {
		s.send(users("u"), strconv.Itoa(i))
	}
	w.fence()
	for _, c := range mine {
		c.got("0", "1", "2")
	}
	for _, c := range others {
		c.got()
	}
}

func deliverUserCounted(w *world) {
	all := w.crew()
	a, b, group := all[0].user("u", "4B"), all[0].user("u", "4B"), all[0].member("4C")
	all[1].send(users("u"), "both")
	w.fence()
	a.gone()
	all[1].send(users("u"), "one")
	all[1].send(groups("4B"), "group")
	group.leave("4B") // who is in neither takes nothing from others
	all[2].send(groups("4B"), "group again")
	w.fence()
	a.got("both")
	b.got("both", "one", "group", "group again")
	again := all[0].user("u")
	b.gone()
	all[1].send(users("u"), "new")
	w.fence()
	again.got("new")
}

func deliverConnection(w *world) {
	all := w.crew()
	a, b, c := all[0].user("u", "4B"), all[0].user("u", "4B"), all[1].member()
	for i, s := range all {
		s.send(to(a), strconv.Itoa(i))
	}
	all[2].send(to(a, c), "both")
	w.fence()
	a.got("0", "1", "2", "both")
	b.got()
	c.got("both")
}

func deliverExcept(w *world) {
	all := w.crew()
	var in, out []*client
	for _, s := range all {
		in = append(in, s.user("u", "4B", "4C"))
		out = append(out, s.user("u", "4B", "4C"))
	}
	ids := to(slices.Concat(in, out)...)
	for i, s := range all {
		for _, t := range []Target{
			groups("4B"), users("u"), everybody(), ids, groups("4B", "4C"), {Groups: []string{"4B"}, Users: []string{"u"}, Connections: ids.Connections},
		} {
			s.send(t.but(out...), strconv.Itoa(i))
		}
	}
	w.fence()
	for i := range all {
		out[i].got()
		in[i].got(strings.Fields(strings.Repeat("0 1 2 ", 6))...)
	}
}

func deliverNobodyGone(w *world) {
	all := w.crew()
	left, thrown, stays := all[0].user("u", "4B"), all[1].user("u", "4B"), all[1].user("u", "4B")
	ids := to(left, thrown)
	all[2].send(groups("4B"), "before")
	w.fence()
	left.gone()
	all[2].change(disconnect, thrown.target(), "bye", 1)
	for _, s := range all {
		for _, t := range []Target{everybody(), groups("4B"), users("u")} {
			s.send(t, "after")
		}
		_ = s.hub(ward).trySend(ids, "after") // a known absence may be an error
	}
	w.fence()
	left.got("before")
	thrown.got("before")
	stays.got(append(strings.Fields(strings.Repeat("after ", 9)), "before")...)
}

func deliverBarrier(w *world) {
	all := w.crew()
	const rounds = 15
	var clients []*client
	for i := range rounds {
		name := "room " + strconv.Itoa(i)
		c := all[i%crew].user(name)
		for _, s := range all {
			s.send(users(name), "user")
			s.send(everybody(), "all "+strconv.Itoa(i))
		}
		c.join(name)
		for _, s := range all {
			s.send(groups(name), "group")
		}
		clients = append(clients, c)
	}
	w.fence()
	for i, c := range clients {
		want := strings.Fields(strings.Repeat("user group ", crew))
		for k := i; k < rounds; k++ {
			want = append(want, slices.Repeat([]string{"all " + strconv.Itoa(k)}, crew)...)
		}
		c.gotAtLeast(want...) // what was sent before it came may still have been on the way
	}
}

func deliverOrder(w *world) {
	all := w.crew()
	const each = 60
	inGroup, user, alone, anybody := all[1].member("4B"), all[1].user("u"), all[1].member(), all[1].hub("order").connect(ConnectOptions{})
	var want []string
	for i := range each {
		want = append(want, strconv.Itoa(i))
	}
	targets := []Target{groups("4B"), users("u"), alone.target()}
	w.each(len(targets)+1, func(i int) {
		for _, text := range want {
			if i == len(targets) {
				all[0].hub("order").send(everybody(), text)
			} else {
				all[0].send(targets[i], text)
			}
		}
	})
	w.fence()
	for _, c := range []*client{inGroup, user, alone, anybody} {
		c.gotInOrder(want...)
	}
}

// tooMuch is larger than the largest payload that a backplane of this module can be set to.
const tooMuch = 64<<20 + 1

func deliverPayload(w *world) {
	all := w.crew()
	c := all[1].member("4B")
	var want []string
	for i, size := range []int{0, 1, 255, 256, 65_535, 65_536, 70_000, 512 << 10} {
		payload := make([]byte, size)
		for k := range payload {
			payload[k] = byte(k*7 + i)
		}
		want = append(want, string(payload))
	}
	buffer := bytes.Buffer{}
	h := all[0].hub(ward)
	w.uses(ward, groups("4B"))
	for _, payload := range want {
		buffer.Reset()
		buffer.WriteString(payload)
		err := w.call(all[0], nil, fmt.Sprintf("Send(group 4B, %d bytes)", len(payload)), func(ctx context.Context) (string, error) {
			return "", h.raw.Send(ctx, groups("4B"), buffer.Bytes())
		})
		if err != nil {
			w.fatalf("%s: Send of %d bytes failed: %w", all[0].name, len(payload), err)
		}
		for k := range buffer.Bytes() {
			buffer.Bytes()[k] = 0xfe
		}
	}
	err := w.call(all[0], nil, "Send(group 4B, more than any hub takes)", func(ctx context.Context) (string, error) {
		return "", h.raw.Send(ctx, groups("4B"), make([]byte, tooMuch))
	})
	w.mustFail(fmt.Sprintf("Send of %d bytes", tooMuch), err, backplane.ErrTooLarge)
	w.fence()
	c.gotInOrder(want...)
}
