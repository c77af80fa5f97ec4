package conformance

func payloadProperties() []Property { return nil }
