package backplane

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEveryPlainOptionCanStandInAURL(t *testing.T) {
	notPlain := map[string]string{"Logger": "an object of the program"}
	typ := reflect.TypeFor[Options]()
	query := make(url.Values)
	for i := range typ.NumField() {
		f := typ.Field(i)
		if _, ok := notPlain[f.Name]; ok || !f.IsExported() {
			continue
		}
		switch f.Type {
		case reflect.TypeFor[string]():
			query.Set(f.Name, "text of "+f.Name)
		case reflect.TypeFor[int]():
			query.Set(f.Name, strconv.Itoa(100+i))
		case reflect.TypeFor[time.Duration]():
			query.Set(f.Name, fmt.Sprintf("%dms", 100+i))
		case reflect.TypeFor[bool]():
			query.Set(f.Name, "true")
		default:
			t.Errorf("field %s has type %s: teach SetFromQuery, or say here why it is not plain", f.Name, f.Type)
		}
	}
	for what, spell := range map[string]func(string) string{
		"as in Go":    func(s string) string { return s },
		"lower case":  strings.ToLower,
		"first lower": func(s string) string { return strings.ToLower(s[:1]) + s[1:] },
	} {
		var o Options
		spelled := make(url.Values)
		for name, values := range query {
			spelled[spell(name)] = values
		}
		rest, err := o.SetFromQuery(spelled)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%s: %v; left over: %v", what, err, rest)
		}
		v := reflect.ValueOf(o)
		for name := range query {
			var got string
			switch f := v.FieldByName(name).Interface().(type) {
			case time.Duration:
				got = fmt.Sprintf("%dms", f.Milliseconds())
			default:
				got = fmt.Sprint(f)
			}
			if got != query.Get(name) {
				t.Errorf("%s: %s is %q, want %q", what, name, got, query.Get(name))
			}
		}
	}
}

func TestSetFromQueryLeavesTheRest(t *testing.T) {
	o := Options{Label: "here", Logger: slog.New(slog.DiscardHandler)}
	query := url.Values{"namespace": {"ward"}, "ca": {"a", "b"}, "logger": {"x"}, "waitWhenDown": {"0"}}
	rest, err := o.SetFromQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	if want := (url.Values{"ca": {"a", "b"}, "logger": {"x"}}); !reflect.DeepEqual(rest, want) {
		t.Errorf("rest is %v, want %v", rest, want)
	}
	if o.Namespace != "ward" || o.Label != "here" || o.WaitWhenDown || len(query) != 4 {
		t.Errorf("options are %+v, query is %v", o, query)
	}
}

func TestSetFromQueryRefuses(t *testing.T) {
	const secret = "hunter2"
	full := Options{Namespace: "n", MaxPayload: 1, Heartbeat: 1, HashNames: true}
	for name, tc := range map[string]struct {
		have  Options
		query url.Values
		names string // must be in the error
		hint  string // as well
	}{
		"number":          {Options{}, url.Values{"maxpayload": {secret}}, "MaxPayload", "whole number"},
		"number is empty": {Options{}, url.Values{"maxPayload": {""}}, "MaxPayload", "whole number"},
		"number is 0":     {Options{}, url.Values{"maxPayload": {"0"}}, "MaxPayload", "default"},
		"time":            {Options{}, url.Values{"Heartbeat": {secret}}, "Heartbeat", "2s"},
		"time, no unit":   {Options{}, url.Values{"heartbeat": {"5"}}, "Heartbeat", "unit"},
		"time is 0":       {Options{}, url.Values{"heartbeat": {"0s"}}, "Heartbeat", "default"},
		"switch":          {Options{}, url.Values{"hashnames": {secret}}, "HashNames", "true or false"},
		"switch is empty": {Options{}, url.Values{"hashnames": {""}}, "HashNames", "true or false"},
		"text is empty":   {Options{}, url.Values{"namespace": {""}}, "Namespace", "text"},
		"twice":           {Options{}, url.Values{"namespace": {"a", secret}}, "Namespace", "more than once"},
		"two spellings":   {Options{}, url.Values{"namespace": {secret}, "Namespace": {secret}}, "Namespace", "more than once"},
		"text is set":     {full, url.Values{"namespace": {"n"}}, "Namespace", "one place"},
		"number is set":   {full, url.Values{"maxPayload": {"1"}}, "MaxPayload", "one place"},
		"time is set":     {full, url.Values{"heartbeat": {secret}}, "Heartbeat", "one place"},
		"switch is set":   {full, url.Values{"hashNames": {"false"}}, "HashNames", "one place"},
	} {
		o := tc.have
		tc.query.Set("label", "good")
		rest, err := o.SetFromQuery(tc.query)
		switch {
		case !errors.Is(err, ErrInvalidOption):
			t.Errorf("%s: %v, want %v", name, err, ErrInvalidOption)
		case !strings.Contains(err.Error(), tc.names) || !strings.Contains(err.Error(), tc.hint) || strings.Contains(err.Error(), secret):
			t.Errorf("%s: %q must say %q and %q and no value", name, err, tc.names, tc.hint)
		case !reflect.DeepEqual(o, tc.have) || rest != nil:
			t.Errorf("%s: options are %+v after the error, rest is %v", name, o, rest)
		}
	}
}
