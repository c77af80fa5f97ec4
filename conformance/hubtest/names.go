package hubtest

import (
	"context"
	"strings"

	"github.com/gobackplane/backplane"
)

// The chapter of H0: a hub has a name.
func nameProperties() []Property {
	return []Property{
		{
			ID: "hub/names-apart", Contract: "H0", Since: "v1",
			Says:  "hubs of two names on the same instances never meet, neither by groups, users and all nor by the ids of connections.",
			Why:   "what is said in one part of an application would be heard in another.",
			Often: "a name that is not a part of every channel; ids that any hub takes.",
			run:   namesApart,
		},
		{
			ID: "hub/namespaces-apart", Contract: "H0", Since: "v1",
			Says:  "hubs of one name in two namespaces of one broker never meet.",
			Why:   "two applications on one broker would hear each other.",
			Often: "a channel that is made without the namespace.",
			run:   namespacesApart,
		},
		{
			ID: "hub/raw-apart", Contract: "H0", Since: "v1", Needs: AbilityRaw,
			Says:  "what a program sends over the backplane itself does not reach a hub's connections.",
			Why:   "foreign bytes would be written to clients.",
			Often: "a hub without a scope of its own.",
			run:   rawApart,
		},
		{
			ID: "hub/any-name", Contract: "H0", Since: "v1",
			Says:  "groups and users have names of any characters and of 255 bytes at least, case-sensitive, and what is no name is refused at once.",
			Why:   "a room's name, typed by a person, would be another room.",
			Often: "names that go into channels as they are, and there are patterns, separators, or cut.",
			run:   anyName,
		},
	}
}

func namesApart(w *world) {
	all := w.settled()
	const kitchen = "kitchen"
	nurse, cook := all[1].user("u", "4B"), all[1].hub(kitchen).connect(ConnectOptions{User: "u"}, "4B")
	for _, s := range all {
		for _, t := range []Target{everybody(), groups("4B"), users("u")} {
			s.hub(kitchen).send(t, "soup")
		}
		s.refused(join, cook.target(), "4C", errNotFound)
		s.refused(disconnect, cook.target(), "", errNotFound)
		s.count(everybody(), 1)
		s.count(groups("4B"), 1)
		s.exists(cook.target(), false)
	}
	all[2].change(leave, users("u"), "4B", 1)
	all[0].hub(kitchen).send(groups("4B"), "dessert")
	w.fence()
	nurse.got()
	cook.got("soup", "soup", "soup", "soup", "soup", "soup", "soup", "soup", "soup", "dessert")
	cook.isOpen()
}

func namespacesApart(w *world) {
	here, there := w.crew(), w.open("-x", 1)[0]
	c, stranger := here[1].user("u", "4B"), there.user("u", "4B")
	for _, t := range []Target{everybody(), groups("4B"), users("u")} {
		here[0].send(t, "here")
		there.send(t, "there")
	}
	w.fence()
	c.got("here", "here", "here")
	stranger.got("there", "there", "there")
}

func rawApart(w *world) {
	all := w.crew()
	c := all[1].user("u", "4B")
	for _, s := range all {
		raw, is := s.node.(Publisher)
		if !is {
			w.without(AbilityRaw)
		}
		for _, at := range [][2]string{{"all", ""}, {"group", "4B"}, {"user", "u"}, {"group", ward}} {
			err := w.call(s, nil, "Publish to "+strings.Join(at[:], " "), func(ctx context.Context) (string, error) {
				return "", raw.Publish(ctx, at[0], at[1], []byte("raw"))
			})
			if err != nil {
				w.fatalf("%s: Publish below the hub failed: %w", s.name, err)
			}
		}
	}
	all[0].send(groups("4B"), "bell")
	w.fence()
	c.got("bell")
	c.isOpen()
}

// strangeNames returns names that differ, and that a broker or a hub might take for each other or for something else.
func strangeNames() []string {
	return []string{
		"a b", "*", ">", "ward.*", "ward.>", "{slot}", "Ünïcode ✓", "Ünïcode", "new\nline", "CASE", "case", "a:b:c", "a/b", "a,b", "%41", "A", "a", `\`, "\x00",
		strings.Repeat("n", 255), strings.Repeat("n", 254),
	}
}

func anyName(w *world) {
	all, names := w.crew(), strangeNames()
	members := make([]*client, len(names))
	for i, name := range names {
		members[i] = all[1].user(name, name)
	}
	for _, name := range names {
		all[0].send(groups(name), "group "+name)
		all[2].send(users(name), "user "+name)
	}
	w.fence()
	for i, name := range names {
		members[i].got("group "+name, "user "+name)
	}
	for _, name := range []string{"", "\xff", "a\xc0b"} {
		h := all[0].hub(ward)
		w.mustFail("Send to a group of no name", h.trySend(groups("4B", name), "x"), backplane.ErrInvalidAddress)
		all[0].refused(join, everybody(), name, backplane.ErrInvalidAddress)
		all[0].refused(leave, everybody(), name, backplane.ErrInvalidAddress)
		if name != "" {
			all[0].refused(leaveAll, users(name), "", backplane.ErrInvalidAddress)
		}
	}
}
