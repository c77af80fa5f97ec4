//go:build !linux

package serverprocess

import "os/exec"

// dieWithParent does nothing here: a server may survive a test process that is killed.
func dieWithParent(*exec.Cmd) {}

// awaitStopped does nothing here: a process that was sent SIGSTOP may go on for a moment.
func awaitStopped(int) error { return nil }
