//go:build race

package hubkit_test

// raceDetector: a sync.Pool forgets at random under it, so allocations cannot be counted.
const raceDetector = true
