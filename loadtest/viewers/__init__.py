"""`headrace bench viewers`: a further viewer's cost at an edge, and at a server that encodes for each."""
