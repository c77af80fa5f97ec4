package natsserver

import "testing"

// Cluster is a full mesh of servers in this process, whose routes can be cut.
type Cluster struct {
	mesh

	Servers []*Server
}

// StartCluster starts n servers and returns when each has its routes to all others. They stop when the test ends. All have the
// same options.
func StartCluster(t testing.TB, n int, o Options) *Cluster {
	t.Helper()
	c := &Cluster{}
	c.start(t, n, o, func() member {
		s := newServer(t, o)
		c.Servers = append(c.Servers, s)
		return s
	})
	return c
}

// Stop ends all servers.
func (c *Cluster) Stop() {
	for _, s := range c.Servers {
		s.Stop()
	}
}

// TryRestart starts all servers again, and returns when they are a cluster.
func (c *Cluster) TryRestart() error { return c.again() }

// Processes is a full mesh of nats-server processes, whose routes can be cut.
type Processes struct {
	mesh

	Servers []*Process
}

// StartProcesses is StartCluster for servers that are processes: they are killed when the test ends.
func StartProcesses(t testing.TB, n int, o Options) *Processes {
	t.Helper()
	c := &Processes{}
	c.start(t, n, o, func() member {
		s := newProcess(t, o)
		c.Servers = append(c.Servers, s)
		return s
	})
	return c
}

// Kill ends all servers with SIGKILL.
func (c *Processes) Kill() {
	for _, s := range c.Servers {
		s.Kill()
	}
}

// TryRestart starts all servers again, after killing those that run, and returns when they are a cluster.
func (c *Processes) TryRestart() error { return c.again() }
