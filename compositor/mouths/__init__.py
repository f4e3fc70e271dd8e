"""The inference server, as the compositor sees it: features in, mouths out, and how it is."""
