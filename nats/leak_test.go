package nats

import (
	"testing"

	"github.com/gobackplane/backplane/internal/leaks"
)

// TestMain fails if a goroutine of this package or of nats.go outlives the tests.
func TestMain(m *testing.M) { leaks.Main(m, "nats") }
