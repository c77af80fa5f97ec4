package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// quiet is how often the same thing is logged about the same peer.
const quiet = time.Minute

// serverLog is the server's logger. The server calls it under its locks, so it calls nothing of the server. What is
// logged is that a peer was refused, which the server tells nowhere else; names of channels cannot be in that. All other
// lines of the server are dropped.
type serverLog struct {
	logger *slog.Logger
	failed chan error // the first thing that kept the server from listening for routes

	mu   sync.Mutex
	last map[string]time.Time // when a setting and peer were logged; guarded by mu
}

func newServerLog(logger *slog.Logger) *serverLog {
	return &serverLog{logger: logger, failed: make(chan error, 1), last: make(map[string]time.Time)}
}

// refused logs a refusal, not too often.
func (l *serverLog) refused(setting, peer, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for key, at := range l.last {
		if now.Sub(at) > quiet {
			delete(l.last, key)
		}
	}
	key := setting + "\n" + peer
	if _, told := l.last[key]; told {
		return
	}
	l.last[key] = now
	l.logger.LogAttrs(context.Background(), slog.LevelWarn, "nats/embedded: no route between this instance and a peer", slog.String("setting", setting),
		slog.String("peer", peer), slog.String("reason", text))
}

// about says which setting a line of the server about a refused route means. The server repeats the peer's user, which
// is none of ours where it is a stranger: lines are not shown, but for those about TLS.
func about(line string) (setting, reason string) {
	for _, r := range []struct{ has, setting, reason string }{
		{"duplicate name", "Name", "it has this instance's name; each needs its own"},
		{"authentication error", "Secret", "it has another secret"},
		{"cluster name", "Cluster", "it is of another cluster"},
		{"TLS route handshake error", "CertFile", "TLS failed"},
	} {
		if strings.Contains(line, r.has) {
			return r.setting, r.reason
		}
	}
	return "", ""
}

// Errorf takes lines that begin with "address - rid:5 - " where they are about a route.
func (l *serverLog) Errorf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	peer, rest, ok := strings.Cut(line, " - ")
	if !ok || !strings.HasPrefix(rest, "rid:") {
		return
	}
	if setting, reason := about(rest); setting != "" {
		if host, _, isAddr := cutPort(peer); isAddr { // the port is another one each time
			peer = host
		}
		if _, cause, ok := strings.Cut(rest, "TLS route handshake error: "); ok {
			reason += ": " + cause
		}
		l.refused(setting, peer, reason)
	}
}

func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// Fatalf is called where the server cannot listen, and for the impossible port of options.
func (l *serverLog) Fatalf(_ string, v ...any) {
	for _, arg := range v {
		if err, ok := arg.(error); ok && !strings.Contains(err.Error(), impossiblePort) {
			select {
			case l.failed <- err:
			default:
			}
		}
	}
}

// Noticef drops what is only of interest to who runs a server.
func (*serverLog) Noticef(string, ...any) {}

// Warnf drops warnings: about settings that this package has chosen.
func (*serverLog) Warnf(string, ...any) {}

// Debugf is not called.
func (*serverLog) Debugf(string, ...any) {}

// Tracef is not called.
func (*serverLog) Tracef(string, ...any) {}
