// Package leaks fails the tests of a package that leave goroutines behind.
package leaks

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Runner is a *testing.M.
type Runner interface{ Run() int }

// Main is a TestMain: it runs the tests, and fails if a goroutine outlives them whose stack holds a word, the name of a
// package or of a library. It does not return.
func Main(m Runner, word string) {
	code := m.Run()
	if code == 0 {
		if left := after(word); left != "" {
			_, _ = fmt.Fprintln(os.Stderr, "goroutines outlive the tests:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// after returns the stacks of goroutines that should have ended, after giving them some time to.
func after(word string) string {
	const patience, look, most = 5 * time.Second, 10 * time.Millisecond, 1 << 20
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		buf := make([]byte, most)
		var left []string
		for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
			if strings.Contains(stack, word) && !strings.Contains(stack, "testing.(*F)") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return ""
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return strings.Join(left, "\n\n")
		}
	}
}
