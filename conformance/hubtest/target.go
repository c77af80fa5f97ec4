package hubtest

import (
	"fmt"
	"slices"
	"strings"
)

func userKey(user string) string   { return "user " + user }
func groupKey(group string) string { return "group " + group }

// target is the client itself.
func (c *client) target() Target { return to(c) }

// to targets some clients.
func to(clients ...*client) Target {
	var t Target
	for _, c := range clients {
		t.Connections = append(t.Connections, c.id())
	}
	return t
}

func groups(names ...string) Target { return Target{Groups: names} }
func users(names ...string) Target  { return Target{Users: names} }

func everybody() Target { return Target{All: true} }

// but leaves some clients out of a target.
func (t Target) but(clients ...*client) Target {
	t.Except = to(clients...).Connections
	return t
}

// keys are those of who a target may mean; none for all.
func (w *world) keys(t Target) []string {
	if t.All {
		return nil
	}
	keys := w.names(t.Connections)
	for _, g := range t.Groups {
		keys = append(keys, groupKey(g))
	}
	for _, u := range t.Users {
		keys = append(keys, userKey(u))
	}
	return keys
}

// joins notes that those of a target may have come into a group.
func (w *world) joins(of Target, group string) {
	keys := w.keys(of)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.clients {
		if len(keys) == 0 || slices.ContainsFunc(keys, func(k string) bool { return slices.Contains(c.keys, k) }) {
			c.keys = append(c.keys, groupKey(group))
		}
	}
}

// target tells a target with the clients' names.
func (w *world) target(t Target) string {
	var parts []string
	if t.All {
		parts = append(parts, "all")
	}
	list := func(before string, names []string) {
		const most = 4
		for i, n := range names {
			if i == most {
				parts = append(parts, fmt.Sprintf("%d more", len(names)-most))
				return
			}
			parts = append(parts, before+short(n))
		}
	}
	list("group ", t.Groups)
	list("user ", t.Users)
	list("", w.names(t.Connections))
	list("but not ", w.names(t.Except))
	return strings.Join(parts, ", ")
}

// short cuts a name for people.
func short(name string) string {
	const most = 20
	if len(name) > most {
		return strings.ToValidUTF8(name[:most-1], "") + "…"
	}
	return name
}

// names turns ids into the clients' names.
func (w *world) names(ids []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Clone(ids)
	for i, id := range out {
		for _, c := range w.clients {
			if c.conn != nil && c.conn.ID() == id {
				out[i] = c.name
			}
		}
	}
	return out
}
