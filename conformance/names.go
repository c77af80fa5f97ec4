package conformance

func namesProperties() []Property { return nil }
