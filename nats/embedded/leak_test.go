package embedded

import (
	"testing"

	"github.com/gobackplane/backplane/internal/leaks"
)

// TestMain fails if a goroutine of this package or of NATS outlives the tests.
func TestMain(m *testing.M) { leaks.Main(m, "nats") }
