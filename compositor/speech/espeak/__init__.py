"""espeak-ng, a GPL-3.0 program of its own that this one only talks to."""
