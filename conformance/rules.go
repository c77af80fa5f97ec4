package conformance

import (
	"fmt"
	"slices"
)

// violation is one sight of a broken rule.
type violation struct {
	Rule    string
	Witness string
	Sub     int   // the subscription it concerns; -1 for none
	Node    int   // the publishing or failing instance; -1 for none
	Pubs    []int // the messages it is about
	At      int64 // the tick where it shows
}

// rule judges a history. Rules are pure: the same history, the same verdict.
type rule struct {
	name  string
	says  string // what holds for every history of a backplane that keeps the contract
	home  string // the property that is about just this
	judge func(*view) []violation
}

// allRules returns the rules, the clearest first: when several are broken, the first one tells most about the cause.
func allRules() []rule {
	return []rule{
		{"origin", "every message heard was published, to that address, by that instance", "deliver/only-subscribed", judgeOrigin},
		{"intact", "a payload arrives as it was sent", "payload/intact", judgeIntact},
		{"once", "a subscription hears a message at most once", "deliver/once", judgeOnce},
		{"order", "messages of one instance to one address arrive in the order of their publish calls", "order/per-publisher", judgeOrder},
		{"mustNot", "a message that was refused, or is long past, is not heard", "deliver/no-history", judgeMustNot},
		{"barrier", "no handler starts or runs on after its subscription's or instance's Close has returned", "unsubscribe/barrier", judgeBarrier},
		{"serial", "a subscription's handler is not called concurrently with itself", "handler/serial", judgeSerial},
		{"must", "what was published while subscribed is heard, or covered by a gap", "deliver/once", judgeMust},
		{"lossIsLoud", "a gap comes before the next message of the publisher whose messages are missing", "link/loss-is-loud", judgeLossIsLoud},
		{"counts", "a gap that counts messages counts no more than are missing", "link/loss-is-loud", judgeCounts},
		{"taken", "what Publish returned nil for is heard wherever the link is well, and not replaced by a gap", "publish/confirmed", judgeTaken},
		{"noFalseAlarm", "there is no gap without a cause", "link/gap-true", judgeNoFalseAlarm},
		{"errors", "errors are documented ones, and show no payload", "errors/documented", judgeErrors},
	}
}

// judge applies all rules.
func judge(h history) []violation {
	v := newView(h)
	var all []violation
	for _, r := range allRules() {
		found := r.judge(v)
		for i := range found {
			found[i].Rule = r.name
		}
		all = append(all, found...)
	}
	return all
}

// judgeOrigin: address, namespace and publisher are as sent.
func judgeOrigin(v *view) []violation {
	var out []violation
	ids := map[int]string{} // the publisher's id as reported, by instance
	for i := range v.Nodes {
		if id := string(v.Nodes[i].ID); id != "" {
			ids[i] = id
		}
	}
	for i := range v.Runs {
		r := &v.Runs[i]
		if r.Gap != 0 {
			continue
		}
		s := &v.Subs[r.Sub]
		say := func(node int, format string, args ...any) {
			x := violation{Witness: fmt.Sprintf(format, args...), Sub: r.Sub, Node: node, At: r.Start.Tick}
			if r.Pub >= 0 {
				x.Pubs = []int{r.Pub}
			}
			out = append(out, x)
		}
		if r.Pub < 0 {
			say(-1, "%s heard what nobody published to %v: %s.", v.subName(r.Sub), s.Place.Address, r.What)
			continue
		}
		p := &v.Pubs[r.Pub]
		switch {
		case p.Place.Namespace != s.Place.Namespace:
			say(p.Node, "%s in namespace %q heard %s, which was published in namespace %q.",
				v.subName(r.Sub), s.Place.Namespace, v.pubName(r.Pub), p.Place.Namespace)
		case p.Place.Address != s.Place.Address:
			say(p.Node, "%s subscribed to %v and heard %s, which was published to %v.",
				v.subName(r.Sub), s.Place.Address, v.pubName(r.Pub), p.Place.Address)
		case r.Address != p.Place.Address:
			say(p.Node, "%s heard %s with the address %v; it was published to %v.",
				v.subName(r.Sub), v.pubName(r.Pub), r.Address, p.Place.Address)
		case r.Publisher == "":
			say(p.Node, "%s heard %s without a publisher.", v.subName(r.Sub), v.pubName(r.Pub))
		case ids[p.Node] == "":
			ids[p.Node] = string(r.Publisher)
			for other, id := range ids {
				if other != p.Node && id == string(r.Publisher) {
					say(p.Node, "messages of %s and %s are told to be of one publisher, %s.", v.Nodes[other].Name, v.Nodes[p.Node].Name, id)
				}
			}
		case ids[p.Node] != string(r.Publisher):
			say(p.Node, "%s heard %s with publisher %s; it is %s.", v.subName(r.Sub), v.pubName(r.Pub), r.Publisher, ids[p.Node])
		}
	}
	return out
}

