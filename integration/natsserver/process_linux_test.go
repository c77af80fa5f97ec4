package natsserver_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/gobackplane/backplane/integration/natsserver"
)

// processState is the letter that the kernel shows for the server's process, awaited until it is not running.
func processState(t *testing.T, s *natsserver.Process) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	for ; err == nil && t.Context().Err() == nil; status, err = os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid())) {
		_, rest, _ := bytes.Cut(status, []byte("State:"))
		if letter := strings.TrimSpace(string(rest))[:1]; letter != "S" && letter != "R" {
			return letter
		}
		runtime.Gosched()
	}
	t.Fatal(err)
	return ""
}
