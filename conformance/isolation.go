package conformance

func isolationProperties() []Property { return nil }
