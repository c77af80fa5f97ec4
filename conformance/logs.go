package conformance

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// logs keeps what a world's instances logged, within bounds: a backplane that logs in a loop must not bury its failure.
type logs struct {
	start time.Time

	mu    sync.Mutex
	lines []logLine // guarded by mu
}

// logLine is a line and when it came.
type logLine struct {
	at   time.Duration
	text string
}

const (
	logLines = 2000 // kept
	logShown = 12   // shown with a failure
	logWidth = 240  // bytes of a line
)

// logger makes an instance's logger. Its lines begin like those of a timeline, with the time since the property began.
func (l *logs) logger(instance string) *slog.Logger {
	noTime := func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(instanceLog{l, instance}, &slog.HandlerOptions{ReplaceAttr: noTime}))
}

// instanceLog is where an instance's logger writes to.
type instanceLog struct {
	to       *logs
	instance string
}

func (i instanceLog) Write(line []byte) (int, error) {
	i.to.add(fmt.Sprintf("%-3s %s", i.instance, line))
	return len(line), nil
}

// Write keeps a line that is of no instance.
func (l *logs) Write(line []byte) (int, error) {
	l.add(string(line))
	return len(line), nil
}

func (l *logs) add(text string) {
	text = strings.TrimSuffix(text, "\n")
	if len(text) > logWidth {
		text = strings.ToValidUTF8(text[:logWidth], "") + "…"
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "?")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == logLines {
		l.lines = append(l.lines[:0], l.lines[logLines/2:]...) // the older half goes
	}
	l.lines = append(l.lines, logLine{time.Since(l.start), text})
}

// String returns the newest lines.
func (l *logs) String() string { return l.until(1<<63 - 1) }

// until returns the newest lines that had come by then; a line that repeats the one above it is counted.
func (l *logs) until(then time.Duration) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var shown []string
	var last string
	repeats := 0
	add := func(line logLine) {
		if line.text == last && len(shown) > 0 {
			repeats++
			return
		}
		if repeats > 0 {
			shown = append(shown, fmt.Sprintf("           (that %d more times)", repeats))
		}
		repeats, last = 0, line.text
		shown = append(shown, fmt.Sprintf("%9.4f  %s", line.at.Seconds(), line.text))
	}
	for _, line := range l.lines {
		if line.at <= then {
			add(line)
		}
	}
	add(logLine{})
	shown = shown[:len(shown)-1]
	return strings.Join(shown[max(0, len(shown)-logShown):], "\n")
}
