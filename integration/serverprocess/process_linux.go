package serverprocess

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// dieWithParent makes the kernel kill the server when the test process dies without running its cleanups.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// awaitStopped returns when a process that was sent SIGSTOP has stopped: the signal does not reach all its threads at once.
func awaitStopped(pid int) error {
	const pace = 100 * time.Microsecond
	for deadline := time.Now().Add(StartTimeout); time.Now().Before(deadline); time.Sleep(pace) {
		if stopped(pid) {
			return nil
		}
	}
	return fmt.Errorf("process %d runs %v after SIGSTOP", pid, StartTimeout)
}

// stopped reports whether none of a process's threads runs.
func stopped(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is good
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		_, state, _ := bytes.Cut(text, []byte(") ")) // it follows the thread's name
		if err == nil && !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return len(stats) > 0
}
