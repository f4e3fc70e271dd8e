"""TensorFlow Serving over gRPC; imported only where a backend of that engine is configured."""
