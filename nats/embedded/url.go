package embedded

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// readURL sets the options that the URL gives. Errors never show a part of the URL that may be a secret; those of net/url
// do, so they are not wrapped.
func (o *Options) readURL() error {
	rest, query, _ := strings.Cut(o.URL, "?")
	scheme, rest, ok := strings.Cut(rest, ":")
	if !ok || !strings.EqualFold(scheme, "nats+embedded") {
		return invalid("URL does not start with nats+embedded: write nats+embedded://0.0.0.0:6222?peers=HOST:6222&secret=SECRET, or nats+embedded: alone")
	}
	listen := strings.TrimSuffix(strings.TrimPrefix(rest, "//"), "/")
	switch {
	case rest != "" && !strings.HasPrefix(rest, "//"):
		return invalid("URL has text after nats+embedded: that does not begin with //; write nats+embedded://0.0.0.0:6222")
	case strings.Contains(listen, "@"):
		return invalid("URL has an '@'; there are no users: write the secret into the query, ?secret=SECRET, with %%40 for an '@'")
	case strings.ContainsAny(listen, "/,"):
		return invalid("URL has a path, or several hosts, where the address to listen on stands alone; write peers into the query, ?peers=HOST,HOST")
	case strings.Contains(o.URL, "#"):
		return invalid("URL has a '#', which means nothing here; in a value write %%23")
	}
	if err := set("Listen", &o.Listen, listen); listen != "" && err != nil {
		return err
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return invalid("URL has a query that does not parse; write ?Option=value&Option=value, with %%26 for &, %%25 for %% and %%2B for +")
	}
	return o.readQuery(values)
}

func (o *Options) readQuery(values url.Values) error {
	var peers string
	fields := map[string]*string{
		"Name": &o.Name, "Advertise": &o.Advertise, "Peers": &peers, "Cluster": &o.Cluster, "Secret": &o.Secret,
		"SecretFile": &o.SecretFile, "CAFile": &o.CAFile, "CertFile": &o.CertFile, "KeyFile": &o.KeyFile, "ServerName": &o.ServerName,
	}
	for key, given := range values {
		name := ""
		for option := range fields {
			if strings.EqualFold(option, key) {
				name = option
			}
		}
		switch {
		case name == "":
			return invalid("the URL's parameter %q is not known; the transport's are %s", key, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		case len(given) != 1 || given[0] == "":
			return invalid("the URL's parameter %s must be given once, with a value", name)
		}
		if err := set(name, fields[name], given[0]); err != nil {
			return err
		}
	}
	if peers == "" {
		return nil
	}
	if len(o.Peers) > 0 {
		return twice("Peers")
	}
	o.Peers = strings.Split(peers, ",")
	return nil
}

// set gives an option a value that it does not have yet.
func set(name string, field *string, value string) error {
	if *field != "" {
		return twice(name)
	}
	*field = value
	return nil
}

func twice(name string) error {
	return invalid("URL gives %s twice, or the Options do as well; write it in one place only", name)
}
