package conformance

type world struct{}
