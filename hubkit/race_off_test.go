//go:build !race

package hubkit_test

const raceDetector = false
