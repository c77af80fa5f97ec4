package serverprocess_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// When Freeze has returned the process does not run, and when Thaw has it does again, sooner or later.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	p := server(t, "touch ready; while :; do :; done")
	if err := p.TryRestart(); err != nil {
		t.Fatal(err)
	}
	stopped := func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(text, []byte(") T "))
	}
	for range 20 {
		p.Freeze()
		if !stopped() {
			t.Fatal("it runs")
		}
		p.Thaw()
		for stopped() {
			if t.Context().Err() != nil {
				t.Fatal("it does not run")
			}
		}
	}
}