// judgeIntact: the bytes are as sent.
func judgeIntact(v *view) []violation {
	var out []violation
	for i := range v.Runs {
		r := &v.Runs[i]
		if r.Gap != 0 || r.Pub < 0 {
			continue
		}
		p := &v.Pubs[r.Pub]
		if r.Size == p.Size && r.Sum == p.Sum {
			continue
		}
		text := fmt.Sprintf("%s heard %s with other bytes than were sent (%d of them).", v.subName(r.Sub), v.pubName(r.Pub), r.Size)
		if r.Size != p.Size {
			text = fmt.Sprintf("%s heard %s with %d bytes; %d were sent.", v.subName(r.Sub), v.pubName(r.Pub), r.Size, p.Size)
		}
		out = append(out, violation{Witness: text, Sub: r.Sub, Node: p.Node, Pubs: []int{r.Pub}, At: r.Start.Tick})
	}
	return out
}

// judgeOnce: no repeats.
func judgeOnce(v *view) []violation {
	var out []violation
	for s := range v.Subs {
		seen := map[int]bool{}
		for _, i := range v.runsOf[s] {
			r := &v.Runs[i]
			if r.Pub < 0 {
				continue
			}
			if seen[r.Pub] {
				out = append(out, violation{
					Witness: fmt.Sprintf("%s heard %s twice.", v.subName(s), v.pubName(r.Pub)),
					Sub:     s, Node: v.Pubs[r.Pub].Node, Pubs: []int{r.Pub}, At: r.Start.Tick,
				})
			}
			seen[r.Pub] = true
		}
	}
	return out
}

// judgeOrder: publishes of one instance to one address that did not overlap are heard in their order.
func judgeOrder(v *view) []violation {
	var out []violation
	for s := range v.Subs {
		newest := map[int]int{} // by instance: the message heard whose publish began last
		for _, i := range v.runsOf[s] {
			r := &v.Runs[i]
			if r.Pub < 0 || v.Pubs[r.Pub].Place != v.Subs[s].Place {
				continue
			}
			p := &v.Pubs[r.Pub]
			last, heard := newest[p.Node]
			if heard && p.Return.before(v.Pubs[last].Call) {
				out = append(out, violation{
					Witness: fmt.Sprintf("%s heard %s after %s on %v.", v.subName(s), v.pubName(r.Pub), v.pubName(last), p.Place.Address),
					Sub:     s, Node: p.Node, Pubs: []int{last, r.Pub}, At: r.Start.Tick,
				})
			}
			if !heard || v.Pubs[last].Call.before(p.Call) {
				newest[p.Node] = r.Pub
			}
		}
	}
	return out
}

// judgeMustNot: a definite error means that nobody hears it, and what was over before Subscribe began stays unheard.
func judgeMustNot(v *view) []violation {
	var out []violation
	for i := range v.Runs {
		r := &v.Runs[i]
		if r.Pub < 0 {
			continue
		}
		p, s := &v.Pubs[r.Pub], &v.Subs[r.Sub]
		at := violation{Sub: r.Sub, Node: p.Node, Pubs: []int{r.Pub}, At: r.Start.Tick}
		if p.Result.definite() {
			at.Witness = fmt.Sprintf("%s heard %s, although Publish had returned %q.", v.subName(r.Sub), v.pubName(r.Pub), p.Result.Text)
			out = append(out, at)
		}
		past := func(m markRecord) bool {
			return m.Kind == markQuiet && p.Return.before(m.Start) && m.End.before(s.Call)
		}
		if slices.ContainsFunc(v.Marks, past) {
			at.Witness = fmt.Sprintf("%s heard %s, which had been published long before it subscribed.", v.subName(r.Sub), v.pubName(r.Pub))
			out = append(out, at)
		}
	}
	return out
}

// judgeSerial: runs of one handler do not overlap.
func judgeSerial(v *view) []violation {
	var out []violation
	for s := range v.Subs {
		for k, i := range v.runsOf[s] {
			if k == 0 {
				continue
			}
			before := &v.Runs[v.runsOf[s][k-1]]
			if v.Runs[i].Start.Tick < before.End.orNever() {
				out = append(out, violation{
					Witness: fmt.Sprintf("the handler of %s was called with %s while it was still busy with %s.",
						v.subName(s), v.runName(i), v.runName(v.runsOf[s][k-1])),
					Sub: s, Node: -1, At: v.Runs[i].Start.Tick,
				})
			}
		}
	}
	return out
}
