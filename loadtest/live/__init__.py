"""A real gateway under a simulator's load, scraped by a real Prometheus; and a chart of what that has to say."""
