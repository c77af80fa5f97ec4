package conformance

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
)

// Goroutines inherit the profiler's labels of the goroutine that started them. So the suite knows whose a goroutine is,
// also while other properties and other tests run in the process.

const (
	labelKey   = "conformance"
	suiteLabel = "suite" // the suite's own goroutines; instances use their names
)

// labelled returns a context with the label of an owner in a world.
func labelled(ctx context.Context, world, owner string) context.Context {
	return pprof.WithLabels(ctx, pprof.Labels(labelKey, world+"/"+owner))
}

// underLabel runs f with the label of an owner. Afterwards the goroutine has the labels of ctx again.
func underLabel(ctx context.Context, world, owner string, f func()) {
	pprof.Do(ctx, pprof.Labels(labelKey, world+"/"+owner), func(context.Context) { f() })
}

// goroutines returns the stacks of the live goroutines whose label has a prefix, and how many there are.
func goroutines(prefix string) (count int, stacks string) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return 0, "" // a buffer takes everything
	}
	owned := fmt.Sprintf("%q:\"%s", labelKey, prefix)
	var out strings.Builder
	for block := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(block, owned) {
			continue
		}
		n := 0
		if line, _, found := strings.Cut(block, " @ "); found { // "3 @ 0x…": three goroutines with one stack
			_, _ = fmt.Sscan(line[strings.LastIndexByte(line, '\n')+1:], &n)
		}
		count += max(1, n)
		out.WriteString(block)
		out.WriteString("\n\n")
	}
	return count, out.String()
}
