package conformance

import (
	"fmt"
	"strings"

	"github.com/gobackplane/backplane"
)

// Addresses and namespaces do not mix.

func isolationProperties() []Property {
	return []Property{
		{
			ID:    "isolate/address",
			Says:  "addresses do not hear each other.",
			Why:   "a ward would see another ward's alerts.",
			Often: "a short hash of the name, prefixes, one channel for many addresses without a check, repeats looked for across addresses.",
			Since: "v1", about: []string{"origin", "must"}, run: isolateAddress,
		},
		{
			ID:    "isolate/confusable",
			Says:  "names that look alike are different.",
			Why:   "group names are made by people and programs that do not know each other.",
			Often: "lower-casing, trimming, normalising, cutting, replacing special characters.",
			Since: "v1", about: []string{"origin", "must"}, run: isolateConfusable,
		},
		{
			ID:    "isolate/wildcards",
			Says:  "the metacharacters of brokers are ordinary characters in names.",
			Why:   `a client that joins the group "*" would hear everything.`,
			Often: "names written raw into a pattern subscription or a subject.",
			Since: "v1", about: []string{"origin", "must"}, run: isolateWildcards,
		},
		{
			ID:    "isolate/namespace",
			Says:  "namespaces do not hear each other, also when one begins like the other.",
			Why:   "staging would hear production.",
			Often: "a prefix without a delimiter.",
			Since: "v1", about: []string{"origin", "must"}, run: isolateNamespace,
		},
		{
			ID:    "isolate/kinds",
			Says:  "a group, a user, a connection and an inbox of one name are four addresses.",
			Why:   `the user "admin" would read the group "admin".`,
			Often: "the kind left out of the channel's name.",
			Since: "v1", about: []string{"origin", "must"}, run: isolateKinds,
		},
		{
			ID:    "isolate/scopes",
			Says:  "addresses in different scopes, and those in none, do not hear each other.",
			Why:   "two hubs with a group of one name would mix.",
			Often: "the scope joined with the name by a character that names may hold.",
			Since: "v1", about: []string{"origin", "must"}, run: isolateScopes,
		},
	}
}

// apart subscribes to all addresses on every instance, publishes to each, and lets the rules find out who heard what.
func (w *world) apart(crew []*instance, all []backplane.Address) {
	w.each(len(crew), func(i int) {
		for _, a := range all {
			crew[i].subscribe(a)
		}
	})
	for i, a := range all {
		crew[i%len(crew)].publish(a)
	}
}

func groups(names ...string) []backplane.Address {
	out := make([]backplane.Address, len(names))
	for i, name := range names {
		out[i] = group(name)
	}
	return out
}

func isolateAddress(w *world) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789:.-_/"
	var names []string
	for i := range w.count(200) {
		var b strings.Builder
		fmt.Fprintf(&b, "%d:", i)
		for range w.rand.IntN(24) {
			b.WriteByte(letters[w.rand.IntN(len(letters))])
		}
		names = append(names, b.String())
	}
	crew, all := w.crew(), groups(names...)
	w.apart(crew, all)
	for _, a := range all { // equal payloads to several addresses are as many messages
		crew[0].publishRaw(a, []byte("to all of them"))
	}
}

func isolateConfusable(w *world) {
	long := strings.Repeat("x", 199)
	longest := strings.Repeat("y", backplane.MaxName-1)
	w.apart(w.crew(), groups(
		"a", "A", "a ", " a", "a\n", "a\r\n", "a\x00", "a\t", "aa", "a.", ".a", "a.a", "a..a", "a-a", "a_a", "a/a", "a:a", "a a",
		"a%20a", "a+a", "a\\a", "a//a", "a/a/", "./a", "../a", "aA", "Aa",
		"é", "e\u0301", "e", "É", "ß", "ss", "İ", "i", "ı", "I", "ﬁ", "fi", "Å", "Å", "A\u030a", "\ufeffa", "a\u200b", "а", // the last one is Cyrillic
		"0", "00", "-0", "1", "01", "1e0", "null", "nil", "true", "\"a\"", "'a'", "{a}", "[a]", "(a)", "<a>",
		long+"1", long+"2", "1"+long, "2"+long, longest+"1", longest+"2",
		"g:a", "a:g", "ga", "group:a", "all", "*",
	))
}

func isolateWildcards(w *world) {
	w.apart(w.crew(), groups(
		"*", ">", "?", "#", "+", "%", "_", ".*", "^a$", "a.*", "a.>", "*.a", "a.b", "a.b.c", "a*", "a?", "a[bc]", "ab", "[a]", "[a-z]",
		"a.#", "a/+", "a/#", "a/b", "{a}", "{a}b", "a{b}", "a{b", "\\*", "a\\*", "$SYS", "$SYS.>", "_INBOX.>", "a,b", "a;b", "a|b", "(a|b)",
		"__keyspace@0__:a", "&a", "~a", "!a", "@a",
	))
}

func isolateNamespace(w *world) {
	base := w.namespace()
	room := group("room")
	var crew []*instance
	for _, namespace := range []string{base, base + "2", base + "-", base + "_g", base[:len(base)-1]} {
		n := w.newInstance(namespace)
		n.open()
		crew = append(crew, n)
	}
	addresses := append(allKinds("room"), room.In("hub"), group("g:room"), group("2:room"), group(base), group(base+":g:room"))
	w.each(len(crew), func(i int) {
		for _, a := range addresses {
			crew[i].subscribe(a)
		}
	})
	for _, a := range addresses {
		for _, n := range crew {
			n.publish(a)
		}
	}
}

func isolateKinds(w *world) {
	var all []backplane.Address
	for _, name := range []string{"x", "all", "g", "u:x", "0123456789abcdef"} {
		all = append(all, allKinds(name)[1:]...)
	}
	w.apart(w.crew(), append(all, backplane.All()))
}

func isolateScopes(w *world) {
	all := []backplane.Address{group("chat:x"), group("chat"), group("x:chat"), group("-"), group("chat\x00x"), group("chat/x")}
	for _, a := range allKinds("x") {
		all = append(all, a, a.In("chat"), a.In("chat2"), a.In("x"), a.In("g"), a.In("-"), a.In("c"))
	}
	w.apart(w.crew(), all)
}
