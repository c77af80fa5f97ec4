package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gobackplane/backplane/conformance"
)

// tryFor is how long the broker may take to answer for the first time, if nothing else was said.
const tryFor = 10 * time.Second

// conform runs the suite over the backplane that a URL names.
func conform(ctx context.Context, args []string, stdout, stderr io.Writer) (status int, err error) {
	r, err := parse(args, stdout)
	if err != nil {
		return undone, err
	}
	t, err := newTarget(r.url)
	if err != nil {
		return undone, err
	}
	if t.options.Namespace != "" {
		sayf(stderr, "backplane: the namespace in the URL is not used; the suite draws its own, which begin with ct-\n")
	}
	progress := newProgress(stderr, r.verbose, r.count())
	open := conformance.Transport(t.transport, t.options)
	options := slices.Concat(r.suite(), t.hooks(), r.options, []conformance.Option{
		conformance.Subject(t.name, r.broker), conformance.Progress(progress.tell),
	})
	if r.soak != 0 {
		options = append(options, conformance.Soak(r.soak, progress.note))
	}
	if err = refused(ctx, open, options); err != nil {
		return undone, err
	}
	files, err := r.openFiles()
	if err != nil {
		return undone, err
	}
	if err = t.try(ctx, max(r.patience, tryFor)); err != nil {
		return undone, errors.Join(err, files.close())
	}
	report := conformance.Check(ctx, open, options...)
	progress.done()

	for _, result := range report.Results {
		if result.Verdict == conformance.Failed {
			r.explain(stdout, result)
		}
	}
	sayf(stdout, "%v\n%s\n", report.Head, report.Summary())
	if ctx.Err() != nil {
		err = files.writePartial(report)
	} else {
		err = files.write(report)
	}
	if err != nil {
		return undone, err
	}
	switch {
	case report.Count(conformance.Failed) > 0:
		return broken, nil
	case ctx.Err() != nil:
		return undone, errors.New("interrupted: the properties that are not exercised may hold or not")
	default:
		return held, nil
	}
}

// refused asks the suite for what is wrong with the options, by a run of no property.
func refused(ctx context.Context, open conformance.Opener, options []conformance.Option) error {
	none := conformance.Only(func(conformance.Property) bool { return false })
	return conformance.Check(ctx, open, append(slices.Clip(options), none)...).Err()
}

// suite returns the options that say what to run and how.
func (r *request) suite() []conformance.Option {
	var options []conformance.Option
	if r.short {
		options = append(options, conformance.Short())
	}
	if r.seed != 0 {
		options = append(options, conformance.Seed(r.seed))
	}
	if r.patience != 0 {
		options = append(options, conformance.Patience(r.patience))
	}
	if r.match != nil {
		options = append(options, conformance.Only(func(p conformance.Property) bool { return r.match.MatchString(p.ID) }))
	}
	if program, err := os.Executable(); err == nil {
		options = append(options, conformance.Child(func(id string) *exec.Cmd { return r.child(program, id) }))
	}
	return options
}

// child runs this program again for one property. The URL, which may hold a password, travels in the environment.
func (r *request) child(program, id string) *exec.Cmd {
	args := []string{"conform", "-run", exactly(id)}
	if r.short {
		args = append(args, "-short")
	}
	if r.patience != 0 {
		args = append(args, "-patience", r.patience.String())
	}
	cmd := exec.Command(program, args...) //nolint:noctx,gosec // it is this program itself; the suite ends it
	cmd.Env = append(os.Environ(), "BACKPLANE_URL="+r.url)
	return cmd
}

func exactly(id string) string { return "^" + regexp.QuoteMeta(id) + "$" }

// count is how many properties the run is about.
func (r *request) count() (n int) {
	for _, p := range conformance.Properties() {
		if r.match == nil || r.match.MatchString(p.ID) {
			n++
		}
	}
	return n
}

// explain tells a failure, and how to see it again. The URL is not repeated: it may hold a password.
func (r *request) explain(stdout io.Writer, result conformance.Result) {
	again := ""
	if r.short {
		again = " -short"
	}
	if r.soak != 0 && strings.HasPrefix(result.Property.ID, "model/") {
		again += " -soak 1s" // the seed's own schedule is the first of a soak
	}
	if r.strict {
		again += " -strict"
	}
	if link := r.known[result.Property.ID]; link != "" {
		again += " -known '" + result.Property.ID + "=" + link + "'"
	}
	if r.patience != 0 {
		again += " -patience " + r.patience.String()
	}
	sayf(stdout, "FAILED %s\n%v\n\n    Repeat: backplane conform%s -seed %#x -run '%s' URL\n",
		result.Property.ID, result.Err, again, result.Seed, exactly(result.Property.ID))
	if r.artifacts != "" {
		path := filepath.Join(r.artifacts, conformance.Anchor(result.Property.ID)+".jsonl")
		if err := writeHistory(path, result); err != nil {
			path = err.Error()
		}
		sayf(stdout, "    History: %s\n", path)
	}
	sayf(stdout, "\n")
}

func writeHistory(path string, result conformance.Result) error {
	f, err := os.Create(path) //nolint:gosec // where the user said
	if err != nil {
		return err
	}
	return errors.Join(result.WriteHistory(f), f.Close())
}

// files are where the report goes. They are opened before the run, so that a name that is wrong does not cost one, and
// keep what they hold until there is something new.
type files struct {
	of map[*os.File]func(*conformance.Report, io.Writer) error
}

func (r *request) openFiles() (files, error) {
	all := files{map[*os.File]func(*conformance.Report, io.Writer) error{}}
	for _, file := range []struct {
		name  string
		write func(*conformance.Report, io.Writer) error
	}{{r.jsonFile, (*conformance.Report).WriteJSON}, {r.mdFile, (*conformance.Report).WriteMarkdown}} {
		if file.name == "" {
			continue
		}
		f, err := os.OpenFile(file.name, os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // a report is for everybody
		if err != nil {
			return files{}, errors.Join(err, all.close())
		}
		all.of[f] = file.write
	}
	if r.artifacts != "" {
		if err := os.MkdirAll(r.artifacts, 0o755); err != nil { //nolint:gosec // the same
			return files{}, errors.Join(err, all.close())
		}
	}
	return all, nil
}

func (a files) write(report *conformance.Report) error {
	var errs []error
	for f, write := range a.of {
		var text strings.Builder
		errs = append(errs, write(report, &text), f.Truncate(0))
		_, err := io.WriteString(f, text.String())
		errs = append(errs, err)
	}
	return errors.Join(append(errs, a.close())...)
}

// writePartial writes the report of a run that was interrupted beside the files, with ".partial" at the end of their names: what
// they hold tells of a whole run.
func (a files) writePartial(report *conformance.Report) error {
	errs := []error{a.close()}
	for f, write := range a.of {
		var text strings.Builder
		errs = append(errs, write(report, &text),
			os.WriteFile(f.Name()+".partial", []byte(text.String()), 0o644)) //nolint:gosec // a report is for everybody
		if info, err := os.Stat(f.Name()); err == nil && info.Size() == 0 {
			errs = append(errs, os.Remove(f.Name())) // made by openFiles
		}
	}
	return errors.Join(errs...)
}

func (a files) close() error {
	var errs []error
	for f := range a.of {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
