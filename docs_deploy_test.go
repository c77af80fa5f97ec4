package backplane_test

import (
	"regexp"
	"strings"
	"testing"
)

// The balancer's configuration that the documentation shows is the file that the ward board's test runs nginx with.
func TestDeployShowsTheNginxFileThatIsTested(t *testing.T) {
	const file = "examples/wardboard/nginx.conf"
	_, block, ok := strings.Cut(read(t, "docs/deploy.md"), "```nginx\n")
	block, _, ok2 := strings.Cut(block, "```\n")
	if !ok || !ok2 || block != read(t, file) {
		t.Errorf("the nginx configuration in docs/deploy.md is not %s", file)
	}
	if !strings.Contains(read(t, "integration/nginx_test.go"), "nginx.conf") {
		t.Errorf("no test runs nginx with %s", file)
	}
}

// So is the configuration of NATS servers.
func TestDeployShowsTheNATSFileThatIsTested(t *testing.T) {
	const file = "examples/wardboard/nats.conf"
	_, section, _ := strings.Cut(read(t, "docs/deploy.md"), "\n## A NATS cluster behind hub servers\n")
	_, block, ok := strings.Cut(section, "```\n")
	block, _, ok2 := strings.Cut(block, "```\n")
	if !ok || !ok2 || block != read(t, file) {
		t.Errorf("the configuration of NATS servers in docs/deploy.md is not %s", file)
	}
	if !strings.Contains(read(t, "integration/nats_deploy_test.go"), `"nats.conf"`) {
		t.Errorf("no test runs NATS servers with %s", file)
	}
}

// The paths that Kubernetes is told to probe are served by the example of a drain and by the ward board.
func TestDeployProbesPathsThatAreServed(t *testing.T) {
	_, manifest, _ := strings.Cut(read(t, "docs/deploy.md"), "```yaml\n")
	manifest, _, _ = strings.Cut(manifest, "```\n")
	paths := regexp.MustCompile(`path: (/[a-z/]+)`).FindAllStringSubmatch(manifest, -1)
	if len(paths) != 2 {
		t.Errorf("%d paths are probed, not 2", len(paths))
	}
	for _, program := range []string{"hubkit/example_drain_test.go", "examples/wardboard/instance.go"} {
		for _, path := range paths {
			if !strings.Contains(read(t, program), path[1]+`"`) {
				t.Errorf("%s does not serve %s", program, path[1])
			}
		}
	}
}
