"""A long run of mixed load over a real site: does anything grow, leak or lie?"""
