package natsserver

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// log keeps the end of what a server in this process says, for tests that fail. It is a [server.Logger].
type log struct {
	mu    sync.Mutex
	lines []string // guarded by mu
	fatal func()   // called at the first fatal error; guarded by mu
}

func (l *log) onFatal(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = f
}

func (l *log) add(level, format string, args []any) {
	const most = 200
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == most {
		l.lines = append(l.lines[:0], l.lines[most/2:]...)
	}
	l.lines = append(l.lines, time.Now().Format("15:04:05.000 ")+level+" "+fmt.Sprintf(format, args...))
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *log) Noticef(format string, v ...any) { l.add("[INF]", format, v) }
func (l *log) Warnf(format string, v ...any)   { l.add("[WRN]", format, v) }
func (l *log) Errorf(format string, v ...any)  { l.add("[ERR]", format, v) }
func (l *log) Debugf(string, ...any)           {}
func (l *log) Tracef(string, ...any)           {}

// Fatalf is where the server's library expects the process to end.
func (l *log) Fatalf(format string, v ...any) {
	l.add("[FTL]", format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal != nil {
		l.fatal()
		l.fatal = nil
	}
}
