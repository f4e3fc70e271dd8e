"""Operations: metric catalogue, logging, settings, lifecycle, health."""
