"""The control plane: answers "where to?" and never touches a token."""
