"""Services beside the GPUs: the arbiter and the inference server."""
