package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gobackplane/backplane/conformance"
)

// request is what conform was asked for.
type request struct {
	url       string
	match     *regexp.Regexp // nil for all properties
	short     bool
	verbose   bool
	patience  time.Duration // 0 for the suite's own
	soak      time.Duration // 0 for none
	seed      uint64        // 0 for one at random
	broker    string
	jsonFile  string
	mdFile    string
	artifacts string
	strict    bool
	known     map[string]string    // property id → link
	options   []conformance.Option // those that need nothing but their flag
}

// parse reads the arguments of conform. Flags may stand on both sides of the URL.
func parse(args []string, stdout io.Writer) (*request, error) {
	r := &request{known: map[string]string{}}
	flags := flag.NewFlagSet("conform", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are told once, by run
	flags.BoolVar(&r.short, "short", false, "two instances, few messages, and without the properties that take seconds")
	flags.BoolVar(&r.verbose, "v", false, "tell each result as it comes")
	flags.StringVar(&r.broker, "broker", "", "the broker and its version, for the head of the report")
	flags.StringVar(&r.jsonFile, "json", "", "write the report as JSON to `FILE`; one that is interrupted, to FILE.partial")
	flags.StringVar(&r.mdFile, "md", "", "write the report as Markdown to `FILE`")
	flags.StringVar(&r.artifacts, "artifacts", "", "keep the history of each failure in `DIR`, for judge")
	flags.Func("run", "only the properties whose ids match a regular `EXPRESSION`", r.setRun)
	flags.Func("seed", "repeat what the run with this `SEED` drew", r.setSeed)
	flags.Func("patience", "how long to wait for what should happen, `10s` or 1m", duration(&r.patience))
	flags.Func("soak", "let model/random run random schedules for so long, `10m` for example", duration(&r.soak))
	flags.Func("known", "`ID=LINK` of a property that is known to fail, and where that is written down; again for each", r.addKnown)
	flags.Func("since", "the `VERSION` of the suite to be held to; younger properties only warn", r.addSince)
	flags.BoolFunc("strict", "what cannot be exercised is a failure; -strict=ID,ID except for these", r.addStrict)
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				sayf(stdout, "%s\nFlags of conform:\n", usage)
				flags.SetOutput(stdout)
				flags.PrintDefaults()
			}
			return nil, err
		}
		if flags.NArg() == 0 {
			break
		}
		if r.url != "" {
			return nil, errors.New("two URLs were given; one run is about one backplane")
		}
		r.url, args = flags.Arg(0), flags.Args()[1:]
	}
	if r.url == "" {
		r.url = os.Getenv("BACKPLANE_URL")
	}
	if r.url == "" {
		return nil, errors.New("no URL: write backplane conform redis://127.0.0.1:6379 or nats://127.0.0.1:4222, or set BACKPLANE_URL")
	}
	return r, nil
}

func (r *request) setRun(text string) error {
	match, err := regexp.Compile(text)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(conformance.Properties(), func(p conformance.Property) bool { return match.MatchString(p.ID) }) {
		return errors.New("no property has such an id; docs/contract.md lists them")
	}
	r.match = match
	return nil
}

func (r *request) setSeed(text string) (err error) {
	if r.seed, err = strconv.ParseUint(text, 0, 64); err != nil || r.seed == 0 {
		return errors.New("a seed is a whole number that is not 0, as a run prints it: 0x51f3")
	}
	return nil
}

func duration(to *time.Duration) func(string) error {
	return func(text string) (err error) {
		if *to, err = time.ParseDuration(text); err != nil || *to <= 0 {
			return errors.New("it is a time with its unit: 10s, 1m")
		}
		return nil
	}
}

func (r *request) addKnown(text string) error {
	id, link, _ := strings.Cut(text, "=")
	if err := checkID(id); err != nil {
		return err
	}
	if u, err := url.Parse(link); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("a known failure has a link to where it is written down: " + id + "=https://example.org/issues/7")
	}
	r.known[id] = link
	r.options = append(r.options, conformance.Known(id, link))
	return nil
}

func (r *request) addSince(text string) error {
	r.options = append(r.options, conformance.Since(text))
	return nil
}

func (r *request) addStrict(text string) error {
	var except []string
	switch text {
	case "true":
	case "false":
		return nil
	default:
		except = strings.Split(text, ",")
	}
	for _, id := range except {
		if err := checkID(id); err != nil {
			return err
		}
	}
	r.strict = true
	r.options = append(r.options, conformance.Strict(except...))
	return nil
}

func checkID(id string) error {
	if !slices.ContainsFunc(conformance.Properties(), func(p conformance.Property) bool { return p.ID == id }) {
		return fmt.Errorf("%q is the id of no property; docs/contract.md lists them", id)
	}
	return nil
}
