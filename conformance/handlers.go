package conformance

func handlerProperties() []Property { return nil }
