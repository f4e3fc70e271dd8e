"""Wire formats: events, SSE, OpenAI shapes, errors, ids, routing and state schemas."""
