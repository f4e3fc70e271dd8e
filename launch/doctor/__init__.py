"""`headrace doctor`: what about this machine and its neighbours would keep a gateway from working, and what to do."""
