"""Mouth regions from audio and pictures: models loaded on demand, placed on devices, run in small batches."""
