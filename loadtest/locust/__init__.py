"""Locust users that read frames: SSE, WebSocket, resume, avatar signalling (docs/loadtest.md).

Locust patches the whole process as it is imported, so these modules are for a process of their own:
`python -m locust -f loadtest/locust/users.py`. Only `answer` and `signalling` are imported by anything else.
"""
