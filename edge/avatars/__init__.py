"""Avatar sessions: what the compositor sends, and who watches it.

`settings` is light. Everything else loads gRPC or protobuf, and is imported only where avatars are configured.
"""
