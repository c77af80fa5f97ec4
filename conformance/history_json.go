package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gobackplane/backplane"
)

// A history is written as JSON lines: a title, then each record under its kind and number. A bug report can be such a
// file, and it may come from anywhere: what is read is checked as far as the rules rely on it.

// historyTitle is the first line.
type historyTitle struct {
	Suite    string `json:"suite"`
	Property string `json:"property"`
	Verdict  string `json:"verdict"`
	Seed     string `json:"seed"`
	Witness  string `json:"witness,omitempty"`
}

// historyLine is any other line: one record, under its kind.
type historyLine struct {
	Node   *int            `json:"node,omitempty"`
	Sub    *int            `json:"sub,omitempty"`
	Pub    *int            `json:"pub,omitempty"`
	Run    *int            `json:"run,omitempty"`
	Mark   *int            `json:"mark,omitempty"`
	Record json.RawMessage `json:"record,omitempty"`
}

// write writes the history.
func (h history) write(w io.Writer, title historyTitle) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(title); err != nil {
		return fmt.Errorf("conformance: writing the history: %w", err)
	}
	return errors.Join(
		writeRecords(enc, "node", h.Nodes), writeRecords(enc, "sub", h.Subs), writeRecords(enc, "pub", h.Pubs),
		writeRecords(enc, "run", h.Runs), writeRecords(enc, "mark", h.Marks),
	)
}

func writeRecords[T any](enc *json.Encoder, kind string, records []T) error {
	for i := range records {
		if err := enc.Encode(map[string]any{kind: i, "record": records[i]}); err != nil {
			return fmt.Errorf("conformance: writing the history: %w", err)
		}
	}
	return nil
}

// errHistory is the cause of everything that is wrong with a history that was read.
var errHistory = errors.New("not a history of the suite")

// readHistory reads what write wrote.
func readHistory(r io.Reader) (h history, title historyTitle, err error) {
	dec := json.NewDecoder(r)
	wrong := func(line int, err error) (history, historyTitle, error) {
		return history{}, historyTitle{}, fmt.Errorf("conformance: line %d: %w: %w", line, errHistory, err)
	}
	if err := dec.Decode(&title); err != nil {
		return wrong(1, err)
	}
	if title.Suite == "" || title.Property == "" {
		return wrong(1, errors.New("it is not the title"))
	}
	for n := 2; ; n++ {
		var line historyLine
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = h.add(line)
		}
		if err != nil {
			return wrong(n, err)
		}
	}
	if err := h.check(); err != nil {
		return history{}, historyTitle{}, fmt.Errorf("conformance: %w: %w", errHistory, err)
	}
	return h, title, nil
}

// add adds the record of a line.
func (h *history) add(line historyLine) error {
	switch {
	case line.Node != nil:
		return addRecord(&h.Nodes, *line.Node, line.Record)
	case line.Sub != nil:
		return addRecord(&h.Subs, *line.Sub, line.Record)
	case line.Pub != nil:
		return addRecord(&h.Pubs, *line.Pub, line.Record)
	case line.Run != nil:
		return addRecord(&h.Runs, *line.Run, line.Record)
	case line.Mark != nil:
		return addRecord(&h.Marks, *line.Mark, line.Record)
	default:
		return errors.New("a record of no kind")
	}
}

func addRecord[T any](to *[]T, id int, text json.RawMessage) error {
	var record T
	if id != len(*to) {
		return fmt.Errorf("record %d, where %d comes next", id, len(*to))
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return err
	}
	*to = append(*to, record)
	return nil
}

// check sees to it that records refer to records that are there.
func (h *history) check() error {
	bad := func(kind string, i int) error {
		return fmt.Errorf("%s %d refers to a record that is not there", kind, i)
	}
	known := func(i, n int) bool { return i >= 0 && i < n }
	for i := range h.Subs {
		if !known(h.Subs[i].Node, len(h.Nodes)) {
			return bad("sub", i)
		}
	}
	for i := range h.Pubs {
		if !known(h.Pubs[i].Node, len(h.Nodes)) {
			return bad("pub", i)
		}
	}
	for i := range h.Runs {
		if r := &h.Runs[i]; !known(r.Sub, len(h.Subs)) || r.Pub != -1 && !known(r.Pub, len(h.Pubs)) {
			return bad("run", i)
		}
	}
	for i := range h.Marks {
		if m := &h.Marks[i]; m.Node != -1 && !known(m.Node, len(h.Nodes)) || m.Sub != -1 && !known(m.Sub, len(h.Subs)) {
			return bad("mark", i)
		}
	}
	return nil
}

// The address is written as people read it, group "room", which parseAddress reads.

type placeJSON struct {
	Namespace string `json:"namespace"`
	Address   string `json:"address"`
}

// MarshalJSON writes the place with its address.
func (p place) MarshalJSON() ([]byte, error) {
	return json.Marshal(placeJSON{p.Namespace, p.Address.String()})
}

// UnmarshalJSON is the reverse.
func (p *place) UnmarshalJSON(text []byte) error {
	var read placeJSON
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	address, err := parseAddress(read.Address)
	*p = place{read.Namespace, address}
	return err
}

type plainRun runRecord // without methods

type runJSON struct {
	*plainRun

	Address string `json:"address,omitempty"` // of a message
}

// MarshalJSON writes the run with the address of its message.
func (r runRecord) MarshalJSON() ([]byte, error) {
	out := runJSON{plainRun: (*plainRun)(&r)}
	if r.Address != (backplane.Address{}) {
		out.Address = r.Address.String()
	}
	return json.Marshal(out)
}

// UnmarshalJSON is the reverse.
func (r *runRecord) UnmarshalJSON(text []byte) error {
	in := runJSON{plainRun: (*plainRun)(r)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	var err error
	if in.Address != "" {
		r.Address, err = parseAddress(in.Address)
	}
	return err
}

// parseAddress reads what [backplane.Address.String] writes.
func parseAddress(text string) (backplane.Address, error) {
	kind, rest, _ := strings.Cut(text, " ")
	var name string
	if kind != "all" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return backplane.Address{}, fmt.Errorf("the address %q: %w", text, err)
		}
		name, _ = strconv.Unquote(quoted) // it is quoted well
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	var a backplane.Address
	switch kind {
	case "all":
		a = backplane.All()
	case "group":
		a = backplane.Group(name)
	case "user":
		a = backplane.User(name)
	case "connection":
		a = backplane.Connection(name)
	case "inbox":
		a = backplane.Inbox(backplane.NodeID(name))
	case "invalid": // the zero Address
	default:
		return a, fmt.Errorf("the address %q is of no known kind", text)
	}
	if rest == "" {
		return a, nil
	}
	quoted, ok := strings.CutPrefix(rest, "in ")
	scope, err := strconv.Unquote(quoted)
	if !ok || err != nil {
		return backplane.Address{}, fmt.Errorf("the address %q has no scope where one should be", text)
	}
	return a.In(scope), nil
}
