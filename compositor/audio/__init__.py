"""From samples to what a face needs: features, Opus packets, loudness, voice activity."""
