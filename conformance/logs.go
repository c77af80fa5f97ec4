package conformance

import (
	"log/slog"
	"strings"
	"sync"
)

// logs keeps the newest lines that a world's instances logged.
type logs struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

const logLines = 30

// logger makes an instance's logger.
func (l *logs) logger(instance string) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, nil)).With("instance", instance)
}

// Write keeps a line.
func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == logLines {
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
