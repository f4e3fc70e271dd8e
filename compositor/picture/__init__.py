"""Pictures as video wants them: planes of YUV, and a mouth blended into them."""
