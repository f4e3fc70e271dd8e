"""The load side: a backend and a client process that share one core and leave the other to the gateway."""
