"""The HTTP server side: our uvicorn protocol class with the writer extension."""
