package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
)

const (
	defaultListen    = "127.0.0.1:8080"
	defaultBackplane = "inmem:"
	defaultInstances = 3
	maxInstances     = 26 // they are named A to Z

	// noBackplane as the URL gives every instance a broker of its own, so that no two of them meet.
	noBackplane = "none"
)

// config is a valid command line.
type config struct {
	backplane string
	instances int
	listen    string
	check     bool
	kill      bool
	connect   []string // the instances to check, or the balancer in front of them; none for a farm of our own
}

// usageError is a mistake in the command line. Its text names the flag.
type usageError struct{ why string }

func (e *usageError) Error() string { return e.why }

func wrongUse(flag, format string, args ...any) error {
	return &usageError{why: "-" + flag + ": " + fmt.Sprintf(format, args...)}
}

func flags(c *config, connect *string) *flag.FlagSet {
	fs := flag.NewFlagSet("wardboard", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are told in one line, by run
	fs.StringVar(&c.backplane, "backplane", defaultBackplane,
		"`URL` of the backplane: inmem:, redis://host:6379, nats://host:4222, nats+embedded:, or none to see what happens without one")
	fs.IntVar(&c.instances, "instances", defaultInstances,
		"`number` of instances behind the built-in balancer; with 1 the instance listens itself, so that several processes make a farm")
	fs.StringVar(&c.listen, "listen", defaultListen, "`address` to listen on; port 0 takes a free one")
	fs.BoolVar(&c.check, "check", false, "check the delivery of one alert without a person, and exit: status 0 if 9 of 9 nurses got it")
	fs.BoolVar(&c.kill, "kill", false,
		"with -check: one instance dies without a goodbye; over a broker each instance is a process of its own. Status 0 if all other nurses "+
			"got the alert and those of the dead one are off the list within the member timeout")
	fs.StringVar(connect, "connect", "", "with -check: `URLs`, parted by commas, of instances that run already, or of a balancer in front of them")
	return fs
}

func usage(w io.Writer) {
	fs := flags(&config{}, new(string))
	fs.SetOutput(w)
	sayf(w, "wardboard shows what a backplane is for.\n\n")
	fs.PrintDefaults()
}

// parse reads the command line. Its errors are flag.ErrHelp and *usageError.
func parse(args []string) (config, error) {
	var c config
	var connect string
	fs := flags(&c, &connect)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, &usageError{why: err.Error()} // it names the flag
	}
	if fs.NArg() > 0 {
		return c, &usageError{why: fmt.Sprintf("%q is not a flag; flags begin with a dash", fs.Arg(0))}
	}
	set := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	switch {
	case set["connect"] && !c.check:
		return c, wrongUse("connect", "only together with -check")
	case set["listen"] && c.check:
		return c, wrongUse("listen", "not together with -check, which takes free ports")
	case c.kill && !c.check:
		return c, wrongUse("kill", "only together with -check")
	case c.kill && set["connect"]:
		return c, wrongUse("kill", "not together with -connect: what others have started is not killed")
	case c.kill && c.instances == 1:
		return c, wrongUse("kill", "somebody has to be left; start 2 instances at least")
	case c.kill && embeds(c.backplane):
		return c, wrongUse("kill", "not together with nats+embedded: the instances of a process share one server; start a process each")
	case set["connect"] && set["backplane"]:
		return c, wrongUse("backplane", "not together with -connect: the instances that run already have theirs")
	case set["connect"] && set["instances"]:
		return c, wrongUse("instances", "not together with -connect: the URLs say which there are")
	case c.instances < 1 || c.instances > maxInstances:
		return c, wrongUse("instances", "must be 1 to %d, not %d", maxInstances, c.instances)
	case c.backplane == "":
		return c, wrongUse("backplane", "is empty; write inmem:, redis://host:6379, nats://host:4222, nats+embedded: or none")
	}
	if err := checkAddress(c.listen); err != nil {
		return c, err
	}
	if !set["connect"] {
		return c, nil
	}
	for raw := range strings.SplitSeq(connect, ",") {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" { // err is not shown: it can quote a password
			return c, wrongUse("connect", "must be URLs like http://127.0.0.1:8081, parted by commas")
		}
		c.connect = append(c.connect, raw)
	}
	return c, nil
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return wrongUse("listen", "must be host:port, not %q", address)
	}
	if _, err = strconv.ParseUint(port, 10, 16); err != nil {
		return wrongUse("listen", "the port must be a number from 0 to 65535, not %q", port)
	}
	return nil
}
