package conformance

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gobackplane/backplane"
)

// written returns a history as it is kept after a failure.
func written(t testing.TB, r Result) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteHistory(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What is read is what was written, for everything that properties record.
func TestHistoriesComeBackWhole(t *testing.T) {
	open, faults := toys(nil)
	var report *Report
	synctest.Test(t, func(t *testing.T) { report = Check(t.Context(), open, faults, Bubble(), Short(), Seed(3)) })
	read := 0
	for _, r := range report.Results {
		if len(r.history.Nodes) == 0 {
			continue // it was not run
		}
		read++
		text := written(t, r)
		h, err := ReadHistory(strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", r.Property.ID, err)
			continue
		}
		got, want := reflect.ValueOf(h.history), reflect.ValueOf(r.history)
		for i := range got.NumField() {
			if got.Field(i).Len() == 0 && want.Field(i).Len() == 0 {
				continue
			}
			if !reflect.DeepEqual(got.Field(i).Interface(), want.Field(i).Interface()) {
				t.Errorf("%s: %s came back different", r.Property.ID, got.Type().Field(i).Name)
			}
		}
		if again := h.Judge(); len(again) > 0 && r.Verdict == Proven {
			t.Errorf("%s was proven, and is judged now: %v", r.Property.ID, again[0])
		}
	}
	if read < 30 {
		t.Errorf("only %d histories", read)
	}
}

// A failure that was kept is judged like the run that it is of.
func TestJudgeAgain(t *testing.T) {
	r := prove(t, "order/per-publisher", func(b *broken) { b.handler = swapping })
	h, err := ReadHistory(strings.NewReader(written(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	var then *Failure
	found := h.Judge()
	if !errors.As(r.Err, &then) || len(found) == 0 {
		t.Fatalf("%v, and now %v", r.Err, found)
	}
	now := found[0]
	if now.Rule != then.Rule || now.Witness != then.Witness || now.More != then.More || !reflect.DeepEqual(now.Timeline, then.Timeline) {
		t.Errorf("then\n%v\nand now\n%v", then, now)
	}
	if h.Property != r.Property.ID || h.Verdict != "failed" || h.Witness != then.Witness || h.Suite != Version {
		t.Errorf("%+v", h)
	}
}

func TestAddressesComeBack(t *testing.T) {
	for _, a := range []backplane.Address{
		{}, backplane.All(), backplane.All().In("chat"), backplane.Group("room"), backplane.Group(""), backplane.User("a\"b c in \"d\"").In("x"),
		backplane.Connection("\x00\xff\u2028🚑"), backplane.Inbox("0123456789abcdef"), backplane.Group("g").In(""), backplane.Group("g").In("no scope"),
	} {
		if got, err := parseAddress(a.String()); err != nil || got != a {
			t.Errorf("%v came back as %v, %v", a, got, err)
		}
	}
	for _, text := range []string{"", "group", "group x", `group "x`, `group "x" on "y"`, `group "x" in y`, "all x", `no "x"`} {
		if a, err := parseAddress(text); err == nil {
			t.Errorf("%q is read as %v", text, a)
		}
	}
}

func TestBadHistoriesAreRefused(t *testing.T) {
	const title = `{"suite":"v1","property":"deliver/once","verdict":"failed","seed":"0x1"}` + "\n"
	const node = `{"node":0,"record":{"name":"n1"}}` + "\n"
	for name, text := range map[string]string{
		"empty":         "",
		"no title":      node,
		"two titles":    title + title,
		"no JSON":       title + "x",
		"torn":          title + node[:20],
		"no record":     title + `{"node":0}`,
		"wrong type":    title + `{"node":0,"record":7}`,
		"out of order":  title + `{"node":1,"record":{}}`,
		"negative":      title + `{"node":-1,"record":{}}`,
		"sub of nobody": title + node + `{"sub":0,"record":{"node":1,"place":{"address":"all"}}}`,
		"pub of nobody": title + `{"pub":0,"record":{"node":0,"place":{"address":"all"}}}`,
		"run of none":   title + node + `{"run":0,"record":{"sub":0,"pub":-1}}`,
		"mark of none":  title + node + `{"mark":0,"record":{"kind":"cut","node":-2,"sub":-1}}`,
		"no address":    title + node + `{"pub":0,"record":{"node":0,"place":{"address":"room"}}}`,
	} {
		if _, err := ReadHistory(strings.NewReader(text)); !errors.Is(err, errHistory) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever a file holds, reading it ends with an error or with a history that can be judged and written again.
func FuzzReadHistory(f *testing.F) {
	f.Add([]byte(`{"suite":"v1","property":"deliver/once"}
{"node":0,"record":{"name":"n1","namespace":"a","open":{"call":{"tick":1},"return":{"tick":2},"result":{"class":"ok"}}}}
{"sub":0,"record":{"node":0,"place":{"namespace":"a","address":"group \"room\""},"call":{"tick":3},"return":{"tick":4},"result":{"class":"ok"}}}
{"pub":0,"record":{"node":0,"seq":1,"place":{"namespace":"a","address":"group \"room\""},"call":{"tick":5},"return":{"tick":6},"result":{"class":"ok"}}}
{"run":0,"record":{"sub":0,"start":{"tick":7},"end":{"tick":8},"pub":0,"address":"group \"room\""}}
{"run":1,"record":{"sub":0,"start":{"tick":9},"end":{"tick":10},"pub":0,"address":"group \"room\""}}
{"run":2,"record":{"sub":0,"start":{"tick":11},"pub":-1,"gap":1,"missed":2,"publisher":"x"}}
{"mark":0,"record":{"kind":"cut","node":0,"sub":-1,"start":{"tick":12}}}
{"mark":1,"record":{"kind":"over","node":-1,"sub":-1,"start":{"tick":13}}}
`))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := ReadHistory(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, failure := range h.Judge() {
			if failure.Witness == "" || failure.Error() == "" {
				t.Errorf("a failure of %q says nothing", failure.Rule)
			}
		}
		var b bytes.Buffer
		if err := h.history.write(&b, historyTitle{Suite: h.Suite, Property: h.Property}); err != nil {
			t.Fatal(err)
		}
		again, err := ReadHistory(&b)
		if err != nil {
			t.Fatalf("it was written so that it cannot be read: %v", err)
		}
		if now, then := len(again.Judge()), len(h.Judge()); now != then {
			t.Errorf("written and read, %d rules are broken; before it were %d", now, then)
		}
	})
}
