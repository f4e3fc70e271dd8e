"""TensorFlow Serving's REST prediction format: JSON in, tensors out, and back. Sans-I/O, without protobuf or numpy.

Row format `{"instances": […]}` → `{"predictions": […]}`, columnar `{"inputs": …}` → `{"outputs": …}`, both with
`signature_name`; binary values are `{"b64": "…"}`.
"""
