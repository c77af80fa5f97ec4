// Package backplane carries messages between the instances of a hub server.
package backplane
