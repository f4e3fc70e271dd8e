"""A small gateway that passes every case, with one switch for each case that breaks exactly that.

It proves that the cases can fail. It is no gateway to run: one model, no TLS, and simple where speed would matter.
"""
