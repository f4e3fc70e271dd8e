"""Straightforward Starlette relays, as tutorials write them: peers to be compared with, not code to build on."""
