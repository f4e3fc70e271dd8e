"""A stand-in for TensorFlow Serving: predictions and model states over gRPC, states over REST, too."""
