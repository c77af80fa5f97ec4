package main

import (
	"io"
	"os"

	"github.com/gobackplane/backplane/conformance"
)

// progress tells of results while the run goes on: one line that changes on a terminal, one for each result with -v,
// nothing elsewhere.
type progress struct {
	to       io.Writer
	verbose  bool
	terminal bool

	of, judged, failed int
}

func newProgress(to io.Writer, verbose bool, of int) *progress {
	p := &progress{to: to, verbose: verbose, of: of}
	if f, ok := to.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

const clearLine = "\r\x1b[K"

// tell tells of one result; the suite calls it one at a time.
func (p *progress) tell(r conformance.Result) {
	p.judged++
	if r.Verdict == conformance.Failed {
		p.failed++
	}
	switch {
	case p.verbose:
		sayf(p.to, "%3d/%d  %-13v  %s (%.2f s)\n", p.judged, p.of, r.Verdict, r.Property.ID, r.Took.Seconds())
	case p.terminal:
		sayf(p.to, "%s%d of %d judged, %d failed: %s", clearLine, p.judged, p.of, p.failed, r.Property.ID)
		if p.judged == p.of {
			sayf(p.to, "%s", clearLine)
		}
	}
}

// note tells how a soak goes on: many minutes without a word would look like a hang.
func (p *progress) note(line string) {
	if p.terminal {
		line = clearLine + line
	}
	sayf(p.to, "%s\n", line)
}

// done ends the line that changes.
func (p *progress) done() {
	if p.terminal && !p.verbose && p.judged != p.of {
		sayf(p.to, "\n")
	}
}
