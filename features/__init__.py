"""The physics: pure, vectorised functions from a serving request to seconds and bytes, all in SI units."""
