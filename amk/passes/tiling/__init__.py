"""Building blocks of `lower-to-tiles`."""
