package backplane

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// SetFromQuery sets the plain options (text, numbers, times and switches: every field but Logger) from the query of a
// URL, where each stands under its own name in any case:
//
//	redis://host:6379?namespace=ward&probeInterval=500ms&requireBroker=true
//
// It returns the parameters that are not options of a node; they are the transport's. An option that is given twice, or
// in the URL and in the struct as well, is an error, and so is a value that does not parse, is empty, or is 0: what is to
// have its default is left out. Errors wrap [ErrInvalidOption] and name the parameter, but never show a value. On error
// o is unchanged. The query is not changed. Package dial calls it; whether values fit is checked by [Open].
func (o *Options) SetFromQuery(query url.Values) (rest url.Values, err error) {
	set := *o
	fields := set.plain()
	seen := make(map[string]bool)
	rest = make(url.Values)
	for key, values := range query {
		name, field := findField(fields, key)
		if field == nil {
			rest[key] = values
			continue
		}
		if seen[name] || len(values) != 1 {
			return nil, optionError(name, "is given more than once in the URL")
		}
		seen[name] = true
		if err = setField(name, field, values[0]); err != nil {
			return nil, err
		}
	}
	*o = set
	return rest, nil
}

// plainField is a plain option's name and a pointer to its field.
type plainField struct {
	name  string
	field any
}

// plain lists the options that can stand in a URL. A test proves that none is missing.
func (o *Options) plain() []plainField {
	return []plainField{
		{"Namespace", &o.Namespace},
		{"Label", &o.Label},
		{"MaxPayload", &o.MaxPayload},
		{"ProbeInterval", &o.ProbeInterval},
		{"ProbeTimeout", &o.ProbeTimeout},
		{"Heartbeat", &o.Heartbeat},
		{"MemberTimeout", &o.MemberTimeout},
		{"TailMark", &o.TailMark},
		{"ReconnectMin", &o.ReconnectMin},
		{"ReconnectMax", &o.ReconnectMax},
		{"QueueMessages", &o.QueueMessages},
		{"QueueBytes", &o.QueueBytes},
		{"ReceiveBytes", &o.ReceiveBytes},
		{"PublishBytes", &o.PublishBytes},
		{"MaxCounters", &o.MaxCounters},
		{"WaitWhenDown", &o.WaitWhenDown},
		{"RequireBroker", &o.RequireBroker},
		{"HashNames", &o.HashNames},
	}
}

func findField(fields []plainField, key string) (name string, field any) {
	for _, f := range fields {
		if strings.EqualFold(f.name, key) {
			return f.name, f.field
		}
	}
	return "", nil
}

// setField parses a value into a field that has no value yet.
func setField(name string, field any, value string) error {
	switch f := field.(type) {
	case *string:
		return setValue(name, f, value, "some text", func(s string) (string, error) { return s, nil })
	case *int:
		return setValue(name, f, value, "a whole number, 1048576 for example, or leave it out for the default", strconv.Atoi)
	case *time.Duration:
		return setValue(name, f, value, "a time with its unit, 500ms or 2s for example, or leave it out for the default", time.ParseDuration)
	case *bool:
		if *f {
			return optionError(name, "is set in the Options as well; write it in one place only")
		}
		on, err := strconv.ParseBool(value)
		if err != nil {
			return optionError(name, "must be true or false")
		}
		*f = on
		return nil
	default:
		panic(fmt.Sprintf("backplane: an option of type %T cannot stand in a URL", field))
	}
}

func setValue[T comparable](name string, field *T, text, want string, parse func(string) (T, error)) error {
	var zero T
	if *field != zero {
		return optionError(name, "is set in the Options as well; write it in one place only")
	}
	value, err := parse(text)
	if err != nil || value == zero { // err is not shown: it quotes the value
		return optionError(name, "must be "+want)
	}
	*field = value
	return nil
}

func optionError(name, why string) error {
	return fmt.Errorf("%w: the URL's parameter %s %s", transport.ErrInvalidOption, name, why)
}
