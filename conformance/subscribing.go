package conformance

func subscribingProperties() []Property { return nil }
