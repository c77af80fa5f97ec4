package dialing

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Options are those of a transport that can stand in a URL.
type Options []Option

// Option is a field that has a name, which in a URL may be written in any case.
type Option struct {
	name  string
	given func() bool
	set   func(string) error
}

// Text is an option that is a string.
func Text(name string, field *string) Option {
	return Option{name, func() bool { return *field != "" }, func(text string) error { *field = text; return nil }}
}

// List is an option that is a list, with commas between in a URL.
func List(name string, field *[]string) Option {
	return Option{name, func() bool { return len(*field) > 0 }, func(text string) error { *field = strings.Split(text, ","); return nil }}
}

// Number is an option that is a whole number, with what else it must be: "1 to 5".
func Number(name, must string, field *int) Option {
	return Option{name, func() bool { return *field != 0 }, func(text string) (err error) {
		if *field, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("the URL's parameter %s must be a number, %s", name, must)
		}
		return nil
	}}
}

// ReadQuery sets options from the query of a URL. One that has a value already is refused.
func (o Options) ReadQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("URL has a query that does not parse; write ?Option=value&Option=value, with %26 for &, %25 for % and %2B for +")
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		option, given := o.find(key), values[key]
		switch {
		case option == nil:
			return fmt.Errorf("the URL's parameter %q is not known; the transport's parameters are %s", key, o.names())
		case len(given) != 1 || given[0] == "":
			return fmt.Errorf("the URL's parameter %s must be given once, with a value", option.name)
		case option.given():
			return fmt.Errorf("the URL's parameter %s is given elsewhere as well; write it in one place only", option.name)
		}
		if err := option.set(given[0]); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) find(name string) *Option {
	i := slices.IndexFunc(o, func(option Option) bool { return strings.EqualFold(option.name, name) })
	if i < 0 {
		return nil
	}
	return &o[i]
}

func (o Options) names() string {
	names := make([]string, len(o))
	for i, option := range o {
		names[i] = option.name
	}
	return strings.Join(names, ", ")
}
