package conformance

import (
	"fmt"
	"strings"
)

// judgeBarrier: Close of a subscription and of an instance is the end of its handlers.
func judgeBarrier(v *view) []violation {
	var out []violation
	for s := range v.Subs {
		sub := &v.Subs[s]
		out = append(out, v.afterClose(s, sub.Close, sub.Reentrant, "its Close")...)
		if sub.Result.Class != ok && sub.Result.Class != pending {
			for _, i := range v.runsOf[s] {
				if r := &v.Runs[i]; sub.Return.before(r.Start) {
					out = append(out, violation{
						Witness: fmt.Sprintf("a handler of %s was called with %s, although its Subscribe had failed.", v.subName(s), v.runName(i)),
						Sub:     s, Node: -1, At: r.Start.Tick,
					})
				}
			}
		}
		node := &v.Nodes[sub.Node]
		out = append(out, v.afterClose(s, node.Close, false, "the Close of "+node.Name)...)
	}
	return out
}

// afterClose returns the runs of subscription s that a Close of it, or of its instance, did not prevent.
func (v *view) afterClose(s int, c call, reentrant bool, what string) []violation {
	if !c.Return.happened() {
		return nil
	}
	if c.Result.Class != ok && !v.busy(s, c) {
		return nil // it gave up waiting: a run that had begun just then may be recorded late
	}
	var out []violation
	for _, i := range v.runsOf[s] {
		r := &v.Runs[i]
		at := violation{Sub: s, Node: -1, At: r.Start.Tick}
		switch {
		case c.Return.before(r.Start):
			at.Witness = fmt.Sprintf("the handler of %s was called with %s after %s had returned.", v.subName(s), v.runName(i), what)
			out = append(out, at)
		case c.Result.Class == ok && !reentrant && r.End.orNever() > c.Return.Tick:
			at.Witness = fmt.Sprintf("the handler of %s was still busy with %s when %s returned nil.", v.subName(s), v.runName(i), what)
			out = append(out, at)
		}
	}
	return out
}

// busy reports whether a handler ran through the whole call.
func (v *view) busy(s int, c call) bool {
	for _, i := range v.runsOf[s] {
		if r := &v.Runs[i]; r.Start.before(c.Call) && r.End.orNever() > c.Return.Tick {
			return true
		}
	}
	return false
}

// secret is a word in every payload of the suite that has room for it. Neither it nor the mark that all begin with may
// appear in an error.
const secret = "payload-not-for-errors"

// judgeErrors: every error is one that the contract names for its verb.
func judgeErrors(v *view) []violation {
	var out []violation
	check := func(node, sub int, verb string, c call, allowed ...class) {
		at := violation{Sub: sub, Node: node, At: c.Return.Tick}
		o := c.Result
		if o.Class == pending || o.Class == ok {
			return
		}
		say := func(format string, args ...any) {
			at.Witness = fmt.Sprintf("%s of %s returned %q, ", verb, v.Nodes[node].Name, o.Text) + fmt.Sprintf(format, args...)
			out = append(out, at)
		}
		named := false
		for _, a := range allowed {
			named = named || a == o.Class
		}
		switch {
		case strings.Contains(o.Text, secret) || strings.Contains(o.Text, headerMark):
			say("which shows a payload.")
		case !named:
			say("which is none of the errors that it may return (%s).", o.Class)
		case o.Both:
			say("which is uncertain and definite at once: nobody can tell whether to send again.")
		case !o.Typed && (verb == "Publish" || verb == "Subscribe"):
			say("which is no *backplane.Error.")
		}
	}
	for i := range v.Nodes {
		check(i, -1, "Close", v.Nodes[i].Close, ended, unavailable)
	}
	for i := range v.Pubs {
		p := &v.Pubs[i]
		check(p.Node, -1, "Publish", p.call, closed, tooLarge, badAddress, unavailable, denied, unsupported, uncertain)
	}
	for i := range v.Subs {
		s := &v.Subs[i]
		check(s.Node, i, "Subscribe", s.call, closed, badAddress, unavailable, denied, unsupported, ended)
		check(s.Node, i, "Close of a subscription", s.Close, ended)
	}
	return out
}
