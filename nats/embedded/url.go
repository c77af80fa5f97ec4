package embedded

import (
	"strings"

	"github.com/gobackplane/backplane/internal/dialing"
)

// readURL sets the options that the URL gives. Errors never show a part of the URL that may be a secret.
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
	if listen != "" {
		if o.Listen != "" {
			return invalid("URL gives Listen, its host, and the Options do as well; write it in one place only")
		}
		o.Listen = listen
	}
	err := dialing.Options{
		dialing.Text("Name", &o.Name), dialing.Text("Advertise", &o.Advertise), dialing.List("Peers", &o.Peers),
		dialing.Text("Cluster", &o.Cluster), dialing.Text("Secret", &o.Secret), dialing.Text("SecretFile", &o.SecretFile),
		dialing.Text("CAFile", &o.CAFile), dialing.Text("CertFile", &o.CertFile), dialing.Text("KeyFile", &o.KeyFile),
		dialing.Text("ServerName", &o.ServerName),
	}.ReadQuery(query)
	if err != nil {
		return invalid("%v", err)
	}
	return nil
}
