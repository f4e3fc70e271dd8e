"""A conformance suite for streaming gateways that speak the OpenAI wire format: anybody's."""
